//! Which blocks are a volume's own: a bit for each block that the base covers.
//!
//! In memory the bits are atomic words that any thread reads without a lock. On disk they are pages
//! of 4 KiB behind the header. A page with new bits is marked; a flush takes copies of the marked pages *before* it
//! makes the data durable, so bits set meanwhile wait for the next flush.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::header::PAGE;

const WORD_BITS: u64 = u64::BITS as u64;
/// Words on a page.
const PAGE_WORDS: usize = PAGE / size_of::<u64>();

/// The bits, in memory.
pub(crate) struct Map {
    words: Box<[AtomicU64]>,
    /// For each page, whether it has bits that no flush has taken yet.
    marked: Box<[AtomicBool]>,
    blocks: u64,
}

/// A copy of one page, to be written to disk.
pub(crate) struct MapPage {
    /// Where it belongs in the map file, in bytes.
    pub(crate) offset: u64,
    /// Its bits.
    pub(crate) bytes: Box<[u8]>,
}

impl Map {
    /// The bits of `blocks` blocks as they lie on disk: whole pages, without the header's.
    pub(crate) fn from_disk(pages: &[u8], blocks: u64) -> Self {
        let (words, _) = pages.as_chunks::<{ size_of::<u64>() }>();
        Self {
            words: words.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect(),
            marked: (0..pages.len().div_ceil(PAGE)).map(|_| AtomicBool::new(false)).collect(),
            blocks,
        }
    }

    /// How many blocks have a bit; the ones after them are always own.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether block `from` is own, and where the run of blocks that are likewise ends, at most at `limit`.
    pub(crate) fn run(&self, from: u64, limit: u64) -> (bool, u64) {
        let limit = limit.min(self.blocks);
        let mut word = self.word(from);
        let own = word >> (from % WORD_BITS) & 1 == 1;
        let mut at = from;
        while at < limit {
            let differing = (if own { !word } else { word }) >> (at % WORD_BITS);
            if differing != 0 {
                return (own, limit.min(at + u64::from(differing.trailing_zeros())));
            }
            at = (at / WORD_BITS + 1) * WORD_BITS;
            word = if at < limit { self.word(at) } else { 0 };
        }
        (own, limit)
    }

    /// Makes a run of blocks own.
    pub(crate) fn set(&self, blocks: std::ops::Range<u64>) {
        let end = blocks.end.min(self.blocks);
        let mut at = blocks.start;
        while at < end {
            let until = end.min((at / WORD_BITS + 1) * WORD_BITS);
            let bits = (u64::MAX >> (WORD_BITS - (until - at))) << (at % WORD_BITS);
            let (word, index) = self.word_at(at);
            // Bits first, mark second, each released: a flush that sees the mark sees the bits.
            if word.fetch_or(bits, Ordering::AcqRel) & bits != bits {
                self.marked[index / PAGE_WORDS].store(true, Ordering::Release);
            }
            at = until;
        }
    }

    /// Takes copies of the pages with new bits, unmarking them.
    pub(crate) fn take_marked(&self) -> Vec<MapPage> {
        let marked = self.marked.iter().zip(self.words.chunks(PAGE_WORDS)).enumerate();
        marked
            .filter(|(_, (marked, _))| marked.swap(false, Ordering::AcqRel))
            .map(|(index, (_, words))| MapPage {
                offset: (PAGE * (index + 1)) as u64,
                bytes: words.iter().flat_map(|word| word.load(Ordering::Acquire).to_le_bytes()).collect(),
            })
            .collect()
    }

    fn word(&self, block: u64) -> u64 {
        self.word_at(block).0.load(Ordering::Acquire)
    }

    fn word_at(&self, block: u64) -> (&AtomicU64, usize) {
        // Below the number of words, which are in memory, so it fits.
        let index = usize::try_from(block / WORD_BITS).unwrap_or(usize::MAX);
        (&self.words[index], index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_a_plain_list_says() {
        let blocks = 200;
        let map = Map::from_disk(&[0; PAGE], blocks);
        for range in [0..1, 63..65, 70..70, 100..192, 199..300] {
            map.set(range);
        }
        let own = |block: u64| [0..1, 63..65, 100..192, 199..200].iter().any(|range| range.contains(&block));
        for from in 0..blocks {
            for limit in from + 1..=blocks + 3 {
                let end = (from..limit.min(blocks)).find(|block| own(*block) != own(from));
                assert_eq!(
                    map.run(from, limit),
                    (own(from), end.unwrap_or(limit.min(blocks))),
                    "{from}..{limit}"
                );
            }
        }
    }

    #[test]
    fn only_pages_with_new_bits_are_taken_and_they_read_back() {
        let per_page = 8 * PAGE as u64;
        let map = Map::from_disk(&[0; 3 * PAGE], 3 * per_page);
        map.set(per_page - 1..per_page + 1);
        let pages = map.take_marked();
        assert_eq!(pages.iter().map(|page| page.offset).collect::<Vec<_>>(), [4096, 8192]);
        assert_eq!((pages[0].bytes[PAGE - 1], pages[1].bytes[0]), (0x80, 0x01));
        map.set(per_page - 1..per_page);
        assert!(map.take_marked().is_empty());
        let again =
            Map::from_disk(&[&pages[0].bytes[..], &pages[1].bytes[..], &[0; PAGE]].concat(), 3 * per_page);
        assert_eq!(again.run(per_page - 1, u64::MAX), (true, per_page + 1));
    }
}
