//! The balloon (virtio 1.2, 5.5), of which only the part is used that needs nobody to steer it: a guest reports
//! the pages that it has free (5.5.6.7), and the host has their memory back.
//!
//! A report is a chain of writable buffers, each a run of free pages. The guest touches none of them before
//! the chain is given back, and whatever is in them afterwards is as good as anything. The balloon itself stays
//! empty: nobody asks the guest to fill it, and what it puts in all the same stays where it is.

use std::io;
use std::os::fd::AsRawFd;

use super::device::{Active, Device, Kind, Stop, Wait};
use super::queue::{Broken, Ring};
use crate::memory::{Memory, Piece};

/// Whoever takes memory back.
pub trait Reclaim: Send + 'static {
    /// Takes back what the host gave for this piece of guest memory, as far as it is whole pages of the host's. The guest
    /// finds something there when it looks again, zeros or what was there before. Called on the balloon's thread.
    fn reclaim(&mut self, piece: &Piece<'_>) -> io::Result<()>;
}

/// Feature bits (5.5.3).
mod feature {
    pub(super) const REPORTING: u32 = 5;
}

/// Linux reports 32 runs at a time, and does without where a queue does not hold them.
const QUEUE_SIZE: u16 = 64;
/// Inflating, deflating, and three that may be the one for reports: the specification numbers the queue after those for
/// statistics and hints even where these are not offered (5.5.2), and Linux counts only the queues that there are.
const QUEUES: usize = 5;
/// The first queue that may be the one for reports.
const REPORTS: usize = 2;

/// The device.
pub struct Balloon<R>(pub R);

impl<R: Reclaim> Balloon<R> {
    /// Gives all chains of a ring back, those that are reports after their memory was taken.
    fn serve(&mut self, ring: &mut Ring, memory: &Memory, reports: bool, stop: &Stop) -> Result<(), Broken> {
        while !stop.said()
            && let Some(chain) = ring.next(memory)?
        {
            if reports {
                // Memory that the host cannot take back now it takes back another time.
                let _ = chain.writable.pieces().iter().try_for_each(|piece| self.0.reclaim(piece));
            }
            ring.complete(memory, chain.head, 0)?;
            ring.publish(memory)?;
        }
        Ok(())
    }
}

impl<R: Reclaim> Device for Balloon<R> {
    fn kind(&self) -> Kind {
        Kind { id: 5, class: 0x00_ff_00, name: "balloon" }
    }

    fn features(&self) -> u64 {
        1 << feature::REPORTING
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; QUEUES]
    }

    /// `struct virtio_balloon_config` (5.5.4) as far as the features need it: no page is wanted, and how many there
    /// are nobody asks.
    fn config(&self) -> Vec<u8> {
        vec![0; 8]
    }

    fn run(&mut self, active: &mut Active, stop: &Stop) -> Result<(), Broken> {
        let Active { memory, rings, .. } = active;
        let bells: Vec<_> = rings.iter().flatten().map(|ring| ring.bell.as_raw_fd()).collect();
        let wait = Wait::new(stop, &bells)?;
        while !stop.said() {
            let mut more = false;
            for (queue, ring) in rings.iter_mut().enumerate() {
                if let Some(ring) = ring {
                    self.serve(ring, memory, queue >= REPORTS, stop)?;
                    more |= ring.arm(memory)?;
                }
            }
            if !more {
                wait.wait()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use virtio_queue::mock::MockSplitQueue;

    use super::*;
    use crate::testing::Random;
    use crate::virtio::queue::tests::{BUFFERS, MEMORY, WRITE, descriptor, memory, ring, scramble};

    /// Remembers how long the pieces were, and looks whether they are memory; fails when it is told to.
    #[derive(Default)]
    struct Host {
        taken: Vec<usize>,
        fails: bool,
    }

    impl Reclaim for Host {
        fn reclaim(&mut self, piece: &Piece<'_>) -> io::Result<()> {
            let mut byte = [0];
            assert!(piece.is_empty() || piece.copy_to(&mut byte) == 1);
            assert!(piece.len() <= MEMORY);
            self.taken.push(piece.len());
            if self.fails { Err(io::Error::other("as asked")) } else { Ok(()) }
        }
    }

    fn report(host: &mut Balloon<Host>, reports: bool) -> u16 {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 16);
        mock.build_desc_chain(&[
            descriptor(BUFFERS, 64, 0, 0), // what the device may only read is no free page
            descriptor(BUFFERS + 0x1000, 0x2000, WRITE, 0),
            descriptor(BUFFERS + 0x4000, 0x1000, WRITE, 0),
        ])
        .unwrap();
        host.serve(&mut ring(&mock), &memory, reports, &Stop::new().unwrap()).unwrap();
        mock.used().idx().load()
    }

    #[test]
    fn reported_pages_are_taken_and_others_are_not() {
        let mut balloon = Balloon(Host::default());
        assert_eq!(report(&mut balloon, false), 1);
        assert!(balloon.0.taken.is_empty());
        assert_eq!(report(&mut balloon, true), 1);
        assert_eq!(balloon.0.taken, [0x2000, 0x1000]);
    }

    #[test]
    fn a_host_that_cannot_take_them_now_does_not_hold_the_guest_up() {
        let mut balloon = Balloon(Host { fails: true, ..Host::default() });
        assert_eq!(report(&mut balloon, true), 1);
        assert_eq!(balloon.0.taken, [0x2000]);
    }

    #[test]
    fn scrambled_rings_end() {
        for seed in 0..200 {
            let memory = memory();
            let mock = MockSplitQueue::new(&memory, 16);
            scramble(&memory, &mock, 16, &mut Random::new(seed));
            let mut balloon = Balloon(Host::default());
            let _ = balloon.serve(&mut ring(&mock), &memory, true, &Stop::new().unwrap());
        }
    }
}
