//! Who is making which blocks own right now.
//!
//! A first write to part of a block also brings the rest of the block up from the base. Two such
//! writes to one block, or one beside a write of the whole block, would undo each other; so each first holds its blocks
//! and waits for whoever holds one of them. Writes to blocks that are own already come nowhere near this.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The ranges of blocks held. As many as there are first writes at work, so a short list.
#[derive(Default)]
pub(crate) struct Claims {
    held: Mutex<Vec<Range<u64>>>,
    freed: Condvar,
}

/// Blocks held until this is dropped.
pub(crate) struct Hold<'c> {
    claims: &'c Claims,
    blocks: Range<u64>,
}

impl Claims {
    /// Holds `blocks`, after whoever holds one of them has let go. Whoever waited looks again what is own.
    pub(crate) fn hold(&self, blocks: Range<u64>) -> Hold<'_> {
        let meets = |other: &Range<u64>| other.start < blocks.end && blocks.start < other.end;
        let mut held = self
            .freed
            .wait_while(self.lock(), |held| held.iter().any(meets))
            .unwrap_or_else(PoisonError::into_inner);
        held.push(blocks.clone());
        Hold { claims: self, blocks }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut held = self.claims.lock();
        if let Some(index) = held.iter().position(|blocks| *blocks == self.blocks) {
            held.swap_remove(index);
        }
        self.claims.freed.notify_all();
    }
}
