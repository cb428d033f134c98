//! `cumulet image import`: sends a disk to the daemon, which registers it as an image.
//!
//! ```text
//!   this program                                   cumuletd
//!   PUT /_cumulet/images?name=…   ── head ──▶      verifies, announces the image, or refuses
//!                                 ◀── 100 ───      "send it"
//!                                 ── disk ──▶
//!                                 ◀── 200 ───      lines of JSON: progress, at last the image or an error
//! ```
//!
//! The disk is sent only when the daemon asks for it, so a refusal costs no upload and does not get lost in one.

mod answer;
mod body;
mod holes;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{EXPECT, HeaderValue};
use hyper::{Request, Response, StatusCode};
use indicatif::HumanBytes;
use tokio::time::interval;

use self::answer::{Answer, AnswerError, Line};
use self::body::{Disk, Sending};
use self::holes::Clusters;
use crate::client::{CallError, Client};
use crate::failure::{Failure, Remedy};
use crate::output::{Cell, Format, next, note};
use crate::progress::Progress;
use crate::shell::Shell;

/// How often the display is brought up to date while the disk is sent.
const TICK: Duration = Duration::from_millis(100);
/// What the display calls the daemon's work where the daemon does not name it.
const REGISTERING: &str = "Registering";

const EXAMPLES: &str = "\
Examples:
  cumulet image import tiny.qcow2 --name tiny
  cumulet image import disk.raw --name debian --description 'Debian 12'

Holes of a raw disk are not sent; qcow2 is sent as it is stored.";

/// Which disk, as what.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The disk, raw or qcow2: GPT with an ext4 root that has its kernel in /boot
    file: PathBuf,
    /// The image's name
    #[arg(long, short)]
    name: String,
    /// What it is
    #[arg(long, short)]
    description: Option<String>,
}

/// Why the disk is no image.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    /// The file cannot be read.
    #[error("Could not read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is a folder, a device, or empty.
    #[error("{} is not a file with something in it", path.display())]
    NotADisk { path: PathBuf },
    /// The daemon refuses, or cannot be asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What the daemon says about the import cannot be followed to its end.
    #[error("It is not known whether the import succeeded")]
    Answer(#[from] AnswerError),
}

impl Remedy for ImportError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::NotADisk { .. } => {
                Some("copy a device into a file first: cp --sparse=always DEVICE disk.raw".to_owned())
            }
            Self::Call(error) => error.hint(),
            Self::Answer(_) => Some("look whether the image is available: cumulet images".to_owned()),
        }
    }
}

/// Sends it, and waits until it is an image.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: Format) -> Result<(), Failure> {
    let (disk, length) = open(&arguments.file)?;
    let image_id = import(arguments, client, disk, length).await?;
    output.made(&image_id, &vec![("id", Cell::from(&*image_id)), ("name", Cell::from(&*arguments.name))])?;
    next(&format!("cumulet run {} --wait", Shell::Sh.quote(&arguments.name)));
    Ok(())
}

/// What is sent of the file, and how many bytes that is. A pipe has no length to announce, so only files will do.
fn open(path: &Path) -> Result<(Box<dyn Read + Send>, u64), ImportError> {
    let read = |source| ImportError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read)?;
    let facts = file.metadata().map_err(read)?;
    if !facts.is_file() || facts.len() == 0 {
        return Err(ImportError::NotADisk { path: path.to_owned() });
    }
    let mut magic = [0; 4];
    let is_raw = file.read_exact_at(&mut magic, 0).is_err() || magic != holes::MAGIC;
    if is_raw {
        let clusters = Clusters::of(&file, facts.len()).map_err(read)?;
        let length = clusters.length();
        if length < facts.len() {
            let (whole, sent) = (HumanBytes(facts.len()), HumanBytes(length));
            note(&format!("{} has {whole}, {sent} of them without its holes.", path.display()));
            return Ok((Box::new(clusters.read(file)), length));
        }
        // Looking for holes moved it.
        file.rewind().map_err(read)?;
    }
    Ok((Box::new(file), facts.len()))
}

/// The id of the image.
async fn import(
    arguments: &Arguments,
    client: &Client,
    disk: Box<dyn Read + Send>,
    length: u64,
) -> Result<String, ImportError> {
    let (disk, sending) = Disk::of(disk, length);
    let mut progress = Progress::new();
    let target = target(&arguments.name, arguments.description.as_deref());
    match send(client, &target, disk, &sending, &mut progress, length).await {
        Ok(answer) => follow(Answer::new(answer.into_body()), &sending, &mut progress, length).await,
        // A disk that cannot be read breaks the connection off; the cause is told, not that.
        Err(error @ CallError::BrokeOff { .. }) => Err(match sending.failed().await {
            Some(source) => ImportError::Read { path: arguments.file.clone(), source },
            None => error.into(),
        }),
        Err(error) => Err(error.into()),
    }
}

fn target(name: &str, description: Option<&str>) -> String {
    let description = description.map(|description| ("description", description));
    format!("/_cumulet/images?{}", ec2::query::form([("name", name)].into_iter().chain(description)))
}

/// Sends the disk, as soon as the daemon asks for it, until the daemon answers.
async fn send(
    client: &Client,
    target: &str,
    disk: Disk,
    sending: &Sending,
    progress: &mut Progress,
    length: u64,
) -> Result<Response<Incoming>, CallError> {
    let asked = Arc::clone(&sending.asked);
    let expect = move |request: &mut Request<Disk>| {
        request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                asked.notify_one();
            }
        });
    };
    let mut answer = Box::pin(client.upload(target, expect, disk));
    let mut tick = interval(TICK);
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = tick.tick() => uploading(progress, sending, length),
        }
    }
}

fn uploading(progress: &mut Progress, sending: &Sending, length: u64) {
    if sending.sent() > 0 {
        progress.show("Uploading", sending.sent(), length);
    }
}

/// Shows how the daemon gets on, until it says how it ended.
async fn follow(
    mut answer: Answer,
    sending: &Sending,
    progress: &mut Progress,
    length: u64,
) -> Result<String, ImportError> {
    let mut tick = interval(TICK);
    loop {
        // The daemon may begin to speak while it is still being sent to; then the sending is what is shown.
        let sent = sending.sent() >= length;
        tokio::select! {
            line = answer.next() => match line? {
                Line::Progress { done, total, step } if sent => {
                    progress.show(step.as_deref().unwrap_or(REGISTERING), done, total);
                }
                Line::Progress { .. } => {}
                Line::Image(id) => return Ok(id),
                Line::Error { code, message } => {
                    return Err(CallError::Refused(ec2::Error::new(400, code, message)).into());
                }
            },
            _ = tick.tick(), if !sent => uploading(progress, sending, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        assert_eq!(target("tiny", None), "/_cumulet/images?name=tiny");
        assert_eq!(target("a b&c", Some("é")), "/_cumulet/images?name=a%20b%26c&description=%C3%A9");
    }

    #[test]
    fn only_files_with_something_in_them_will_do() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(open(folder.path()), Err(ImportError::NotADisk { .. })));
        let empty = folder.path().join("empty");
        File::create(&empty).unwrap();
        assert!(matches!(open(&empty), Err(ImportError::NotADisk { .. })));
        assert!(matches!(open(&folder.path().join("none")), Err(ImportError::Read { .. })));
        std::fs::write(&empty, "disk").unwrap();
        assert_eq!(open(&empty).unwrap().1, 4);
    }
}
