//! Random bytes from the kernel.
#![allow(unsafe_code, reason = "the system call getrandom")]

use std::io;

use devices::virtio::rng::Entropy;

/// getrandom(2): no file to open, so it works behind locked doors.
pub(crate) struct KernelEntropy;

impl Entropy for KernelEntropy {
    fn fill(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            // SAFETY: the kernel writes at most as many bytes as the buffer has.
            let count = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            match usize::try_from(count) {
                Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_buffer_is_filled() {
        let mut buffer = [0; 1000];
        KernelEntropy.fill(&mut buffer).unwrap();
        assert!(buffer.chunks(50).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    }
}
