//! Each target for a short while: its corpus, and what is made of it, the same every time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fuzz::mutation::Mutator;
use fuzz::{TARGETS, Target};

/// Inputs that are made for each target.
const INPUTS: usize = 3000;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Runs a target; a panic in a thread that nobody joins counts too.
fn run(name: &str) {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.store(true, Ordering::SeqCst);
        usual(panic);
    }));
    let (_, target): (_, Target) = *TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let mut mutator = Mutator::new(1, corpus.clone());
    let made = (0..INPUTS).map(|_| mutator.make());
    for (number, input) in corpus.into_iter().chain(made).enumerate() {
        target(&input);
        assert!(!PANICKED.load(Ordering::SeqCst), "{name}: input {number} panics: {input:02x?}");
    }
}

#[test]
fn api() {
    run("api");
}

#[test]
fn boot() {
    run("boot");
}

#[test]
fn machine() {
    run("machine");
}

#[test]
fn registers() {
    run("registers");
}

#[test]
fn ring() {
    run("ring");
}

#[test]
fn services() {
    run("services");
}

#[test]
fn sockets() {
    run("sockets");
}
