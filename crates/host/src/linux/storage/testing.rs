//! Small disks and kernels for this folder's tests.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::boot::testing::{Purpose, write_table};
use super::reader::{Answer, Job, ReadError, Reader, work};

/// Reads in the test's own process, which may be anybody's. What is said passes through words all the same.
pub(crate) struct Here;

impl Reader for Here {
    fn ask(&self, job: Job, files: Vec<OwnedFd>) -> Result<Answer, ReadError> {
        let answer = serde_json::to_string(&work(job, files)).unwrap();
        Ok(serde_json::from_str(&answer).unwrap())
    }
}

/// A folder of its own for one test, gone when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cumulet-host-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A file in the folder, open for reading.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> File {
        fs::write(self.join(name), bytes).unwrap();
        File::open(self.join(name)).unwrap()
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An ext4 file system of 8 MiB with these files; one that begins with `->` is a symbolic link.
pub(super) fn ext4(files: &[(&str, &[u8])]) -> Vec<u8> {
    let folder = Folder::new();
    for (path, bytes) in files {
        let path = folder.join("root").join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match bytes.strip_prefix(b"->") {
            Some(target) => std::os::unix::fs::symlink(str::from_utf8(target).unwrap(), path).unwrap(),
            None => fs::write(path, bytes).unwrap(),
        }
    }
    let image = folder.join("image");
    File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .args([&folder.join("root"), &image])
        .env("PATH", path)
        .status()
        .expect("mke2fs, of e2fsprogs");
    assert!(made.success());
    fs::read(image).unwrap()
}

/// A disk with a partition table and these partitions, one after the other from 1 MiB on.
pub(super) fn disk(partitions: &[(Purpose, &[u8])]) -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    let mut table: Vec<(Range<u64>, Purpose)> = Vec::new();
    for (purpose, bytes) in partitions {
        let start = disk.len() as u64 / 512;
        disk.extend_from_slice(bytes);
        table.push((start..disk.len() as u64 / 512, *purpose));
    }
    disk.resize(disk.len() + (1 << 20), 0);
    write_table(&mut disk, &table);
    disk
}

/// An ELF file that PVH can boot, `size` bytes long, the rest of it `fill`.
pub(super) fn pvh_elf(size: usize, fill: u8) -> Vec<u8> {
    let mut elf = vec![fill; size];
    elf[..64].fill(0);
    elf[..5].copy_from_slice(b"\x7fELF\x02");
    elf[18] = 62;
    elf[32] = 64; // program headers
    elf[54] = 56;
    elf[56] = 1;
    elf[64..120].fill(0);
    elf[64] = 4; // a note
    elf[72] = 128;
    elf[96] = 20;
    elf[128..148].copy_from_slice(b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\0\0\0\x01");
    elf
}

/// A bzImage with this payload.
pub(super) fn bz_image(payload: &[u8], release: &str) -> Vec<u8> {
    let mut image = vec![0; 0x800];
    image[0x1f1] = 2;
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x236] = 1;
    image[0x248..0x24c].copy_from_slice(&0x200_u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    let text = format!("{release} (someone@somewhere) #1 SMP");
    image[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
    image.extend_from_slice(payload);
    image
}

/// What gzip makes of `bytes`.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
