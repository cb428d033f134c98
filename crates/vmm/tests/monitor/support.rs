//! For tests that run the monitor: tiny guests of a few instructions, and launching with descriptors.
//!
//! A guest is an ELF file that is entered by PVH: 32-bit code, flat, no paging. It runs wherever KVM runs
//! anything, emulated hosts that could not boot Linux included.
#![allow(unsafe_code, reason = "giving a child its descriptors by number")]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Where the guest's code is loaded and entered.
const LOAD: u32 = 0x10_0000;

/// The monitor's program, standard input from nowhere.
pub(crate) fn monitor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cumulet-vmm"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether KVM runs guests here; says why not.
pub(crate) fn kvm_works() -> bool {
    let usable = File::options().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &usable {
        println!("skipped: /dev/kvm cannot be opened: {error}");
    }
    usable.is_ok()
}

/// A kernel with this code.
pub(crate) fn kernel(code: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..20].copy_from_slice(&[2, 0, 62, 0]);
    file[24..28].copy_from_slice(&LOAD.to_le_bytes());
    file[32] = 64; // program headers follow
    file[52..58].copy_from_slice(&[64, 0, 56, 0, 2, 0]);
    let header = |kind: u32, offset: u64, address: u32, bytes: usize| {
        let bytes = bytes as u64;
        let words = [offset, u64::from(address), u64::from(address), bytes, bytes, 4096];
        [&kind.to_le_bytes()[..], &[7, 0, 0, 0], words.map(u64::to_le_bytes).as_flattened()].concat()
    };
    file.extend(header(4, 256, 0, 20));
    file.extend(header(1, 512, LOAD, code.len()));
    file.resize(256, 0);
    file.extend([4_u32, 4, 18].map(u32::to_le_bytes).as_flattened());
    file.extend(b"Xen\0");
    file.extend(LOAD.to_le_bytes());
    file.resize(512, 0);
    file.extend(code);
    file
}

/// Code, written instruction by instruction.
#[derive(Default)]
pub(crate) struct Code(Vec<u8>);

impl Code {
    /// Writes a byte to a port.
    pub(crate) fn out(mut self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.0.extend([0xb0, value, 0x66, 0xba, low, high, 0xee]); // mov al, value; mov dx, port; out dx, al
        self
    }

    /// Writes text to the serial port.
    pub(crate) fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |code, byte| code.out(0x3f8, byte))
    }

    /// Reads four bytes of memory and writes them to the serial port.
    pub(crate) fn print_word_at(mut self, address: u32) -> Self {
        self.0.push(0xa1); // mov eax, [address]
        self.0.extend(address.to_le_bytes());
        self.0.extend([0x66, 0xba, 0xf8, 0x03]); // mov dx, 0x3f8
        for _ in 0..4 {
            self.0.extend([0xee, 0xc1, 0xe8, 0x08]); // out dx, al; shr eax, 8
        }
        self
    }

    /// Powers off by ACPI's sleep register, then does nothing.
    pub(crate) fn power_off(self) -> Vec<u8> {
        self.out(0x600, 0x20 | 5 << 2).idle()
    }

    /// Resets by the reset register, then does nothing.
    pub(crate) fn reset(self) -> Vec<u8> {
        self.out(0x602, 1).idle()
    }

    /// Jumps to an address.
    pub(crate) fn jump(mut self, address: u32) -> Vec<u8> {
        self.0.push(0xb8); // mov eax, address
        self.0.extend(address.to_le_bytes());
        self.0.extend([0xff, 0xe0]); // jmp eax
        self.0
    }

    /// Halts for ever.
    pub(crate) fn idle(mut self) -> Vec<u8> {
        self.0.extend([0xf4, 0xeb, 0xfd]); // hlt; jmp back
        self.0
    }
}

/// Has the monitor inherit these descriptors, by name, as a launcher does.
pub(crate) fn give(command: &mut Command, descriptors: Vec<(String, OwnedFd)>) {
    let names: Vec<_> = descriptors.iter().map(|(name, _)| name.clone()).collect();
    command.env(spec::machine::descriptors::VARIABLE, names.join(":"));
    let first = spec::machine::descriptors::FIRST;
    let clear: RawFd = 100;
    // SAFETY: between fork and exec only `dup2` and `close` are called. All are first moved out of the
    // way of each other.
    unsafe {
        command.pre_exec(move || {
            for (at, (_, descriptor)) in (clear..).zip(&descriptors) {
                libc::dup2(descriptor.as_raw_fd(), at);
            }
            for (number, from) in (first..).zip(clear..).take(descriptors.len()) {
                libc::dup2(from, number);
                libc::close(from);
            }
            Ok(())
        });
    }
}

/// Has the system refuse the monitor's writes beyond so many bytes of a file.
pub(crate) fn limit_files(command: &mut Command, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `setrlimit` may be called between fork and exec, and reads one `rlimit`, ours.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}
