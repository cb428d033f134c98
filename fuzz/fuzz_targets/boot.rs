//! `boot` for libFuzzer: `scripts/fuzz boot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("boot", bytes));
