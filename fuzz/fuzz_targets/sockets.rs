//! `sockets` for libFuzzer: `scripts/fuzz sockets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("sockets", bytes));
