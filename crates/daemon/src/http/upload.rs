//! `PUT /_cumulet/images?name=…`: a disk becomes an image.
//!
//! ```text
//!   announced (pending) ──▶ disk received into a nameless file ──▶ host takes it in ──▶ available
//!            └───────────────── anything fails ─────────────────────────────────────▶ given up
//! ```
//!
//! The answer begins when the disk has arrived: lines of JSON, `{"progress":{"done":…,"total":…}}` while the
//! host works, and at last `{"image":"ami-…"}` or `{"error":{"code":…,"message":…}}`. The work goes on to its
//! end though the client hangs up after the disk has arrived.

use std::fs::File;
use std::sync::Arc;

use cloud::rules::images::{self, NewImage};
use ec2::Error;
use ec2::sign::Payload;
use host::ErrorKind;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};
use serde_json::json;
use spec::ids::ImageId;
use spec::storage::ImageFacts;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{Answer, Server};
use crate::api;

/// Bytes of a disk at most: 16 TiB, as large as a volume can be.
const MAX_BYTES: u64 = 16 << 40;
/// Progress lines that may wait for a slow client; further ones are left out.
const LINES: usize = 16;

/// Takes the upload.
pub(super) async fn image(server: &Server, request: Request<Incoming>) -> Result<Answer, Error> {
    let (head, body) = request.into_parts();
    server.verify(&head, Payload::Unsigned, ec2::Service::Ec2)?;
    let new = asked(head.uri.query().unwrap_or_default())?;
    if body.size_hint().exact().is_none_or(|bytes| bytes == 0 || bytes > MAX_BYTES) {
        let text = "An upload needs a Content-Length from 1 byte to 16 TiB";
        return Err(Error::new(400, "InvalidParameterValue", text));
    }
    let begun = server.store.transact(move |tx| images::begin_import(tx, new)).await;
    let (image, _) = begun.map_err(api::undone)?;
    let import = Import { server: server.clone(), image };
    // A task of its own, so that a client that hangs up does not leave the import half way.
    let received = tokio::spawn(async move { import.receive(body).await }).await;
    let (import, disk) = received.map_err(|_| Error::internal_error())??;
    let (lines, answer) = Channel::new(LINES);
    tokio::spawn(import.finish(disk, lines));
    let mut answer = Response::new(answer.boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(answer)
}

fn asked(query: &str) -> Result<NewImage, Error> {
    let (mut name, mut description) = (None, String::new());
    for pair in ec2::percent::form_pairs(query.as_bytes()) {
        let (key, value) =
            pair.map_err(|_| Error::new(400, "InvalidQueryParameter", "The query string is malformed"))?;
        match &*key {
            "name" => name = Some(value),
            "description" => description = value,
            other => {
                return Err(Error::new(
                    400,
                    "UnknownParameter",
                    format!("The parameter {other} is not recognized"),
                ));
            }
        }
    }
    let name = name.ok_or_else(|| Error::missing_parameter("name"))?;
    Ok(NewImage { name, description, tags: cloud::model::Tags::new() })
}

/// An import that was announced.
struct Import {
    server: Server,
    image: ImageId,
}

impl Import {
    /// Takes the disk in, or gives the import up.
    async fn receive(self, body: Incoming) -> Result<(Self, File), Error> {
        match self.store_body(body).await {
            Ok(disk) => Ok((self, disk)),
            Err(error) => {
                self.give_up().await;
                Err(error)
            }
        }
    }

    async fn store_body(&self, mut body: Incoming) -> Result<File, Error> {
        let host = Arc::clone(&self.server.host);
        let staged =
            spawn_blocking(move || host.staging_file()).await.map_err(|_| Error::internal_error())?;
        let file = staged.map_err(|error| failed(&error))?;
        let mut file = tokio::fs::File::from_std(file);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Error::new(400, "IncompleteBody", "The upload broke off"))?;
            if let Ok(data) = frame.into_data() {
                file.write_all(&data).await.map_err(|error| no_room(&error))?;
            }
        }
        file.flush().await.map_err(|error| no_room(&error))?;
        Ok(file.into_std().await)
    }

    /// Has the host take the disk in, and tells the client how that goes.
    async fn finish(self, disk: File, mut lines: Sender<Bytes>) {
        let last = match self.take_in(disk, &mut lines).await {
            Ok(()) => json!({ "image": self.image }),
            Err(error) => {
                self.give_up().await;
                json!({ "error": { "code": error.code(), "message": error.message() } })
            }
        };
        // The client may be gone; the image stands or not all the same.
        let _ = lines.send_data(line(&last)).await;
    }

    async fn take_in(&self, disk: File, lines: &mut Sender<Bytes>) -> Result<(), Error> {
        let (told, mut progress) = tokio::sync::mpsc::channel(LINES);
        let (host, image) = (Arc::clone(&self.server.host), self.image);
        let work = spawn_blocking(move || {
            host.import_image(image, disk, &mut |done, total| {
                // A client that reads slowly misses some.
                let _ = told.try_send((done, total));
            })
        });
        while let Some((done, total)) = progress.recv().await {
            let _ = lines.send_data(line(&json!({ "progress": { "done": done, "total": total } }))).await;
        }
        let facts = work.await.map_err(|_| Error::internal_error())?.map_err(|error| failed(&error))?;
        self.make_available(facts).await
    }

    async fn make_available(&self, facts: ImageFacts) -> Result<(), Error> {
        let image = self.image;
        info!(
            "{image}: imported, {} bytes, kernel {}",
            facts.bytes,
            facts.kernel.as_deref().unwrap_or("unknown")
        );
        let finished = self.server.store.transact(move |tx| images::finish_import(tx, image, &facts)).await;
        finished.map(|_| ()).map_err(api::undone)
    }

    async fn give_up(&self) {
        let image = self.image;
        let abandon = move |tx: &mut cloud::Tx<'_>| {
            images::abandon_import(tx, image);
            Ok::<_, cloud::Refusal>(())
        };
        if let Err(error) = self.server.store.transact(abandon).await {
            // The next start gives up every import that is still pending.
            warn!("{image}: could not note that its import was given up: {error}");
        }
    }
}

fn line(value: &serde_json::Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

/// What the client is told when the host cannot take its disk.
fn failed(error: &host::Error) -> Error {
    match error.kind {
        ErrorKind::Lasting => Error::new(400, "InvalidDiskImage", error.chain()),
        ErrorKind::Unsupported => Error::unsupported_operation(error.chain()),
        _ => {
            warn!("an import failed: {}", error.chain());
            Error::internal_error()
        }
    }
}

fn no_room(error: &std::io::Error) -> Error {
    warn!("could not write an upload: {error}");
    Error::new(400, "InsufficientDiskSpace", format!("The host could not store the upload: {error}"))
}
