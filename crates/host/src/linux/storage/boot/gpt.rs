//! Partitions of a disk: the GUID partition table (UEFI specification 2.10, 5.3), read and not believed.
//!
//! The primary table, or the backup at the disk's end where the primary is damaged. Only
//! sectors of 512 bytes, which is what guests see. At most [`MOST_ENTRIES`] entries are looked at.

use std::fmt;
use std::io;
use std::ops::Range;

use super::Disk;

const SECTOR: u64 = 512;
/// The most entries that are looked at; 128 is what everyone writes.
const MOST_ENTRIES: usize = 1024;
/// The only size of an entry that is in use.
const ENTRY: usize = 128;

/// A GUID as it lies in the table: the first three groups little-endian.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Guid([u8; 16]);

impl Guid {
    /// The GUID that is written `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with these groups.
    const fn new(a: u32, b: u16, c: u16, d: u16, e: u64) -> Self {
        let (a, b, c, d, e) =
            (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), d.to_be_bytes(), e.to_be_bytes());
        Self([a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], e[2], e[3], e[4], e[5], e[6], e[7]])
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].into_iter().enumerate() {
            if [4, 6, 8, 10].contains(&index) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[place])?;
        }
        Ok(())
    }
}

/// Types of partitions that say "the root file system" of x86-64 and of 64-bit Arm, and
/// "what boots" (Discoverable Partitions Specification).
const ROOT_X86_64: Guid = Guid::new(0x4f68_bce3, 0xe8cd, 0x4db1, 0x96e7, 0xfbca_f984_b709);
const ROOT_ARM64: Guid = Guid::new(0xb921_b045, 0x1df0, 0x41c3, 0xaf44, 0x4c6f_280d_3fae);
const BOOT: Guid = Guid::new(0xbc13_c2ff, 0x59e6, 0x4262, 0xa352, 0xb275_fd6f_7172);

/// What a partition's type says it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::linux::storage) enum Purpose {
    /// The root file system.
    Root,
    /// Kernels and boot entries.
    Boot,
    /// Anything else.
    Other,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// Its bytes on the disk.
    pub(super) range: Range<u64>,
    /// What it is for.
    pub(super) purpose: Purpose,
    /// Its own GUID as Linux's `PARTUUID=` has it.
    pub(super) uuid: String,
}

/// The partitions, in the order of the table. None where there is no table that can be believed.
pub(super) fn partitions(disk: &dyn Disk) -> io::Result<Option<Vec<Partition>>> {
    let last = (disk.size() / SECTOR).saturating_sub(1);
    for sector in [1, last] {
        if let Some(entries) = entries(disk, sector)? {
            let partitions = entries.as_chunks::<ENTRY>().0.iter();
            return Ok(Some(partitions.filter_map(|entry| partition(entry, disk.size())).collect()));
        }
    }
    Ok(None)
}

/// The entries' bytes, where `sector` holds a header and both are as their checksums say.
fn entries(disk: &dyn Disk, sector: u64) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; 512];
    if !read(disk, &mut header, sector)? || header[..8] != *b"EFI PART" {
        return Ok(None);
    }
    let length = u32_at(&header, 12) as usize;
    if !(92..=header.len()).contains(&length) || u64_at(&header, 24) != sector {
        return Ok(None);
    }
    let checksum = u32_at(&header, 16);
    header[16..20].fill(0);
    let count = u32_at(&header, 80) as usize;
    if crc32fast::hash(&header[..length]) != checksum
        || count > MOST_ENTRIES
        || u32_at(&header, 84) as usize != ENTRY
    {
        return Ok(None);
    }
    let mut entries = vec![0; count * ENTRY];
    let whole = read(disk, &mut entries, u64_at(&header, 72))?;
    Ok((whole && crc32fast::hash(&entries) == u32_at(&header, 88)).then_some(entries))
}

/// The partition of an entry, if the entry is in use and lies within the disk.
fn partition(entry: &[u8; ENTRY], disk: u64) -> Option<Partition> {
    let guid = |at: usize| entry[at..].first_chunk().map(|bytes| Guid(*bytes));
    let (kind, uuid) = (guid(0)?, guid(16)?);
    let start = u64_at(entry, 32).checked_mul(SECTOR)?;
    let end = u64_at(entry, 40).checked_add(1)?.checked_mul(SECTOR)?;
    let purpose = match kind {
        ROOT_X86_64 | ROOT_ARM64 => Purpose::Root,
        BOOT => Purpose::Boot,
        _ => Purpose::Other,
    };
    let used = kind != Guid([0; 16]) && start < end && end <= disk;
    used.then(|| Partition { range: start..end, purpose, uuid: uuid.to_string() })
}

