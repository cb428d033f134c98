//! Files that forget, at a power cut, what was not synced.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::Random;
use crate::header::Header;
use crate::part::Part;
use crate::parts::Access;
use crate::volume::Volume;

/// The power that all files of a disk share: so many effects, then none.
#[derive(Clone, Default)]
struct Power(Arc<AtomicI64>);

impl Power {
    /// Takes one effect's worth; false once there is none left.
    fn spend(&self) -> io::Result<()> {
        match self.0.fetch_sub(1, Ordering::Relaxed) {
            left if left > 0 => Ok(()),
            _ => Err(io::Error::other("the power is off")),
        }
    }
}

/// A file of which each piece of `grain` bytes, after a power cut, is as at the last sync or as at any moment since.
#[derive(Clone)]
struct SimFile {
    grain: usize,
    /// Bytes at the front that are one piece.
    head: usize,
    power: Power,
    state: Arc<Mutex<State>>,
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

/// What happens once, just before the next write or just after the next sync.
type Meanwhile = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    now: Vec<u8>,
    /// The length at the last sync.
    durable: usize,
    /// What each piece written since the last sync has been, the durable one first.
    history: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl SimFile {
    fn change(&self, range: Range<u64>, new: &[u8]) -> io::Result<()> {
        // Cut in the middle of an effect, some of it may have happened: applied, then refused.
        let lit = self.power.spend();
        let mut state = self.state.lock().unwrap();
        let State { now, history, .. } = &mut *state;
        let (start, end) = (range.start as usize, range.end as usize);
        let pieces = start / self.grain..end.div_ceil(self.grain);
        let whole = |piece: usize, all: &[u8]| piece * self.grain..((piece + 1) * self.grain).min(all.len());
        let head = now[..self.head].to_vec();
        let before = now[whole(pieces.start, now).start..whole(pieces.end.max(1) - 1, now).end].to_vec();
        now[start..end].copy_from_slice(new);
        for (piece, before) in pieces.zip(before.chunks(self.grain)) {
            let after = &now[whole(piece, now)];
            if before != after && piece * self.grain >= self.head {
                history.entry(piece).or_insert_with(|| vec![before.to_vec()]).push(after.to_vec());
            }
        }
        if head != now[..self.head] {
            history.entry(0).or_insert_with(|| vec![head]).push(now[..self.head].to_vec());
        }
        lit
    }

    fn meanwhile(&self) {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
    }

    fn cut(&self, random: &mut Random) {
        let mut state = self.state.lock().unwrap();
        for (piece, versions) in std::mem::take(&mut state.history) {
            let kept = &versions[random.below(versions.len() as u64) as usize];
            let at = piece * self.grain;
            state.now[at..at + kept.len()].copy_from_slice(kept);
        }
        if random.below(2) == 0 {
            let durable = state.durable;
            state.now.truncate(durable);
        }
        state.durable = state.now.len();
    }
}

impl Part for SimFile {
    fn read(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        // One buffer at a time: whoever reads must go on after a short answer.
        let state = self.state.lock().unwrap();
        let Some(buffer) = buffers.first_mut() else { return Ok(0) };
        let from = state.now.get(offset as usize..).unwrap_or_default();
        let length = buffer.len().min(from.len());
        buffer[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    fn write(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.meanwhile();
        // Short answers, as the kernel may give, but at the end of a sector: that it does not tear.
        let mut bytes = buffers.iter().map(|buffer| &buffer[..]).collect::<Vec<_>>().concat();
        bytes.truncate(8192 - offset as usize % 8192);
        self.change(offset..offset + bytes.len() as u64, &bytes)?;
        Ok(bytes.len())
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let zeros = vec![0; (range.end - range.start) as usize];
        self.change(range, &zeros)
    }

    fn lengthen(&self, bytes: u64) -> io::Result<()> {
        let lit = self.power.spend();
        self.state.lock().unwrap().now.resize(bytes as usize, 0);
        lit
    }

    fn sync(&self) -> io::Result<()> {
        self.power.spend()?;
        {
            let mut state = self.state.lock().unwrap();
            state.history.clear();
            state.durable = state.now.len();
        }
        self.meanwhile();
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().now.len() as u64)
    }
}

/// The files of one volume. `data` tears at sectors; `map`, but for its header, even at words, which is worse than any
/// disk.
pub(super) struct SimDisk {
    data: SimFile,
    map: SimFile,
    base: Option<SimFile>,
    power: Power,
}

impl SimDisk {
    pub(super) fn new(size: u64, base: Option<Vec<u8>>) -> Self {
        let header = Header::new(size, base.as_ref().map(|base| base.len() as u64)).unwrap();
        let mut map = vec![0; header.map_bytes() as usize];
        map[..4096].copy_from_slice(&header.page());
        let power = Power::default();
        let file = |now: Vec<u8>, grain, head| SimFile {
            grain,
            head,
            power: power.clone(),
            state: Arc::new(Mutex::new(State { durable: now.len(), now, history: BTreeMap::new() })),
            meanwhile: Arc::default(),
        };
        let data = file(vec![0; size as usize], 512, 0);
        let (map, base) = (file(map, 8, 512), base.map(|base| file(base, 512, 0)));
        let disk = Self { data, map, base, power };
        disk.power_for(i64::MAX);
        disk
    }

    /// Lets so many writes, punches and syncs happen before the power goes.
    pub(super) fn power_for(&self, effects: i64) {
        self.power.0.store(effects, Ordering::Relaxed);
    }

    /// Whether the power is gone.
    pub(super) fn is_dark(&self) -> bool {
        self.power.0.load(Ordering::Relaxed) < 0
    }

    /// Does something once, just before the next write to `data` or just after its next sync.
    pub(super) fn meanwhile(&self, what: impl FnOnce() + Send + 'static) {
        *self.data.meanwhile.lock().unwrap() = Some(Box::new(what));
    }

    /// Loses what a power cut loses, and switches on again.
    pub(super) fn cut(&self, random: &mut Random) {
        self.data.cut(random);
        self.map.cut(random);
        self.power_for(i64::MAX);
    }

    pub(super) fn open(&self) -> Volume {
        let boxed = |file: &SimFile| Box::new(file.clone()) as Box<dyn Part>;
        Volume::over(boxed(&self.data), boxed(&self.map), self.base.as_ref().map(boxed), Access::Write)
            .unwrap()
    }
}
