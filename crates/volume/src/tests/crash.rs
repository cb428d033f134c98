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
fn a_volume_that_was_to_grow_is_as_it_was_or_larger() {
    for (seed, effects) in (0..40).flat_map(|seed| (1..6).map(move |effects| (seed, effects))) {
        let mut random = Random(seed);
        for (size, base) in shapes(&mut random) {
            let mut expected = base.clone().unwrap_or_default();
            expected.resize(size as usize, 0);
            let disk = SimDisk::new(size, base);
            let volume = disk.open();
            disk.power_for(effects);
            let grown = volume.grow(size + 8192);
            assert_eq!(volume.size() > size, grown.is_ok());
            drop(volume);
            disk.cut(&mut random);
            let volume = disk.open();
            assert!(volume.size() == size + 8192 || (volume.size() == size && grown.is_err()));
            volume.grow(size + 8192).unwrap();
            expected.resize(size as usize + 8192, 0);
            assert!(read_whole(&volume) == expected, "seed {seed}, cut after {effects}");
            volume.write_at(&[5; 600], size + 7000).unwrap();
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
