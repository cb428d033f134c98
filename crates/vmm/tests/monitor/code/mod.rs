//! Guests of a few instructions, written instruction by instruction, for each architecture under the same
//! names: `kernel`, which makes a file that the monitor boots, and [`Code`]:
//!
//! - `print`, `print_config_word` (four bytes of PCI's configuration space, to the serial port);
//! - `wait_for_input` (until somebody types), `panic` (reports one);
//! - and at the end one of `power_off`, `reset`, `idle`, `crash` (does what no processor goes on from).
//!
//! And `poke`: writes random words to random places for ever, and reads there. The places are masks for a random
//! number and what is added to it, in PCI's configuration space and in the window for its memory.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;
