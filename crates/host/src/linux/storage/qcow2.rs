//! Reading a qcow2 image into a raw file, once, at import.
//!
//! Format: QEMU, `docs/interop/qcow2.txt`, versions 2 and 3, with clusters compressed by deflate or zstd. What refers to
//! another file, is encrypted or asks for a feature not named here is refused: an image may come from anyone, and must not
//! make the host read one of its own files. Every number in the file is checked before it is used; no
//! more memory is taken than two clusters and one table.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;

use flate2::read::DeflateDecoder;
use volume::sparse;

/// What a qcow2 file begins with.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// The longest header field we know ends here.
const HEADER: usize = 105;
/// Bits of a table entry that are an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// In a level-two entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// In a level-two entry of version 3: the cluster reads as zeros.
const ZEROS: u64 = 1;
/// The most entries of the level-one table, as QEMU has it (32 MiB).
const MOST_TABLES: u64 = 4 << 20;

/// Incompatible features (version 3) that may be set: refcounts are not up to date, another compression is used.
const DIRTY: u64 = 1;
const OTHER_COMPRESSION: u64 = 1 << 3;

/// Why a qcow2 image is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// It contradicts itself or its format.
    #[error("The qcow2 image is damaged: {0}")]
    Damaged(&'static str),
    /// It is fine, but not for us.
    #[error("The qcow2 image {0}; \"qemu-img convert -O qcow2\" makes one that can be imported")]
    Refused(&'static str),
    /// It could not be read, or the disk not be written.
    #[error("Could not copy the qcow2 image")]
    Copy(#[from] io::Error),
}

/// An open qcow2 image.
pub(super) struct Qcow2 {
    file: File,
    size: u64,
    cluster_bits: u32,
    version: u32,
    zstd: bool,
    tables: Vec<u64>,
}

/// Where a cluster's bytes are.
#[derive(Clone, Copy)]
enum Cluster {
    Plain { offset: u64 },
    Compressed { offset: u64, most: usize },
}

impl Qcow2 {
    /// Reads and checks the header and the level-one table.
    pub(super) fn open(file: File) -> Result<Self, Qcow2Error> {
        let mut header = [0; HEADER];
        let length = read_up_to(&file, &mut header, 0)?;
        let header = Header { bytes: &header, version: 0 }.check(length)?;
        let size = header.u64(24);
        let cluster_bits = header.u32(20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(Qcow2Error::Damaged(
                "its clusters are neither of 512 bytes nor of 2 MiB nor between",
            ));
        }
        let per_table = 1_u64 << (2 * cluster_bits - 3);
        let count = size.div_ceil(per_table);
        if count > u64::from(header.u32(36)) || count > MOST_TABLES {
            return Err(Qcow2Error::Damaged("its first table does not reach the end of the disk"));
        }
        let tables = read_table(&file, header.u64(40), count)?;
        let zstd = header.zstd()?;
        let version = header.version;
        Ok(Self { file, size, cluster_bits, version, zstd, tables })
    }

    /// Bytes of the disk in the image.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes of the disk are in the image, before anything is copied.
    pub(super) fn allocated(&self) -> Result<u64, Qcow2Error> {
        let mut clusters = 0;
        self.each_cluster(&mut |_, _| {
            clusters += 1;
            Ok(())
        })?;
        Ok(clusters << self.cluster_bits)
    }

    /// Copies the disk into `to`, an empty file of its size. `progress` is told bytes of the image copied.
    pub(super) fn copy(&self, to: &File, progress: &mut dyn FnMut(u64)) -> Result<(), Qcow2Error> {
        let cluster_bytes = 1_usize << self.cluster_bits;
        let (mut cluster, mut packed) = (vec![0; cluster_bytes], Vec::new());
        let mut done = 0;
        self.each_cluster(&mut |at, place| {
            self.read_cluster(place, &mut cluster, &mut packed)?;
            let length = usize::try_from(self.size - at).unwrap_or(usize::MAX).min(cluster_bytes);
            sparse::write_nonzero(to, &cluster[..length], at)?;
            done += cluster_bytes as u64;
            progress(done);
            Ok(())
        })
    }

    /// Goes through the clusters that are in the image, with the offset of each in the disk.
    fn each_cluster(
        &self,
        each: &mut dyn FnMut(u64, Cluster) -> Result<(), Qcow2Error>,
    ) -> Result<(), Qcow2Error> {
        let per_table = 1_u64 << (self.cluster_bits - 3);
        for (table, entry) in (0_u64..).zip(&self.tables) {
            let offset = entry & OFFSET;
            if offset == 0 {
                continue;
            }
            let first = table * per_table;
            let wanted = per_table.min(self.size.div_ceil(1 << self.cluster_bits) - first);
            for (index, entry) in (first..).zip(read_table(&self.file, offset, wanted)?) {
                if let Some(cluster) = self.place(entry) {
                    each(index << self.cluster_bits, cluster)?;
                }
            }
        }
        Ok(())
    }

    /// Where the cluster of a level-two entry is; none where it reads as zeros.
    fn place(&self, entry: u64) -> Option<Cluster> {
        if entry & COMPRESSED != 0 {
            // The offset has the lower bits, the count of further sectors of 512 bytes the upper ones.
            let bits = 62 - (self.cluster_bits - 8);
            let offset = entry & ((1 << bits) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> bits;
            let most = (sectors + 1) * 512 - offset % 512;
            return Some(Cluster::Compressed { offset, most: usize::try_from(most).ok()? });
        }
        let offset = entry & OFFSET;
        let zeros = offset == 0 || (self.version >= 3 && entry & ZEROS != 0);
        (!zeros).then_some(Cluster::Plain { offset })
    }

    fn read_cluster(
        &self,
        place: Cluster,
        cluster: &mut [u8],
        packed: &mut Vec<u8>,
    ) -> Result<(), Qcow2Error> {
        match place {
            Cluster::Plain { offset } => {
                // The last cluster of a file may be cut short; what is missing is zeros.
                let length = read_up_to(&self.file, cluster, offset)?;
                cluster[length..].fill(0);
                match length {
                    0 => Err(Qcow2Error::Damaged("a cluster lies past its end")),
                    _ => Ok(()),
                }
            }
            Cluster::Compressed { offset, most } => {
                packed.resize(most, 0);
                let length = read_up_to(&self.file, packed, offset)?;
                self.unpack(&packed[..length], cluster)
                    .map_err(|_| Qcow2Error::Damaged("a compressed cluster cannot be unpacked"))
            }
        }
    }

    fn unpack(&self, packed: &[u8], cluster: &mut [u8]) -> io::Result<()> {
        if self.zstd {
            let limit = cluster.len().max(1 << 23) as u64; // RFC 8878, 3.1.1.1.2: decoders should take 8 MiB
            let mut unpacked = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(packed, limit)
                .map_err(io::Error::other)?;
            unpacked.read_exact(cluster)
        } else {
            DeflateDecoder::new(packed).read_exact(cluster)
        }
    }
}

/// The header's bytes, read by offset.
struct Header<'b> {
    bytes: &'b [u8; HEADER],
    version: u32,
}

impl Header<'_> {
    fn check(self, length: usize) -> Result<Self, Qcow2Error> {
        let version = self.u32(4);
        if length < 72 || self.bytes[..4] != MAGIC {
            return Err(Qcow2Error::Damaged("it has no header"));
        }
        if !(2..=3).contains(&version) {
            return Err(Qcow2Error::Refused("is neither of version 2 nor of version 3"));
        }
        if self.u64(8) != 0 {
            return Err(Qcow2Error::Refused("needs a backing file"));
        }
        if self.u32(32) != 0 {
            return Err(Qcow2Error::Refused("is encrypted"));
        }
        let header = Self { version, ..self };
        match header.features() & !(DIRTY | OTHER_COMPRESSION) {
            0 => Ok(header),
            features if features & 1 << 1 != 0 => Err(Qcow2Error::Damaged("it is marked as corrupt")),
            features if features & 1 << 2 != 0 => Err(Qcow2Error::Refused("keeps its data in another file")),
            _ => Err(Qcow2Error::Refused(
                "uses features that are not known here (extended L2 entries, perhaps)",
            )),
        }
    }

    fn features(&self) -> u64 {
        if self.version >= 3 { self.u64(72) } else { 0 }
    }

    fn zstd(&self) -> Result<bool, Qcow2Error> {
        let kind = if self.features() & OTHER_COMPRESSION == 0 { 0 } else { self.bytes[104] };
        match kind {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Qcow2Error::Refused("is compressed in a way that is not known here")),
        }
    }

    fn u32(&self, at: usize) -> u32 {
        self.bytes[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn u64(&self, at: usize) -> u64 {
        self.bytes[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

/// Reads `count` entries of a table, of which there are at most [`MOST_TABLES`].
fn read_table(file: &File, offset: u64, count: u64) -> Result<Vec<u64>, Qcow2Error> {
    let mut bytes = vec![0; usize::try_from(count * 8).unwrap_or_default()];
    match file.read_exact_at(&mut bytes, offset) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(Qcow2Error::Damaged("a table lies past its end"))
        }
        result => Ok(result?),
    }?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect())
}

/// Reads as much of `buffer` as the file has from `offset` on.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::linux::storage::testing::Folder;

    /// How a cluster of a test's image is stored.
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Absent,
        Plain,
        Zeros,
        Packed,
    }
    use Kind::{Absent, Packed, Plain, Zeros};

    /// An image of clusters of 512 bytes, and the disk that it holds. Cluster n is full of n + 1.
    fn image(clusters: &[Kind], zstd: bool) -> (Vec<u8>, Vec<u8>) {
        let (mut file, mut disk, mut table) = (vec![0; 3 * 512], Vec::new(), Vec::new());
        for (number, kind) in clusters.iter().enumerate() {
            let bytes = [u8::try_from(number + 1).unwrap(); 512];
            let is_there = matches!(kind, Plain | Packed);
            disk.extend_from_slice(if is_there { &bytes } else { &[0; 512] });
            let packed = pack(&bytes, zstd);
            table.push(match kind {
                Absent => 0,
                Zeros => file.len() as u64 | 1,
                Plain => file.len() as u64 | 1 << 63,
                // One further sector, and an offset in the middle of one.
                Packed => COMPRESSED | 1 << 61 | (file.len() as u64 + 100),
            });
            let content: &[u8] = if *kind == Packed { &packed } else { &bytes };
            file.resize(file.len() + if *kind == Packed { 100 } else { 0 }, 0);
            file.extend_from_slice(content);
            file.resize(file.len().next_multiple_of(512) + 512, 0);
        }
        file[..4].copy_from_slice(&MAGIC);
        put(&mut file, 4, 3_u32.to_be_bytes());
        put(&mut file, 20, 9_u32.to_be_bytes());
        put(&mut file, 24, (disk.len() as u64).to_be_bytes());
        put(&mut file, 36, 1_u32.to_be_bytes());
        put(&mut file, 40, 512_u64.to_be_bytes());
        put(&mut file, 512, (1024_u64 | 1 << 63).to_be_bytes());
        if zstd {
            put(&mut file, 72, OTHER_COMPRESSION.to_be_bytes());
            file[104] = 1;
        }
        for (index, entry) in table.iter().enumerate() {
            put(&mut file, 1024 + 8 * index, entry.to_be_bytes());
        }
        (file, disk)
    }

    fn pack(bytes: &[u8], zstd: bool) -> Vec<u8> {
        if zstd {
            return ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest);
        }
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn put<const N: usize>(file: &mut [u8], at: usize, bytes: [u8; N]) {
        file[at..at + N].copy_from_slice(&bytes);
    }

    fn copied(folder: &Folder, file: &[u8]) -> Result<Vec<u8>, Qcow2Error> {
        let image = Qcow2::open(folder.file("image", file))?;
        assert!(image.size() < 1 << 20, "too much for this test");
        let to = File::create(folder.join("disk"))?;
        to.set_len(image.size())?;
        let mut last = 0;
        image.copy(&to, &mut |done| last = done)?;
        assert_eq!(last, image.allocated()?);
        Ok(std::fs::read(folder.join("disk"))?)
    }

    #[test]
    fn every_kind_of_cluster_is_read() {
        let folder = Folder::new();
        for zstd in [false, true] {
            let (file, disk) = image(&[Plain, Absent, Packed, Zeros, Packed, Plain, Absent], zstd);
            assert!(copied(&folder, &file).unwrap() == disk);
        }
    }

    #[test]
    fn what_refers_elsewhere_or_is_unknown_is_refused() {
        let folder = Folder::new();
        let (good, _) = image(&[Plain], false);
        let refused = |at: usize, byte: u8| {
            let mut file = good.clone();
            file[at] = byte;
            copied(&folder, &file).unwrap_err().to_string()
        };
        assert!(refused(15, 200).starts_with("The qcow2 image needs a backing file; \"qemu-img convert"));
        assert!(refused(35, 1).starts_with("The qcow2 image is encrypted"));
        assert!(refused(79, 4).starts_with("The qcow2 image keeps its data in another file"));
        assert!(refused(79, 16).starts_with("The qcow2 image uses features that are not known"));
        assert!(refused(7, 4).starts_with("The qcow2 image is neither of version 2"));
        assert_eq!(refused(79, 2), "The qcow2 image is damaged: it is marked as corrupt");
        assert!(refused(23, 40).starts_with("The qcow2 image is damaged: its clusters"));
        assert!(refused(24, 1).starts_with("The qcow2 image is damaged: its first table"));
        assert!(refused(44, 1).starts_with("The qcow2 image is damaged: a table lies past its end"));
        assert!(refused(1024 + 3, 1).starts_with("The qcow2 image is damaged: a cluster lies past its end"));
        assert_eq!(
            copied(&folder, &good[..50]).unwrap_err().to_string(),
            "The qcow2 image is damaged: it has no header"
        );
    }

    #[test]
    fn damaged_images_do_no_harm() {
        let folder = Folder::new();
        let (good, _) = image(&[Plain, Packed, Zeros, Packed], false);
        let mut random = 1_usize;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 24
        };
        for _ in 0..500 {
            let mut bad = good.clone();
            for _ in 0..3 {
                // The size stays small: a large disk is refused by whoever opens the image.
                let at = next() % good.len();
                bad[if (24..30).contains(&at) { 0 } else { at }] ^= 1 << (next() % 8);
            }
            let _ = copied(&folder, &bad);
        }
    }
}
