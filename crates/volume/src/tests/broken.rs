//! Files that lie or were cut off: one clear sentence each, and nothing allocated.

use std::error::Error as _;
use std::fs::{self, OpenOptions};
use std::path::Path;

use super::real::Folder;
use crate::parts::{Access, BASE, DATA, MAP, Parts, create};
use crate::volume::Volume;

/// What opening says, with its causes.
fn opening(folder: &Path) -> String {
    match Parts::open(folder, Access::Write).and_then(|parts| Volume::open(parts, Access::Write)) {
        Ok(_) => "fine".to_owned(),
        Err(error) => match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

/// What opening says after the folder was spoilt so.
type Case = (&'static str, fn(&Path));

fn resize(folder: &Path, part: &str, bytes: u64) {
    OpenOptions::new().write(true).open(folder.join(part)).unwrap().set_len(bytes).unwrap();
}

#[test]
fn broken_files_are_named() {
    let cases: [Case; 8] = [
        ("fine", |_| {}),
        ("The volume's part \"data\" has 100 bytes and should have 65536", |folder| {
            resize(folder, DATA, 100)
        }),
        ("The volume's part \"base\" has 1 bytes and should have 9000", |folder| {
            fs::remove_file(folder.join(BASE)).unwrap();
            fs::write(folder.join(BASE), [0]).unwrap();
        }),
        (
            "Could not understand the volume's map: The map has 5000 bytes and should have 8192: it was cut off",
            |folder| {
                resize(folder, MAP, 5000);
            },
        ),
        (
            "Could not understand the volume's map: The map has 7 bytes and should have 4096: it was cut off",
            |folder| {
                resize(folder, MAP, 7);
            },
        ),
        ("Could not understand the volume's map: The map does not begin with a volume's header", |folder| {
            fs::write(folder.join(MAP), [0; 8192]).unwrap();
        }),
        ("The volume's map needs a base and there is none", |folder| {
            fs::remove_file(folder.join(BASE)).unwrap()
        }),
        ("Could not open the volume's part \"data\": No such file or directory (os error 2)", |folder| {
            fs::remove_file(folder.join(DATA)).unwrap();
        }),
    ];
    for (sentence, spoil) in cases {
        let folder = Folder::new();
        fs::write(folder.join("image"), [7; 9000]).unwrap();
        create(&folder, 65536, Some(&folder.join("image"))).unwrap();
        spoil(&folder);
        assert_eq!(opening(&folder), sentence);
    }
}

#[test]
fn a_volume_that_cannot_be_is_not_made() {
    let folder = Folder::new();
    fs::write(folder.join("image"), [7; 9000]).unwrap();
    for (bytes, base) in [(0, None), (513, None), (1 << 60, None), (8192, Some(folder.join("image")))] {
        assert_eq!(
            create(&folder, bytes, base.as_deref()).unwrap_err().to_string(),
            "Such a volume cannot be"
        );
    }
    assert!(!folder.join(DATA).exists());
}
