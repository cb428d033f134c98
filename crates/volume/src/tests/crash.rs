//! Power cuts: after each, what was flushed is there, and the rest is old or new, sector by sector.

use std::sync::Arc;

use super::Random;
use super::disk::SimDisk;
use super::model::{Model, read_whole, shapes};

#[test]
fn flushed_data_survives_a_power_cut_at_any_moment() {
    for seed in 0..60 {
        let mut random = Random(seed);
        for (size, base) in shapes(&mut random) {
            let mut model = Model::new(size, base.as_deref().unwrap_or_default());
            let disk = SimDisk::new(size, base);
            // Several lives of one volume: what a cut left behind in unowned blocks must not hurt the next.
            for _ in 0..4 {
                disk.power_for(1 + i64::try_from(random.below(60)).unwrap());
                let volume = disk.open();
                while model.step(&volume, &mut random).is_ok() && !disk.is_dark() {}
                drop(volume);
                disk.cut(&mut random);
                model.accept(read_whole(&disk.open()));
            }
        }
    }
}

#[test]
fn after_a_failed_flush_every_later_one_fails() {
    let disk = SimDisk::new(8192, Some(vec![7; 8192]));
    let volume = disk.open();
    volume.write_at(&[1; 512], 0).unwrap();
    disk.power_for(0);
    assert!(volume.flush().is_err());
    disk.power_for(i64::MAX);
    assert!(volume.flush().unwrap_err().to_string().starts_with("An earlier flush"));
}

#[test]
fn a_block_written_while_a_flush_syncs_is_the_next_flushs_affair() {
    for seed in 0..8 {
        let disk = SimDisk::new(8192, Some(vec![7; 8192]));
        let volume = Arc::new(disk.open());
        volume.write_at(&[1; 4096], 0).unwrap();
        let other = Arc::clone(&volume);
        disk.meanwhile(move || other.write_at(&[2; 4096], 4096).unwrap());
        volume.flush().unwrap();
        disk.cut(&mut Random(seed));
        let found = read_whole(&disk.open());
        assert_eq!(found[..4096], [1; 4096]);
        assert!(found[4096..] == [7; 4096] || found[4096..] == [2; 4096]);
    }
}
