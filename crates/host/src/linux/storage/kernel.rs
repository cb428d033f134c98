//! Kernels as files: what processor one is for, and the kernel without its own unpacking.
//!
//! A stock kernel comes packed (bzImage, EFI zboot, a gzipped Image) and unpacks itself, which is most of the
//! instructions of its boot. The host has that done once per kernel. Packed kernels come from guests and are hostile:
//! offsets are checked, what comes out is bounded, and a process without rights does it, see [`super::reader`].
//!
//! Formats: Linux, Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst,
//! drivers/firmware/efi/libstub/zboot-header.S; for PVH, Xen's public/elfnote.h.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use flate2::read::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;
use spec::storage::Architecture;

/// The largest kernel unpacked, in bytes.
const MOST_UNPACKED: u64 = 512 << 20;
/// The most memory that unpacking takes besides, in bytes: zstd's window at its highest level, with which Linux packs.
const MOST_WINDOW: u64 = 128 << 20;
/// Bytes of the file that tell all: a bzImage's header and the release it points to.
const HEAD: usize = 68 << 10;
/// The longest release that is believed.
const MOST_RELEASE: usize = 128;
/// The most of an ELF file's notes that is looked at, and the most program headers.
const MOST_NOTES: usize = 64 << 10;
const MOST_SEGMENTS: u64 = 64;
/// What a block of LZ4's legacy frame unpacks to at most (lz4 1.9, doc/lz4_Frame_format.md), and what that packs to at most.
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_PACKED: usize = LZ4_BLOCK + LZ4_BLOCK / 255 + 16;

/// Why a file is not a kernel that can be booted here.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// It could not be read.
    #[error("Could not read the kernel")]
    Read(#[source] io::Error),
    /// It is of no form that we know.
    #[error("The kernel is neither a 64-bit bzImage or PVH ELF file for x86 nor an Image for arm64")]
    Unknown,
    /// What it is packed in is damaged, or unpacks to more than a kernel.
    #[error("Could not unpack the kernel")]
    Unpack(#[source] io::Error),
}

impl KernelError {
    /// Whether the same file will be refused again.
    pub(super) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Read(_))
    }
}

/// What a kernel's file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// The processor it is for.
    pub(super) architecture: Architecture,
    /// Its release, where its header has it.
    pub(super) release: Option<String>,
    /// Where in the file the packed kernel lies; none where it is not packed.
    pub(super) packed: Option<Range<u64>>,
}

/// Reads a kernel's header.
pub(super) fn recognise(file: &File) -> Result<Kernel, KernelError> {
    let size = file.metadata().map_err(KernelError::Read)?.len();
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(HEAD).min(HEAD)];
    file.read_exact_at(&mut bytes, 0).map_err(KernelError::Read)?;
    let head = Head { bytes: &bytes, file, size };
    let found =
        head.bz_image().or_else(|| head.elf()).or_else(|| head.zboot()).or_else(|| head.arm64_image());
    found.or_else(|| head.gzip()).ok_or(KernelError::Unknown)
}

/// Unpacks a kernel into `to`, an empty file, and says whether what came out can be booted as it is. Nothing comes out of
/// what is packed in an unknown way.
pub(super) fn unpack(file: &File, packed: Range<u64>, to: &File) -> Result<bool, KernelError> {
    let mut magic = [0; 6];
    file.read_exact_at(&mut magic, packed.start).map_err(KernelError::Read)?;
    let input = || BufReader::with_capacity(1 << 16, Part { file, range: packed.clone() });
    let unpacked = match magic {
        [0x1f, 0x8b, ..] => copy(GzDecoder::new(input()), to),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let limit = u32::try_from(MOST_WINDOW >> 10).unwrap_or(u32::MAX);
            copy(XzReader::new_mem_limit(input(), false, limit), to)
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => StreamingDecoder::new_with_max_window_size(input(), MOST_WINDOW)
            .map_err(io::Error::other)
            .and_then(|unpacked| copy(unpacked, to)),
        [0x02, 0x21, 0x4c, 0x18, ..] => copy(Lz4Blocks::new(input(), packed.end - packed.start), to),
        _ => return Ok(false),
    };
    unpacked.map_err(KernelError::Unpack)?;
    Ok(recognise(to).is_ok_and(|kernel| kernel.packed.is_none()))
}

