//! Disks as distributions make them, and as nobody should.

use std::error::Error as _;
use std::fs;
use std::sync::Arc;

use super::gpt::Purpose;
use super::*;
use crate::linux::storage::testing::{Folder, disk, ext4};

/// What is read: kernel, initial RAM disk, command line, release.
fn boot(disk: Vec<u8>) -> Result<(String, String, String, Option<String>), BootError> {
    let folder = Folder::new();
    let (kernel, initrd) = (File::create(folder.join("k")).unwrap(), File::create(folder.join("i")).unwrap());
    let found = read(&(Arc::new(disk) as Arc<dyn Disk>), &kernel, &initrd)?;
    let text = |name| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(found.has_initrd, !text("i").is_empty());
    Ok((text("k"), text("i"), found.command_line, found.release))
}

const ROOT_UUID: &str = "00000001-0002-0003-0004-000000000000";

fn usual() -> String {
    let console = if Architecture::HERE == Architecture::Arm64 { "ttyAMA0" } else { "ttyS0" };
    format!("root=PARTUUID={ROOT_UUID} ro console={console}")
}

#[test]
fn an_entry_is_followed_through_links_and_its_parts_are_joined() {
    let root = ext4(&[
        ("/boot/vmlinuz-6.1", b"kernel 6.1"),
        ("/boot/initrd.img-6.1", b"initrd"),
        ("/boot/more.img", b"more"),
        ("/vmlinuz", b"->boot/vmlinuz-6.1"),
        ("/boot/loader/entries/gone.conf", b"sort-key a\nlinux /nowhere\n"),
        (
            "/boot/loader/entries/debian.conf",
            b"sort-key b\nlinux /vmlinuz\ninitrd /initrd.img-6.1\ninitrd /more.img\noptions root=x $more quiet\n",
        ),
    ]);
    let found = boot(disk(&[(Purpose::Other, &[0; 4096]), (Purpose::Root, &root)])).unwrap();
    assert_eq!(found.0, "kernel 6.1");
    assert_eq!(found.1, "initrd\0\0more");
    assert_eq!(found.2, "root=x quiet");
    assert_eq!(found.3.unwrap(), "6.1");
}

#[test]
fn without_an_entry_the_links_count_and_without_them_the_newest() {
    let files: [(&str, &[u8]); 7] = [
        ("/boot/vmlinuz-6.1.0-9", b"old"),
        ("/boot/vmlinuz-6.1.0-56", b"new"),
        ("/boot/vmlinuz-0-rescue-1", b"rescue"),
        ("/boot/initrd.img-6.1.0-9", b"old initrd"),
        ("/boot/initramfs-6.1.0-56.img", b"new initrd"),
        ("/vmlinuz", b"->boot/vmlinuz-6.1.0-9"),
        ("/initrd.img", b"->boot/initrd.img-6.1.0-9"),
    ];
    let text =
        |a: &str, b: &str, release: &str| (a.to_owned(), b.to_owned(), usual(), Some(release.to_owned()));
    assert_eq!(boot(disk(&[(Purpose::Root, &ext4(&files))])).unwrap(), text("old", "old initrd", "6.1.0-9"));
    let newest = boot(disk(&[(Purpose::Other, &ext4(&files[..5]))])).unwrap();
    assert_eq!(newest, text("new", "new initrd", "6.1.0-56"));
    let whole = boot(ext4(&files[..5])).unwrap();
    assert!(whole.2.starts_with("root=/dev/vda ro"), "{}", whole.2);
}

#[test]
fn a_boot_partition_is_looked_at_and_the_root_is_named_by_its_type() {
    let boot_files = ext4(&[("/vmlinuz-1", b"kernel"), ("/initrd-1", b"initrd")]);
    let found =
        boot(disk(&[(Purpose::Root, &ext4(&[("/etc/hostname", b"x")])), (Purpose::Boot, &boot_files)]))
            .unwrap();
    assert_eq!((found.0.as_str(), found.1.as_str(), found.2), ("kernel", "initrd", usual()));
}

#[test]
fn what_cannot_be_booted_is_told() {
    let message = |disk| boot(disk).unwrap_err().to_string();
    assert_eq!(
        message(vec![0; 1 << 20]),
        "The disk has neither a GUID partition table nor an ext4 file system"
    );
    let empty = ext4(&[("/etc/hostname", b"x")]);
    assert!(
        message(disk(&[(Purpose::Root, &empty)])).starts_with("No ext4 file system on the disk has a kernel")
    );
    let long = format!("linux /k\noptions {}", "x".repeat(3000));
    let entry = |text: &str| {
        disk(&[(Purpose::Root, &ext4(&[("/k", b"k"), ("/loader/entries/a.conf", text.as_bytes())]))])
    };
    assert_eq!(message(entry(&long)), "The command line is longer than a kernel takes");
    assert_eq!(
        message(entry("linux /k\noptions a\u{7}b")),
        "The command line has characters that are not ASCII text"
    );
    let error = boot(entry(&"#".repeat(70_000))).unwrap_err();
    assert_eq!(
        error.source().unwrap().to_string(),
        "\"/loader/entries/a.conf\" has 70000 bytes, more than the 65536 that such a file may have"
    );
}

#[test]
fn damaged_file_systems_end_in_a_word() {
    let good = disk(&[(
        Purpose::Root,
        &ext4(&[
            ("/boot/vmlinuz-1", &[7; 100_000]),
            ("/boot/loader/entries/a.conf", b"linux /boot/vmlinuz-1\n"),
        ]),
    )]);
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 24
    };
    let mut booted = 0;
    for _ in 0..60 {
        let mut bad = good.clone();
        for _ in 0..=next() % 64 {
            // Mostly the superblock and what follows it, where the lies hurt.
            let reach = if next() % 2 == 0 { 1024 } else { 400 << 10 };
            let at = usize::try_from((1 << 20) + 1024 + next() % reach).unwrap();
            bad[at] = next().to_le_bytes()[0];
        }
        booted += u32::from(boot(bad).is_ok());
    }
    assert!(booted < 60, "no damage was found");
    let mut huge = good;
    let superblock = (1 << 20) + 1024;
    huge[superblock + 32..superblock + 36].copy_from_slice(&1_u32.to_le_bytes()); // a group for each block
    huge[superblock + 4..superblock + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(boot(huge), Err(BootError::NoKernel)));
}
