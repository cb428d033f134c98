//! What a guest or a client may send, made up: one function for each thing that listens.
//!
//! A target takes bytes, makes of them what a guest or client would send, and lets the real code meet it. It fails by
//! panicking, in any thread, or by never ending. `scripts/fuzz` runs one with libFuzzer, which learns from coverage; the
//! test in `tests/short.rs` runs all of them over the corpus and what a small [`mutation::Mutator`] makes of it.
//!
//! ```text
//! guest   ring       descriptors, available and used rings anywhere in memory
//!         machine    PCI configuration, MSI-X, virtio registers, rings and doorbells of disk, NIC and entropy at once
//!         registers  serial ports, power, panic device, clock
//!         sockets    packets of vsock, and callers from the host
//!         services   DHCP, DNS, metadata
//!         boot       a disk, of which kernel and initial RAM disk are read
//! client  api        a query, a signature
//! ```

mod api;
mod boot;
mod input;
mod machine;
pub mod mutation;
mod registers;
mod ring;
mod services;
mod sockets;

/// A target: anything may be given to it.
pub type Target = fn(&[u8]);

/// All of them, by name; the name is also that of the binary for libFuzzer and of the corpus' folder.
pub const TARGETS: [(&str, Target); 7] = [
    ("api", api::target),
    ("boot", boot::target),
    ("machine", machine::target),
    ("registers", registers::target),
    ("ring", ring::target),
    ("services", services::target),
    ("sockets", sockets::target),
];

/// Runs the target of this name; of none, it does nothing.
pub fn run(name: &str, bytes: &[u8]) {
    if let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) {
        target(bytes);
    }
}