/// Reads from a sector on; false where the disk does not reach that far.
fn read(disk: &dyn Disk, buffer: &mut [u8], sector: u64) -> io::Result<bool> {
    let offset = sector.checked_mul(SECTOR);
    let fits = |offset: &u64| offset.checked_add(buffer.len() as u64).is_some_and(|end| end <= disk.size());
    match offset.filter(fits) {
        Some(offset) => disk.read_at(buffer, offset).map(|()| true),
        None => Ok(false),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a primary and a backup table with these partitions, given in sectors.
    pub(in crate::linux::storage) fn write_table(disk: &mut [u8], partitions: &[(Range<u64>, Purpose)]) {
        let mut entries = vec![0; 128 * ENTRY];
        for (index, (entry, (range, purpose))) in entries.chunks_mut(ENTRY).zip(partitions).enumerate() {
            let kind = match purpose {
                Purpose::Root => ROOT_X86_64,
                Purpose::Boot => BOOT,
                Purpose::Other => Guid([0xee; 16]),
            };
            entry[..16].copy_from_slice(&kind.0);
            entry[16..32].copy_from_slice(&Guid::new(1, 2, 3, 4, index as u64).0);
            entry[32..40].copy_from_slice(&range.start.to_le_bytes());
            entry[40..48].copy_from_slice(&(range.end - 1).to_le_bytes());
        }
        let last = disk.len() / 512 - 1;
        for (sector, table) in [(1, 2), (last, last - 32)] {
            let mut header = [0; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[12..16].copy_from_slice(&92_u32.to_le_bytes());
            header[24..32].copy_from_slice(&(sector as u64).to_le_bytes());
            header[72..80].copy_from_slice(&(table as u64).to_le_bytes());
            header[80..84].copy_from_slice(&128_u32.to_le_bytes());
            header[84..88].copy_from_slice(&128_u32.to_le_bytes());
            header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
            let checksum = crc32fast::hash(&header);
            header[16..20].copy_from_slice(&checksum.to_le_bytes());
            disk[sector * 512..sector * 512 + 92].copy_from_slice(&header);
            disk[table * 512..table * 512 + entries.len()].copy_from_slice(&entries);
        }
    }

    #[test]
    fn a_table_is_read_and_the_backup_where_the_first_is_damaged() {
        let mut disk = vec![0; 200 * 512];
        write_table(
            &mut disk,
            &[(40..50, Purpose::Other), (50..150, Purpose::Root), (100..1000, Purpose::Boot)],
        );
        let found = partitions(&disk).unwrap().unwrap();
        assert_eq!(found.len(), 2, "the third reaches past the disk");
        assert_eq!(found[1].range, 50 * 512..150 * 512);
        assert_eq!(found[1].purpose, Purpose::Root);
        assert_eq!(found[1].uuid, "00000001-0002-0003-0004-000000000001");
        assert_eq!(ROOT_X86_64.to_string(), "4f68bce3-e8cd-4db1-96e7-fbcaf984b709");

        disk[1024 + 40] ^= 1;
        assert_eq!(partitions(&disk).unwrap().unwrap(), found, "an entry damaged");
        disk[512] ^= 1;
        assert_eq!(partitions(&disk).unwrap().unwrap(), found, "the header damaged");
        let last = disk.len() - 512;
        disk[last + 80] ^= 1;
        assert_eq!(partitions(&disk).unwrap(), None, "the backup damaged too");
    }

    #[test]
    fn lying_headers_do_no_harm() {
        assert_eq!(partitions(&Vec::new()).unwrap(), None);
        let mut good = vec![0; 100 * 512];
        write_table(&mut good, &[(40..50, Purpose::Root)]);
        let mut random = 1_u64;
        for _ in 0..2000 {
            let mut disk = good.clone();
            for _ in 0..4 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let place = 512 + (random >> 33) as usize % 92;
                disk[place] = random.to_le_bytes()[3];
            }
            // With a checksum that fits, so that the lie is looked at.
            disk[512 + 16..512 + 20].fill(0);
            let checksum = crc32fast::hash(&disk[512..512 + 92]);
            disk[512 + 16..512 + 20].copy_from_slice(&checksum.to_le_bytes());
            partitions(&disk).unwrap();
        }
    }
}
