//! The disk on its way: a request's body that is read bit by bit, no faster than the daemon takes it.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// Bytes that are read at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks that may wait to be sent.
const CHUNKS: usize = 4;
/// How long to wait to be asked for the body. A server may never ask (RFC 9110, 10.1.1), so then it is sent anyhow.
const UNASKED: Duration = Duration::from_secs(2);

/// A disk as the body of a request.
pub(super) struct Disk {
    /// Ends when the body may be sent.
    asked: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    chunks: mpsc::Receiver<Bytes>,
    left: u64,
    sent: Arc<AtomicU64>,
}

/// What is left to whoever sends a [`Disk`].
pub(super) struct Sending {
    /// To be told when the daemon asks for the body.
    pub(super) asked: Arc<Notify>,
    sent: Arc<AtomicU64>,
    reader: JoinHandle<io::Result<()>>,
}

impl Sending {
    /// Bytes that were given to the connection.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Why the disk could not be read to its end, if that is so.
    pub(super) async fn failed(self) -> Option<io::Error> {
        self.reader.await.ok().and_then(Result::err)
    }
}

impl Disk {
    /// The first `length` bytes of what is read.
    pub(super) fn of(source: impl Read + Send + 'static, length: u64) -> (Self, Sending) {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let (notify, sent) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let reader = spawn_blocking(move || read(source, length, &sender));
        let asked = Arc::clone(&notify);
        let wait = Box::pin(async move {
            let _ = timeout(UNASKED, asked.notified()).await;
        });
        let disk = Self { asked: Some(wait), chunks, left: length, sent: Arc::clone(&sent) };
        (disk, Sending { asked: notify, sent, reader })
    }
}

/// Reads until all is read, or nobody wants more.
fn read(mut source: impl Read, length: u64, chunks: &mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        let read = source.read(&mut chunk)?;
        if read == 0 {
            return Err(shorter());
        }
        chunk.truncate(read);
        left -= read as u64;
        if chunks.blocking_send(chunk.into()).is_err() {
            break;
        }
    }
    Ok(())
}

/// Of a file that ends before its time.
pub(super) fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it has become shorter meanwhile")
}

impl Body for Disk {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(asked) = &mut this.asked {
            ready!(asked.as_mut().poll(context));
            this.asked = None;
        }
        if this.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(this.chunks.poll_recv(context)) {
            Some(chunk) => {
                this.left = this.left.saturating_sub(chunk.len() as u64);
                this.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                Ok(Frame::data(chunk))
            }
            // The reader has given up, and knows why.
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
