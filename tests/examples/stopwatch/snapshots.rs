//! Monitors asked to write their guest down, and to go on with it: ours by its control socket, Firecracker by the HTTP of its
//! API (its `docs/snapshotting/snapshot-support.md`). Both end up as two files in one folder, `state` and `memory`.

use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use spec::control::Request;
use spec::machine::descriptors as names;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::{Running, begin, wait_for};

/// Until a monitor listens; only a fault takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// `save KIND SOCKET FOLDER WORD COMMAND…`: starts a monitor, and when its guest has said the word has it written down in the
/// folder, by way of the socket at which it listens.
pub(crate) fn save(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [kind, socket, folder, word, program, rest @ ..] = arguments else {
        return Err("usage: stopwatch save KIND SOCKET FOLDER WORD COMMAND…".into());
    };
    let mut running = Running(Vec::new());
    let mut output = begin(&mut running, Command::new(program).args(rest))?;
    wait_for(&mut output, word)?;
    // The guest goes on talking until it is stopped.
    std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
    match kind.as_str() {
        "cumulet" => save_ours(socket, Path::new(folder))?,
        "firecracker" => {
            ask(socket, "PATCH /vm", r#"{"state":"Paused"}"#)?;
            let files = format!(r#""snapshot_path":"{folder}/state","mem_file_path":"{folder}/memory""#);
            ask(socket, "PUT /snapshot/create", &format!(r#"{{"snapshot_type":"Full",{files}}}"#))?;
            return Ok(());
        }
        _ => return Err(format!("no way to save a guest of {kind} is known").into()),
    }
    // It ends when all is written.
    let ended = running.0.first_mut().map(|child| child.wait()).transpose()?;
    if ended.is_some_and(|status| status.success()) { Ok(()) } else { Err("the guest was not saved".into()) }
}

fn save_ours(socket: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let files = ["state", "memory"].map(|name| File::create_new(folder.join(name)));
    let [state, memory] = files;
    let (state, memory) = (state?, memory?);
    let descriptors = [names::SAVED_STATE, names::SAVED_MEMORY].map(str::to_owned).to_vec();
    let line = serde_json::to_string(&Request::Save { end: true, descriptors })? + "\n";
    connect(socket)?.send_with_fds(&[line.as_bytes()], &[state.as_raw_fd(), memory.as_raw_fd()])?;
    Ok(())
}

/// Has a Firecracker that was just started go on with what is in the folder.
pub(crate) fn load(socket: &str, folder: &str) -> Result<(), Box<dyn Error>> {
    let memory = format!(r#"{{"backend_type":"File","backend_path":"{folder}/memory"}}"#);
    let body = format!(r#"{{"snapshot_path":"{folder}/state","mem_backend":{memory},"resume_vm":true}}"#);
    ask(socket, "PUT /snapshot/load", &body)
}

fn ask(socket: &str, what: &str, body: &str) -> Result<(), Box<dyn Error>> {
    let mut stream = connect(socket)?;
    let (kind, len) = ("application/json", body.len());
    write!(
        stream,
        "{what} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\r\n{body}"
    )?;
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..count]);
    if answer.starts_with("HTTP/1.1 204") { Ok(()) } else { Err(format!("{what}: {answer}").into()) }
}

/// Connects as soon as somebody listens.
fn connect(socket: &str) -> io::Result<UnixStream> {
    let begin = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
                    && begin.elapsed() < PATIENCE =>
            {
                std::thread::yield_now();
            }
            connected => return connected,
        }
    }
}
