//! A volume's format on disk: copy-on-write over a base, in constant time.
//!
//! A volume is a folder with up to three files, its parts ([`parts`]):
//!
//! ```text
//! data   the volume's own bytes, a sparse file as large as the volume; byte n of the volume is byte n of the file
//! map    a header, then one bit for each block that the base covers: set when the block is the volume's own
//! base   what the other blocks read as: an image's disk, raw, shared and never written; absent when the volume began empty
//! ```
//!
//! A block past the end of the base is always the volume's own, so a volume without a base is a
//! plain sparse file and costs what one costs. A hole in `data` is zeros, never "not written yet":
//! only the map says whose a block is. `docs/decisions/0003-volume-format.md` tells why so, with figures.
//!
//! What must hold:
//! - **What was flushed survives a power cut.** A flush makes the data durable, then the bits of blocks first
//!   written since the last flush, then answers. A bit on disk therefore never speaks of data that is not there yet.
//! - **A torn map page is harmless.** Bits are only ever set, so any mixture of an old and a new
//!   page says of each block one of two things that are both true.
//! - **A block becomes own whole.** A write that covers part of a base's block brings the rest up first.
//! - **Discarded blocks are zeros**: own and punched out, never the base shining through again.
//! - A machine's monitor is handed the parts as open descriptors and opens no path; the host opens
//!   them by path. Whoever has a volume open for writing holds an open-file-description lock on `data`.

mod claims;
mod export;
mod header;
pub mod lock;
mod map;
mod part;
pub mod parts;
pub mod sparse;
mod volume;

#[cfg(test)]
mod tests;

pub use export::{ExportError, export};
pub use header::{BLOCK_BYTES, BadMap, MAX_BYTES};
pub use parts::{Access, CreateError, OpenError, Parts, create};
pub use volume::{FirstWrite, Piece, Place, Volume};
