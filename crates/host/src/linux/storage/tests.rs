//! Images and volumes in a state folder, from import to removal.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};

use spec::ids::{ImageId, VolumeId};
use spec::observed::{Observed, Scope};
use spec::storage::{Architecture, Volume as Wanted};
use volume::{Access, Volume};

use super::boot::testing::Purpose;
use super::testing::{Folder, Here, bz_image, disk, ext4, gzip, pvh_elf};
use super::*;

fn ids() -> (ImageId, VolumeId) {
    (ImageId::from_random(1), VolumeId::from_random(2))
}

fn bootable(release: &str) -> Vec<u8> {
    let kernel = bz_image(&gzip(&pvh_elf(50_000, release.len().to_le_bytes()[0])), release);
    disk(&[(Purpose::Root, &ext4(&[("/boot/vmlinuz-1", &kernel), ("/boot/initrd.img-1", b"initrd")]))])
}

/// A state folder with an image in it, and its disk.
fn with_image() -> (Folder, Storage, Vec<u8>) {
    let folder = Folder::new();
    let storage = Storage::open(&folder, Box::new(Here)).unwrap();
    let bytes = bootable("6.1.0-56-cloud-amd64");
    storage.import_image(ids().0, folder.file("upload", &bytes), &mut |_, _| {}).unwrap();
    (folder, storage, bytes)
}

fn observed(storage: &Storage) -> (Vec<ImageId>, Vec<VolumeId>) {
    let mut observed = Observed::default();
    storage.observe(&Scope::Everything, &mut observed).unwrap();
    (observed.images.into_iter().collect(), observed.volumes.into_iter().collect())
}

#[test]
fn an_image_is_taken_in_sparse_with_what_was_learned_of_it() {
    let (folder, storage, bytes) = with_image();
    let (image, _) = ids();
    let path = folder.join(format!("images/{image}/disk.raw"));
    assert!(fs::read(&path).unwrap() == bytes);
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < bytes.len() as u64 / 2);
    let mut progress = Vec::new();
    let facts =
        storage.import_image(image, folder.file("again", b""), &mut |done, _| progress.push(done)).unwrap();
    assert!(progress.is_empty(), "what is there is not made again");
    assert_eq!((facts.bytes, facts.architecture), (bytes.len() as u64, Architecture::X86_64));
    assert_eq!(facts.kernel.as_deref(), Some("6.1.0-56-cloud-amd64"));
    assert_eq!(observed(&storage), (vec![image], vec![]));
}

#[test]
fn a_volume_begins_as_its_image_and_outlives_it() {
    let (folder, storage, bytes) = with_image();
    let (image, id) = ids();
    let wanted = Wanted { id, bytes: 1 << 40, base: Some(image) };
    storage.create_volume(&wanted).unwrap();
    storage.create_volume(&wanted).unwrap();
    storage.remove_image(image).unwrap();
    storage.remove_image(image).unwrap();
    assert_eq!(observed(&storage), (vec![], vec![id]));

    let volume = Volume::open(storage.open_volume(id, Access::Write).unwrap(), Access::Write).unwrap();
    let mut found = vec![0; bytes.len() + 4096];
    volume.read_at(&mut found, 0).unwrap();
    assert!(found[..bytes.len()] == bytes && found[bytes.len()..] == [0; 4096]);
    let busy = storage.remove_volume(id).unwrap_err();
    assert!(busy.chain().ends_with("The volume is in use by another process"), "{}", busy.chain());
    drop(volume);
    storage.remove_volume(id).unwrap();
    storage.remove_volume(id).unwrap();
    assert!(files::names(&folder.join("volumes")).unwrap().is_empty());
}

