//! A disk of a guest's, out of which the host reads kernel, initial RAM disk and command line.

use std::io;
use std::sync::Arc;

use host::linux::storage::boot::{Disk, read};

/// Bytes of the disk; what the input does not cover reads as zero.
const BYTES: u64 = 16 << 20;

struct Made(Vec<u8>);

impl Disk for Made {
    fn size(&self) -> u64 {
        BYTES
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let len = u64::try_from(buffer.len()).map_err(io::Error::other)?;
        assert!(offset.checked_add(len).is_some_and(|end| end <= BYTES), "{offset} + {len}");
        buffer.fill(0);
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        for (byte, from) in buffer.iter_mut().zip(self.0.get(offset..).unwrap_or_default()) {
            *byte = *from;
        }
        Ok(())
    }
}

/// The disk's beginning.
pub(crate) fn target(bytes: &[u8]) {
    let (Ok(kernel), Ok(initrd)) = (tempfile::tempfile(), tempfile::tempfile()) else { return };
    let disk: Arc<dyn Disk> = Arc::new(Made(bytes.to_vec()));
    // What is found, or why nothing is, is all the same.
    let _ = read(&disk, &kernel, &initrd);
}
