//! Reading and writing a volume, from any number of threads.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::claims::{Claims, Hold};
use crate::header::{BLOCK_BYTES, BadMap, Header, PAGE};
use crate::map::Map;
use crate::part::{Part, read_all, write_all};
use crate::parts::{Access, BASE, DATA, MAP, OpenError, Parts};

const BLOCK: usize = 4096;
const _: () = assert!(BLOCK as u64 == BLOCK_BYTES, "one block, counted in memory and in files");

/// An open volume.
///
/// Offsets and lengths are in bytes and need no alignment, though a write that covers part of a base's
/// block costs a read the first time. Any thread may call anything at any time. Of two writes to the
/// same bytes at the same time either may win; what one flush answered is durable whatever others do.
pub struct Volume {
    data: Box<dyn Part>,
    map_file: Box<dyn Part>,
    base: Option<Box<dyn Part>>,
    base_bytes: Option<u64>,
    /// Bytes of the volume; it only grows.
    bytes: AtomicU64,
    access: Access,
    map: Map,
    claims: Claims,
    /// Held by who flushes or grows; true once a flush has failed.
    flush_failed: Mutex<bool>,
}

/// The file in which a piece of a volume lies, always at the same offset as in the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `data`: the volume's own.
    Data,
    /// In `base`.
    Base,
    /// In no file: zeros, in the block that the base covers in part.
    Nowhere,
}

/// A piece of a volume that lies in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it lies.
    pub place: Place,
    /// Its bytes in the volume, and in the file.
    pub range: Range<u64>,
}

impl Volume {
    /// Opens a volume from its parts, believing nothing they say before it is checked.
    pub fn open(parts: Parts, access: Access) -> Result<Self, OpenError> {
        let base = parts.base.map(|base| Box::new(base) as Box<dyn Part>);
        Self::over(Box::new(parts.data), Box::new(parts.map), base, access)
    }

    pub(crate) fn over(
        data: Box<dyn Part>,
        map_file: Box<dyn Part>,
        base: Option<Box<dyn Part>>,
        access: Access,
    ) -> Result<Self, OpenError> {
        let (header, map) = read_map(&*map_file)?;
        let length = |part: &dyn Part, name| part.bytes().map_err(|source| OpenError::Read { name, source });
        let data_bytes = length(&*data, DATA)?;
        if data_bytes < header.bytes {
            // Longer it may be: growing was cut short.
            expect(DATA, data_bytes, header.bytes)?;
        }
        match (&base, header.base_bytes) {
            (Some(base), Some(bytes)) => expect(BASE, length(&**base, BASE)?, bytes)?,
            (None, None) => {}
            (_, said) => return Err(OpenError::Base { said: said.is_some() }),
        }
        let (claims, flush_failed) = (Claims::default(), Mutex::new(false));
        let (bytes, base_bytes) = (AtomicU64::new(header.bytes), header.base_bytes);
        Ok(Self { data, map_file, base, base_bytes, bytes, access, map, claims, flush_failed })
    }

    /// Bytes of the volume.
    pub fn size(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Makes the volume larger, durably; the new bytes are zeros. To the size it has, or a smaller one, it does nothing.
    ///
    /// The file first, then the header, of which a power cut leaves the old or the new: a file that is longer than the
    /// header says is the volume as it was.
    pub fn grow(&self, bytes: u64) -> io::Result<()> {
        let _held = self.hold_flushes();
        if bytes <= self.size() {
            return Ok(());
        }
        if self.access == Access::Read {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let header = Header::new(bytes, self.base_bytes)
            .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        self.data.lengthen(bytes)?;
        self.data.sync()?;
        write_all(&*self.map_file, &mut [IoSlice::new(&header.page())], 0)?;
        self.map_file.sync()?;
        self.bytes.store(bytes, Ordering::Release);
        Ok(())
    }

    fn hold_flushes(&self) -> MutexGuard<'_, bool> {
        self.flush_failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a range of the volume lies now, piece by piece in order. A piece in the base may become own at any moment;
    /// one that is own stays so.
    ///
    /// For who does the I/O himself: each piece can be read from its file as it is; before writing, see [`Volume::begin_write`].
    pub fn locate(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + '_ {
        let mut at = range.start;
        std::iter::from_fn(move || {
            let piece = (at < range.end).then(|| self.piece(at..range.end))?;
            at = piece.range.end;
            Some(piece)
        })
    }

    /// The longest piece at the beginning of `range`, which is not empty.
    fn piece(&self, range: Range<u64>) -> Piece {
        let (first, after) = (range.start / BLOCK_BYTES, range.end.div_ceil(BLOCK_BYTES));
        if first >= self.map.blocks() {
            return Piece { place: Place::Data, range };
        }
        let (own, run_end) = self.map.run(first, after);
        let base_bytes = self.base_bytes.unwrap_or_default();
        let run_bytes = range.end.min(run_end * BLOCK_BYTES);
        let (place, end) = match own {
            true if run_end == self.map.blocks() => (Place::Data, range.end),
            true => (Place::Data, run_bytes),
            false if range.start < base_bytes => (Place::Base, run_bytes.min(base_bytes)),
            false => (Place::Nowhere, run_bytes),
        };
        Piece { place, range: range.start..end }
    }

    /// The file in which all of `range` lies now, at the same offset as in the volume, for who reads it himself. `None` where
    /// it lies in several files or in none.
    pub fn file_of(&self, range: Range<u64>) -> Option<BorrowedFd<'_>> {
        let inside = range.start < range.end && range.end <= self.size();
        let piece = self.locate(range.clone()).next().filter(|piece| inside && piece.range == range)?;
        match piece.place {
            Place::Data => self.data.descriptor(),
            Place::Base => self.base.as_ref()?.descriptor(),
            Place::Nowhere => None,
        }
    }

    /// Fills `buffer` from `offset` on.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_vectored_at(&mut [IoSliceMut::new(buffer)], offset)
    }

