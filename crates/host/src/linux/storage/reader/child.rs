//! The process that reads: what it does before its one job, and the job.

use std::env;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use nix::libc;
use volume::{Access, Parts, Volume};

use super::{Answer, Job, KernelFacts, LARGEST_FILE, MEMORY, MOST_FILES, MOST_WORDS, SECONDS, Told, USER};
use crate::linux::storage::boot::{self, Disk, RawDisk};
use crate::linux::storage::kernel;
use crate::linux::sys::confine::{Call, ConfineError, Confinement, USUAL, allow_only};
use crate::linux::sys::frames::{self, Frames};

/// What it asks the kernel for besides the usual: reading and writing the files it was given, and their sizes.
const FILES: &[Call] = &[
    Call::Any(libc::SYS_fstat),
    Call::Any(libc::SYS_lseek),
    Call::Any(libc::SYS_newfstatat),
    Call::Any(libc::SYS_pread64),
    Call::Any(libc::SYS_preadv),
    Call::Any(libc::SYS_pwrite64),
    Call::Any(libc::SYS_statx),
];

/// Does one job, as a process of its own whose standard input is a socket with the job.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // nobody listens
    }
}

fn serve() -> io::Result<()> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let answer = match confine() {
        Err(error) => Answer::Failed(Told::new(&error, false)),
        Ok(()) => match Frames::new(stream.try_clone()?, MOST_WORDS, MOST_FILES).next(None)? {
            None => return Ok(()),
            Some((job, files)) => work(serde_json::from_slice(&job)?, files),
        },
    };
    frames::send(&stream, &serde_json::to_vec(&answer)?, &[])
}

fn confine() -> Result<(), ConfineError> {
    let confinement = Confinement {
        user: env::var(USER).ok().and_then(|user| user.parse().ok()).unwrap_or_default(),
        network: false,
        bound: true,
        memory: MEMORY,
        largest_file: LARGEST_FILE,
        descriptors: 32,
        seconds: Some(SECONDS),
    };
    confinement.enter()?;
    allow_only(&[USUAL, FILES])
}

/// Does a job with the files that came with it.
pub(in crate::linux::storage) fn work(job: Job, files: Vec<OwnedFd>) -> Answer {
    let files: Vec<File> = files.into_iter().map(File::from).collect();
    let missing = || Answer::Failed(Told::new(&io::Error::from(ErrorKind::NotFound), false));
    match job {
        Job::RawDisk(bytes) => match <[File; 3]>::try_from(files) {
            Ok([file, kernel, initrd]) => find(Arc::new(RawDisk { file, bytes }), &kernel, &initrd),
            Err(_) => missing(),
        },
        Job::Volume => {
            let mut files = files;
            let (Some(initrd), Some(kernel)) = (files.pop(), files.pop()) else { return missing() };
            let mut files = files.into_iter();
            let (Some(data), Some(map), base) = (files.next(), files.next(), files.next()) else {
                return missing();
            };
            match Volume::open(Parts { data, map, base }, Access::Read) {
                Ok(volume) => find(Arc::new(volume), &kernel, &initrd),
                Err(error) => Answer::Failed(Told::new(&error, false)),
            }
        }
        Job::Kernel | Job::Unpack => match &files[..] {
            [kernel] => look_at_kernel(kernel, None),
            [kernel, to] => look_at_kernel(kernel, Some(to)),
            _ => missing(),
        },
    }
}

fn find(disk: Arc<dyn Disk>, kernel: &File, initrd: &File) -> Answer {
    match boot::read(&disk, kernel, initrd) {
        Ok(found) => Answer::Found(found),
        Err(error) => Answer::Failed(Told::new(&error, error.is_lasting())),
    }
}

fn look_at_kernel(file: &File, to: Option<&File>) -> Answer {
    let looked = kernel::recognise(file).and_then(|facts| {
        let packed = to.zip(facts.packed.clone());
        let unpacked = packed.map_or(Ok(false), |(to, range)| kernel::unpack(file, range, to))?;
        Ok(KernelFacts { architecture: facts.architecture, release: facts.release, unpacked })
    });
    match looked {
        Ok(facts) => Answer::Kernel(facts),
        Err(error) => Answer::Failed(Told::new(&error, error.is_lasting())),
    }
}