#[test]
fn what_boots_is_read_from_the_volume_as_it_is_now() {
    let (_folder, storage, _) = with_image();
    let (image, id) = ids();
    storage.create_volume(&Wanted { id, bytes: 1 << 30, base: Some(image) }).unwrap();
    let boot = || {
        let parts = storage.open_volume(id, Access::Write).unwrap();
        let boot = storage.boot_files(id, &parts).unwrap();
        let read = |mut file: File| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert!(file.write_at(b"x", 0).is_err(), "handed out for writing");
            bytes
        };
        (read(boot.kernel), read(boot.initrd.unwrap()), boot.command_line)
    };
    let first = boot();
    assert!(first.0 == pvh_elf(50_000, 20) && first.1 == b"initrd");
    assert!(first.2.starts_with("root=PARTUUID=00000001-0002-0003-0004-000000000000 ro"));
    assert!(boot() == first, "the kept kernel is another");

    // The guest writes another kernel.
    let volume = Volume::open(storage.open_volume(id, Access::Write).unwrap(), Access::Write).unwrap();
    volume.write_at(&bootable("6.2"), 0).unwrap();
    volume.flush().unwrap();
    drop(volume);
    assert!(boot().0 == pvh_elf(50_000, 3));
}

#[test]
fn only_so_many_kernels_are_kept() {
    let folder = Folder::new();
    let kernels = Kernels::new(folder.to_path_buf());
    for number in 0..20 {
        let scratch = Folder::new();
        let file = scratch.file("kernel", &bz_image(&gzip(&pvh_elf(5000, number)), "6"));
        let ready = kernels.ready(file, &Here).unwrap();
        assert_eq!(ready.metadata().unwrap().len(), 5000);
    }
    assert_eq!(files::names(&folder).unwrap().len(), 16);
}

#[test]
fn a_kernel_that_does_not_unpack_to_one_is_booted_as_it_is() {
    let folder = Folder::new();
    let kernels = Kernels::new(folder.join("kept"));
    fs::create_dir(folder.join("kept")).unwrap();
    let image = bz_image(&gzip(&[1; 5000]), "6");
    for _ in 0..2 {
        let file = folder.file("kernel", &image);
        assert_eq!(kernels.ready(file, &Here).unwrap().metadata().unwrap().len(), image.len() as u64);
    }
}

#[test]
fn disks_that_cannot_be_imported_leave_nothing_and_say_why() {
    let folder = Folder::new();
    let storage = Storage::open(&folder, Box::new(Here)).unwrap();
    let (image, _) = ids();
    let refused = |bytes: &[u8]| {
        let error = storage.import_image(image, folder.file("upload", bytes), &mut |_, _| {}).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Lasting);
        assert!(files::names(&folder.join("images")).unwrap().is_empty());
        let chain = error.chain();
        chain.strip_prefix(&format!("Could not import image {image}: ")).unwrap().to_owned()
    };
    assert_eq!(refused(&gzip(b"a disk")), "The file is packed by gzip; unpack it first");
    assert_eq!(refused(b""), "A disk of 0 bytes cannot be imported; the most is 2 TiB, the least one sector");
    assert_eq!(
        refused(&[1; 5000]),
        "Nothing can be booted from the disk: The disk has neither a GUID partition table nor an ext4 file system"
    );
    let no_kernel = ext4(&[("/boot/vmlinuz-1", b"not a kernel")]);
    assert!(
        refused(&disk(&[(Purpose::Root, &no_kernel)]))
            .starts_with("The disk's kernel cannot be booted: The kernel is neither")
    );
    assert!(refused(b"QFI\xfb").starts_with("The qcow2 image is damaged"));
}

#[test]
fn a_volume_over_an_image_that_is_not_here_is_not_made() {
    let folder = Folder::new();
    let storage = Storage::open(&folder, Box::new(Here)).unwrap();
    let (image, id) = ids();
    let error = storage.create_volume(&Wanted { id, bytes: 1 << 30, base: Some(image) }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(observed(&storage), (vec![], vec![]));
}

#[test]
fn what_was_left_half_made_is_cleared_and_not_seen() {
    let folder = Folder::new();
    let storage = Storage::open(&folder, Box::new(Here)).unwrap();
    let (image, id) = ids();
    for half in [format!("images/{image}.partial"), format!("volumes/{id}.partial")] {
        fs::create_dir_all(folder.join(&half)).unwrap();
        fs::write(folder.join(&half).join("data"), b"half").unwrap();
    }
    assert_eq!(observed(&storage), (vec![], vec![]));
    storage.create_volume(&Wanted { id, bytes: 1 << 30, base: None }).unwrap();
    assert_eq!(observed(&storage), (vec![], vec![id]));
    Storage::open(&folder, Box::new(Here)).unwrap();
    assert_eq!(files::names(&folder.join("images")).unwrap(), [""; 0]);
}