    /// Fills `buffers`, one after the other, from `offset` on. The slices are used up, as by `Read::read_vectored`'s callers.
    pub fn read_vectored_at(&self, mut buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<()> {
        let range = self.range(offset, buffers.iter().map(|buffer| buffer.len()))?;
        for piece in self.locate(range.clone()) {
            if piece.range == range {
                return self.read_piece(&piece, buffers);
            }
            let length = bytes(&piece.range);
            self.read_piece(&piece, &mut front(buffers, length))?;
            IoSliceMut::advance_slices(&mut buffers, length);
        }
        Ok(())
    }

    fn read_piece(&self, piece: &Piece, buffers: &mut [IoSliceMut<'_>]) -> io::Result<()> {
        match (piece.place, &self.base) {
            (Place::Data, _) => read_all(&*self.data, buffers, piece.range.start),
            (Place::Base, Some(base)) => read_all(&**base, buffers, piece.range.start),
            _ => {
                buffers.iter_mut().for_each(|buffer| buffer.fill(0));
                Ok(())
            }
        }
    }

    /// Writes `buffer` from `offset` on.
    pub fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.write_vectored_at(&mut [IoSlice::new(buffer)], offset)
    }

    /// Writes `buffers`, one after the other, from `offset` on. The slices are used up.
    pub fn write_vectored_at(&self, buffers: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let range = self.range(offset, buffers.iter().map(|buffer| buffer.len()))?;
        let first = self.begin_write(range.clone())?;
        write_all(&*self.data, buffers, range.start)?;
        first.done();
        Ok(())
    }

    /// Makes `range` read as zeros, giving space back where the file system can.
    pub fn write_zeroes(&self, range: Range<u64>) -> io::Result<()> {
        let range = self.range(range.start, [bytes(&range)])?;
        if range.is_empty() {
            return Ok(());
        }
        let first = self.begin_write(range.clone())?;
        self.data.punch(range)?;
        first.done();
        Ok(())
    }

    /// Gives the space of the whole blocks within `range` back; they read as zeros. What is left over at the edges stays.
    pub fn discard(&self, range: Range<u64>) -> io::Result<()> {
        let range = self.range(range.start, [bytes(&range)])?;
        let start = range.start.next_multiple_of(BLOCK_BYTES);
        let end = if range.end == self.size() { range.end } else { range.end / BLOCK_BYTES * BLOCK_BYTES };
        if start < end { self.write_zeroes(start..end) } else { Ok(()) }
    }

    /// Prepares a write into `data` at `range`: holds the blocks it makes own, and brings up what it does not cover of
    /// the first and the last of them. The caller then writes exactly `range` of `data`, and says [`FirstWrite::done`].
    ///
    /// Waits while another thread is making one of the same blocks own.
    pub fn begin_write(&self, range: Range<u64>) -> io::Result<FirstWrite<'_>> {
        if self.access == Access::Read {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES).min(self.map.blocks());
        let untouched = range.is_empty() || blocks.is_empty();
        if untouched || self.map.run(blocks.start, blocks.end) == (true, blocks.end) {
            return Ok(FirstWrite { volume: self, held: None });
        }
        let hold = self.claims.hold(blocks.clone());
        self.bring_up(range.start / BLOCK_BYTES * BLOCK_BYTES..range.start)?;
        self.bring_up(range.end..range.end.next_multiple_of(BLOCK_BYTES).min(self.size()))?;
        Ok(FirstWrite { volume: self, held: Some((hold, blocks)) })
    }

