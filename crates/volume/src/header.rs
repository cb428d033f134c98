//! The first page of a volume's map: one line of JSON, then zeros.
//!
//! ```text
//! {"format":"cumulet-volume","version":1,"block_bytes":4096,"bytes":8589934592,"base_bytes":2147483648}
//! ```
//!
//! Text, so that `head -1 map` tells a stranger what lies here; short enough for one disk sector, so
//! that rewriting it (a volume that grows) is all or nothing. A later format, with bits for blocks changed since a
//! snapshot, gets a higher version and its own tables behind the first.

use serde::{Deserialize, Serialize};

/// The size of a block in bytes: the unit of ownership. That of a guest's page and of its file system's blocks, so
/// that hardly a write needs the rest of a block from the base.
pub const BLOCK_BYTES: u64 = 4096;
/// The largest volume in bytes: 64 TiB, as EBS's largest. It bounds what a map may make us allocate.
pub const MAX_BYTES: u64 = 64 << 40;

/// Bytes of a page of the map; the header is the first.
pub(crate) const PAGE: usize = 4096;
/// The least size of a disk sector in bytes, which a power cut leaves old or new but never mixed.
const SECTOR: usize = 512;
const FORMAT: &str = "cumulet-volume";
const VERSION: u32 = 1;

/// What the first page says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    format: String,
    version: u32,
    block_bytes: u64,
    /// Bytes of the volume.
    pub(crate) bytes: u64,
    /// Bytes of its base; none without one.
    pub(crate) base_bytes: Option<u64>,
}

/// Just enough of a header to see whether the rest can be understood.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u32,
}

/// Why a map is not one that this build understands.
#[derive(Debug, thiserror::Error)]
pub enum BadMap {
    /// The file ends within its header or its table.
    #[error("The map has {found} bytes and should have {expected}: it was cut off")]
    CutOff {
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// No header.
    #[error("The map does not begin with a volume's header")]
    NoHeader(#[source] Option<serde_json::Error>),
    /// A header of another version.
    #[error("The map is of version {0}, and this build reads version {VERSION}")]
    Version(u32),
    /// A header that contradicts itself.
    #[error("The map's header says what cannot be: {0}")]
    Impossible(String),
}

impl Header {
    /// The header of a new volume, if such a volume can be.
    pub(crate) fn new(bytes: u64, base_bytes: Option<u64>) -> Result<Self, BadMap> {
        let header =
            Self { format: FORMAT.to_owned(), version: VERSION, block_bytes: BLOCK_BYTES, bytes, base_bytes };
        header.check()?;
        Ok(header)
    }

    /// Reads the map's first page.
    pub(crate) fn parse(page: &[u8; PAGE]) -> Result<Self, BadMap> {
        let line = page[..SECTOR].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let kind: Kind = serde_json::from_slice(line).map_err(|error| BadMap::NoHeader(Some(error)))?;
        if kind.format != FORMAT {
            return Err(BadMap::NoHeader(None));
        }
        if kind.version != VERSION {
            return Err(BadMap::Version(kind.version));
        }
        let header: Self = serde_json::from_slice(line).map_err(|error| BadMap::NoHeader(Some(error)))?;
        header.check()?;
        Ok(header)
    }

    /// The map's first page.
    pub(crate) fn page(&self) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let line = format!(
            "{{\"format\":\"{FORMAT}\",\"version\":{VERSION},\"block_bytes\":{},\"bytes\":{},\"base_bytes\":{}}}\n",
            self.block_bytes,
            self.bytes,
            self.base_bytes.map_or_else(|| "null".to_owned(), |bytes| bytes.to_string()),
        );
        page[..line.len()].copy_from_slice(line.as_bytes());
        page
    }

    /// Blocks that the base covers, the last perhaps in part: those that have a bit.
    pub(crate) fn covered_blocks(&self) -> u64 {
        self.base_bytes.unwrap_or_default().div_ceil(BLOCK_BYTES)
    }

    /// Bytes of the whole map file: the header's page and whole pages of bits.
    pub(crate) fn map_bytes(&self) -> u64 {
        let page = PAGE as u64;
        page + self.covered_blocks().div_ceil(8 * page) * page
    }

    fn check(&self) -> Result<(), BadMap> {
        let base = self.base_bytes.unwrap_or_default();
        let impossible = |what: String| Err(BadMap::Impossible(what));
        if self.block_bytes != BLOCK_BYTES {
            return impossible(format!("blocks of {} bytes", self.block_bytes));
        }
        if self.bytes == 0 || self.bytes > MAX_BYTES || !self.bytes.is_multiple_of(SECTOR as u64) {
            return impossible(format!("a volume of {} bytes", self.bytes));
        }
        if base > self.bytes {
            return impossible(format!("a volume of {} bytes over a base of {base}", self.bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[..text.len()].copy_from_slice(text.as_bytes());
        page
    }

    #[test]
    fn a_header_reads_back_and_fits_a_sector() {
        for (bytes, base) in [(512, None), (MAX_BYTES, Some(MAX_BYTES)), (8 << 30, Some(2_000_000_123))] {
            let header = Header::new(bytes, base).unwrap();
            assert_eq!(Header::parse(&header.page()).unwrap(), header);
            assert!(header.page()[SECTOR..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn each_lie_gets_its_sentence() {
        let good =
            r#"{"format":"cumulet-volume","version":1,"block_bytes":4096,"bytes":4096,"base_bytes":1}"#;
        assert!(Header::parse(&page(&format!("{good}\n"))).is_ok());
        for (lie, sentence) in [
            (String::new(), "The map does not begin with a volume's header"),
            ("QFI\u{fb}".to_owned(), "The map does not begin with a volume's header"),
            (good.replace("cumulet", "other"), "The map does not begin with a volume's header"),
            (good.replace("\"bytes\":4096", "\"bytes\":-1"), "The map does not begin with a volume's header"),
            (
                good.replace("\"version\":1", "\"version\":2"),
                "The map is of version 2, and this build reads version 1",
            ),
            (
                good.replace("\"block_bytes\":4096", "\"block_bytes\":0"),
                "The map's header says what cannot be: blocks of 0 bytes",
            ),
            (
                good.replace("\"bytes\":4096", "\"bytes\":18446744073709551104"),
                "The map's header says what cannot be: a volume of 18446744073709551104 bytes",
            ),
            (
                good.replace("\"base_bytes\":1", "\"base_bytes\":4097"),
                "The map's header says what cannot be: a volume of 4096 bytes over a base of 4097",
            ),
        ] {
            assert_eq!(Header::parse(&page(&format!("{lie}\n"))).unwrap_err().to_string(), sentence, "{lie}");
        }
    }
}