fn copy(unpacked: impl Read, to: &File) -> io::Result<()> {
    copy_bounded(unpacked, to, MOST_UNPACKED)
}

fn copy_bounded(unpacked: impl Read, to: &File, most: u64) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(1 << 18, to);
    let count = io::copy(&mut unpacked.take(most + 1), &mut to)?;
    to.flush()?;
    if count > most { Err(io::Error::other("It unpacks to more than any kernel has")) } else { Ok(()) }
}

/// The beginning of a kernel's file.
struct Head<'f> {
    bytes: &'f [u8],
    file: &'f File,
    size: u64,
}

impl Head<'_> {
    fn bz_image(&self) -> Option<Kernel> {
        const LOADED_64_BIT: u16 = 1;
        let is_64_bit = self.u16(0x1fe)? == 0xaa55
            && self.text(0x202, 4)? == b"HdrS"
            && self.u16(0x206)? >= 0x20c
            && self.u16(0x236)? & LOADED_64_BIT != 0;
        if !is_64_bit {
            return None;
        }
        let setup_sectors = match self.text(0x1f1, 1)?[0] {
            0 => 4,
            count => u64::from(count),
        };
        let start = (setup_sectors + 1) * 512 + u64::from(self.u32(0x248)?);
        let packed = self.part(start, u64::from(self.u32(0x24c)?));
        let release = self.release(0x200 + usize::from(self.u16(0x20e)?));
        Some(Kernel { architecture: Architecture::X86_64, release, packed })
    }

    /// The first word of the text at `at`.
    fn release(&self, at: usize) -> Option<String> {
        let text = self.bytes.get(at..)?.iter().take(MOST_RELEASE).take_while(|byte| byte.is_ascii_graphic());
        let text: String = text.map(|byte| char::from(*byte)).collect();
        (!text.is_empty()).then_some(text)
    }

    /// An ELF file for x86 with a note that says where PVH begins.
    fn elf(&self) -> Option<Kernel> {
        const X86_64: u16 = 62;
        const NOTE: u32 = 4;
        if self.text(0, 5)? != b"\x7fELF\x02" || self.u16(18)? != X86_64 || self.u16(54)? != 56 {
            return None;
        }
        let (table, count) = (self.u64(32)?, u64::from(self.u16(56)?).min(MOST_SEGMENTS));
        let has_entry = (0..count).any(|index| {
            let mut header = [0; 56];
            let read = table.checked_add(index * 56).map(|at| self.file.read_exact_at(&mut header, at));
            let header = Head { bytes: &header, file: self.file, size: 56 };
            matches!(read, Some(Ok(()))) && header.u32(0) == Some(NOTE) && self.notes_have_pvh(&header)
        });
        has_entry.then_some(Kernel { architecture: Architecture::X86_64, release: None, packed: None })
    }

    fn notes_have_pvh(&self, segment: &Head<'_>) -> bool {
        const PHYS32_ENTRY: u32 = 18;
        let (Some(offset), Some(length)) = (segment.u64(8), segment.u64(32)) else { return false };
        let mut notes = vec![0; usize::try_from(length).unwrap_or(MOST_NOTES).min(MOST_NOTES)];
        if self.file.read_exact_at(&mut notes, offset).is_err() {
            return false;
        }
        let mut rest = &notes[..];
        while let Some((note, after)) = rest.split_first_chunk::<12>() {
            let word = |at: usize| note[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            if word(8) == PHYS32_ENTRY && after.starts_with(b"Xen\0") {
                return true;
            }
            let padded = |length: u32| {
                usize::try_from(length).unwrap_or(MOST_NOTES).min(MOST_NOTES).next_multiple_of(4)
            };
            rest = after.get(padded(word(0)) + padded(word(4))..).unwrap_or_default();
        }
        false
    }

    /// An EFI program that unpacks the Image within it; built for arm64 only.
    fn zboot(&self) -> Option<Kernel> {
        if self.text(0, 2)? != b"MZ" || self.text(4, 4)? != b"zimg" {
            return None;
        }
        let packed = self.part(u64::from(self.u32(8)?), u64::from(self.u32(12)?))?;
        let pe = usize::try_from(self.u32(0x3c)?).ok()?;
        let is_arm64 = self.text(pe, 4)? == b"PE\0\0" && self.u16(pe.checked_add(4)?)? == 0xaa64;
        is_arm64.then_some(Kernel { architecture: Architecture::Arm64, release: None, packed: Some(packed) })
    }

    fn arm64_image(&self) -> Option<Kernel> {
        let is_image = self.text(56, 4)? == b"ARM\x64";
        is_image.then_some(Kernel { architecture: Architecture::Arm64, release: None, packed: None })
    }

    /// An arm64 Image as gzip packs it.
    fn gzip(&self) -> Option<Kernel> {
        let mut image = [0; 64];
        GzDecoder::new(self.bytes).read_exact(&mut image).ok()?;
        let packed = Some(0..self.size);
        Head { bytes: &image, file: self.file, size: 64 }
            .arm64_image()
            .map(|kernel| Kernel { packed, ..kernel })
    }

    /// A part of the file that is wholly there and not too small to be anything.
    fn part(&self, start: u64, length: u64) -> Option<Range<u64>> {
        let end = start.checked_add(length)?;
        (length >= 16 && end <= self.size).then_some(start..end)
    }

    fn text(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.bytes.get(at..)?.get(..length)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// A part of a file, to be read from its beginning.
struct Part<'f> {
    file: &'f File,
    range: Range<u64>,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length =
            usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..length], self.range.start)?;
        self.range.start += count as u64;
        Ok(count)
    }
}