    /// Copies a part of one block into `data`, unless the block is own. The block must be held.
    fn bring_up(&self, part: Range<u64>) -> io::Result<()> {
        let mut block = [0; BLOCK];
        match self.locate(part.clone()).next() {
            Some(piece) if piece.place != Place::Data => {
                let buffer = &mut block[..bytes(&part)];
                self.read_at(buffer, part.start)?;
                write_all(&*self.data, &mut [IoSlice::new(buffer)], part.start)
            }
            _ => Ok(()),
        }
    }

    /// Makes durable all that was written before this was called.
    ///
    /// After a flush has failed the kernel may have dropped what it could not write, so all later ones fail too.
    pub fn flush(&self) -> io::Result<()> {
        let mut failed = self.hold_flushes();
        if *failed {
            return Err(io::Error::other(
                "An earlier flush of this volume failed, and what it held may be lost",
            ));
        }
        let result = self.flush_in_order();
        *failed = result.is_err();
        result
    }

    /// Data, then the bits that speak of it. The bits are copied first: one set from now on may be of data that this sync misses.
    fn flush_in_order(&self) -> io::Result<()> {
        let pages = self.map.take_marked();
        self.data.sync()?;
        if pages.is_empty() {
            return Ok(());
        }
        for page in &pages {
            write_all(&*self.map_file, &mut [IoSlice::new(&page.bytes)], page.offset)?;
        }
        self.map_file.sync()
    }

    /// The bytes from `offset` on, as long as `lengths` together, if the volume has them.
    fn range(&self, offset: u64, lengths: impl IntoIterator<Item = usize>) -> io::Result<Range<u64>> {
        let end = lengths.into_iter().try_fold(offset, |end, length| end.checked_add(length as u64));
        match end {
            Some(end) if end <= self.size() => Ok(offset..end),
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "The range reaches past the end of the volume")),
        }
    }
}

/// A write that may make blocks own, between its beginning and its end. Dropped without [`FirstWrite::done`], the blocks
/// it held stay the base's.
#[must_use = "the blocks written become the volume's own only with done()"]
pub struct FirstWrite<'v> {
    volume: &'v Volume,
    held: Option<(Hold<'v>, Range<u64>)>,
}

impl FirstWrite<'_> {
    /// Says that all of the range has been written.
    pub fn done(self) {
        if let Some((_hold, blocks)) = self.held {
            self.volume.map.set(blocks);
        }
    }
}

/// The map's header and bits, after the file's length was checked: nothing is allocated that is not there.
fn read_map(file: &dyn Part) -> Result<(Header, Map), OpenError> {
    let read = |source| OpenError::Read { name: MAP, source };
    let found = file.bytes().map_err(read)?;
    let cut_off = |expected| BadMap::CutOff { found, expected };
    if found < PAGE as u64 {
        return Err(cut_off(PAGE as u64).into());
    }
    let mut page = [0; PAGE];
    read_all(file, &mut [IoSliceMut::new(&mut page)], 0).map_err(read)?;
    let header = Header::parse(&page)?;
    if found != header.map_bytes() {
        return Err(cut_off(header.map_bytes()).into());
    }
    let mut pages = vec![0; bytes(&(PAGE as u64..found))];
    read_all(file, &mut [IoSliceMut::new(&mut pages)], PAGE as u64).map_err(read)?;
    let map = Map::from_disk(&pages, header.covered_blocks());
    Ok((header, map))
}

fn expect(name: &'static str, found: u64, expected: u64) -> Result<(), OpenError> {
    if found == expected { Ok(()) } else { Err(OpenError::Length { name, found, expected }) }
}

/// The length of a range of bytes that is, or could be, in memory.
fn bytes(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

/// The first `length` bytes of `buffers`.
fn front<'a>(buffers: &'a mut [IoSliceMut<'_>], mut length: usize) -> Vec<IoSliceMut<'a>> {
    let mut front = Vec::new();
    for buffer in buffers {
        let part = length.min(buffer.len());
        front.push(IoSliceMut::new(&mut buffer[..part]));
        length -= part;
        if length == 0 {
            break;
        }
    }
    front
}