/// LZ4's legacy frame, the one that Linux uses: a magic number, then blocks, each after its packed length. Linux's build
/// puts the unpacked length behind them, four bytes that are no block.
struct Lz4Blocks<R> {
    input: R,
    /// Packed bytes that are left.
    left: u64,
    block: Vec<u8>,
    /// What of `block` has been read.
    read: usize,
}

impl<R: Read> Lz4Blocks<R> {
    fn new(input: R, length: u64) -> Self {
        Self { input, left: length, block: Vec::new(), read: 0 }
    }

    /// Unpacks the next block; false where there is none.
    fn advance(&mut self) -> io::Result<bool> {
        const MAGIC: u32 = 0x184c_2102;
        let mut length = MAGIC;
        while length == MAGIC {
            let mut word = [0; 4];
            if self.left <= 4 {
                return Ok(false);
            }
            self.input.read_exact(&mut word)?;
            self.left -= 4;
            length = u32::from_le_bytes(word);
        }
        if u64::from(length) > self.left || length as usize > LZ4_PACKED {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.left -= u64::from(length);
        let mut packed = vec![0; length as usize];
        self.input.read_exact(&mut packed)?;
        self.block.resize(LZ4_BLOCK, 0);
        let count = lz4_flex::block::decompress_into(&packed, &mut self.block).map_err(io::Error::other)?;
        self.block.truncate(count);
        self.read = 0;
        Ok(true)
    }
}

impl<R: Read> Read for Lz4Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.read);
        buffer[..count].copy_from_slice(&self.block[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::linux::storage::testing::{Folder, bz_image, gzip, pvh_elf};

    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let mut packed = 0x184c_2102_u32.to_le_bytes().to_vec();
        for block in bytes.chunks(LZ4_BLOCK) {
            let block = lz4_flex::block::compress(block);
            packed.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            packed.extend_from_slice(&block);
        }
        packed
    }

    /// Unpacks a kernel; none where what comes out is not to be booted.
    fn unpacked(folder: &Folder, image: &[u8]) -> Result<Option<Vec<u8>>, KernelError> {
        let file = folder.file("image", image);
        let packed = recognise(&file)?.packed.unwrap();
        let to = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(folder.join("out"))
            .unwrap();
        let bootable = unpack(&file, packed, &to)?;
        let mut bytes = Vec::new();
        Part { file: &to, range: 0..u64::MAX }.read_to_end(&mut bytes).unwrap();
        Ok(bootable.then_some(bytes))
    }

    #[test]
    fn a_bz_image_is_unpacked_whatever_it_is_packed_with() {
        let folder = Folder::new();
        let elf = pvh_elf(LZ4_BLOCK + 5000, 7);
        let zstd = ruzstd::encoding::compress_to_vec(&elf[..], ruzstd::encoding::CompressionLevel::Fastest);
        for mut payload in [gzip(&elf), lz4(&elf), zstd] {
            payload.extend_from_slice(&u32::try_from(elf.len()).unwrap().to_le_bytes());
            let image = bz_image(&payload, "6.1.0-56-cloud-amd64");
            let kernel = recognise(&folder.file("image", &image)).unwrap();
            assert_eq!(kernel.architecture, Architecture::X86_64);
            assert_eq!(kernel.release.as_deref(), Some("6.1.0-56-cloud-amd64"));
            assert!(unpacked(&folder, &image).unwrap().as_deref() == Some(&elf[..]));
        }
    }

    #[test]
    fn xz_with_its_filter_for_x86_is_unpacked_but_no_kernel_is_in_it() {
        // printf 'hello kernel' | xz --check=crc32 --x86 --lzma2=dict=1MiB
        const HELLO: [u8; 80] = [
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x01, 0x04, 0x00,
            0x21, 0x01, 0x10, 0x00, 0x8b, 0x21, 0x6f, 0x49, 0x01, 0x00, 0x0b, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
            0x20, 0x6b, 0x65, 0x72, 0x6e, 0x65, 0x6c, 0x00, 0x2e, 0xc0, 0xe2, 0x2f, 0x00, 0x01, 0x20, 0x0c,
            0xa2, 0xdd, 0xb4, 0xbc, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let folder = Folder::new();
        assert_eq!(unpacked(&folder, &bz_image(&HELLO, "6")).unwrap(), None);
        assert_eq!(std::fs::read(folder.join("out")).unwrap(), b"hello kernel");
    }

    #[test]
    fn kernels_for_arm64_are_known() {
        let folder = Folder::new();
        let mut image = vec![3; 5000];
        image[56..60].copy_from_slice(b"ARM\x64");
        let facts = recognise(&folder.file("image", &image)).unwrap();
        assert_eq!(facts, Kernel { architecture: Architecture::Arm64, release: None, packed: None });
        assert!(unpacked(&folder, &gzip(&image)).unwrap().as_deref() == Some(&image[..]));

        let payload = gzip(&image);
        let mut zboot = vec![0; 512];
        zboot[..8].copy_from_slice(b"MZ\0\0zimg");
        zboot[8..12].copy_from_slice(&512_u32.to_le_bytes());
        zboot[12..16].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        zboot[0x3c] = 128;
        zboot[128..134].copy_from_slice(b"PE\0\0\x64\xaa");
        zboot.extend_from_slice(&payload);
        assert!(unpacked(&folder, &zboot).unwrap().as_deref() == Some(&image[..]));
    }

    #[test]
    fn what_is_no_kernel_or_a_damaged_one_is_refused() {
        let folder = Folder::new();
        let unknown =
            |bytes: &[u8]| matches!(recognise(&folder.file("image", bytes)), Err(KernelError::Unknown));
        assert!(unknown(b"") && unknown(b"MZ") && unknown(&[0; 5000]) && unknown(b"\x7fELF\x02"));
        let mut no_pvh = pvh_elf(5000, 0);
        no_pvh[136] = 17;
        assert!(unknown(&no_pvh));

        let elf = pvh_elf(5000, 7);
        assert_eq!(unpacked(&folder, &bz_image(&gzip(&no_pvh), "6")).unwrap(), None);
        assert_eq!(unpacked(&folder, &bz_image(b"LZO, perhaps, or LZMA", "6")).unwrap(), None);
        let mut random = 1_usize;
        for good in [gzip(&elf), lz4(&elf)] {
            for _ in 0..50 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mut bad = good.clone();
                let at = 6 + (random >> 20) % (bad.len() - 6);
                bad[at] ^= 1 << ((random >> 60) % 8);
                // An error or another kernel, but no panic and no flood.
                let _ = unpacked(&folder, &bz_image(&bad, "6"));
            }
        }
        let mut outside = bz_image(&gzip(&elf), "6");
        outside[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(recognise(&folder.file("image", &outside)).unwrap().packed, None);
    }

    #[test]
    fn a_bomb_is_stopped() {
        let folder = Folder::new();
        let to = File::create(folder.join("out")).unwrap();
        let bomb = gzip(&[0; 10_000]);
        assert!(copy_bounded(GzDecoder::new(&bomb[..]), &to, 10_000).is_ok());
        let error = copy_bounded(GzDecoder::new(&bomb[..]), &to, 9_999).unwrap_err();
        assert_eq!(error.to_string(), "It unpacks to more than any kernel has");
    }
}
