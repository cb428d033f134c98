//! The entropy device (virtio 1.2, 5.4): a guest hands buffers in and gets them back full of random bytes.

use std::io;
use std::os::fd::AsRawFd;

use super::device::{Active, Device, Kind, Stop, Wait};
use super::queue::{Broken, Ring};
use crate::memory::Memory;

/// Where random bytes come from: fills the buffer whole, without blocking.
pub trait Entropy: Send + 'static {
    /// Fills `buffer`.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()>;
}

/// One request gets at most so many bytes; a driver may be given fewer than it asked for.
const MOST: usize = 4096;
const QUEUE_SIZE: u16 = 64;

/// The device.
pub struct Rng<E>(pub E);

impl<E: Entropy> Rng<E> {
    fn serve(&mut self, ring: &mut Ring, memory: &Memory, stop: &Stop) -> Result<(), Broken> {
        while let Some(chain) = ring.next(memory)? {
            let mut bytes = [0; MOST];
            let wanted = &mut bytes[..chain.writable.len().min(MOST)];
            self.0.fill(wanted).map_err(|_| Broken("the host has no random bytes"))?;
            let written = chain.writable.copy_from(wanted);
            ring.complete(memory, chain.head, written)?;
            ring.publish(memory)?;
            if stop.said() {
                break;
            }
        }
        Ok(())
    }
}

impl<E: Entropy> Device for Rng<E> {
    fn kind(&self) -> Kind {
        Kind { id: 4, class: 0x00_ff_00, name: "entropy" }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    fn run(&mut self, active: &mut Active, stop: &Stop) -> Result<(), Broken> {
        let Some(ring) = active.rings.first_mut().and_then(Option::as_mut) else { return Ok(()) };
        let wait = Wait::new(stop, &[ring.bell.as_raw_fd()])?;
        while !stop.said() {
            self.serve(ring, &active.memory, stop)?;
            if !ring.arm(&active.memory)? {
                wait.wait()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::testing::Random;
    use crate::virtio::queue::tests::{BUFFERS, WRITE, descriptor, memory, ring, scramble};

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
            buffer.fill(7);
            Ok(())
        }
    }

    #[test]
    fn a_buffer_comes_back_full_but_never_more_than_the_most() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 16);
        let mut ring = ring(&mock);
        mock.build_desc_chain(&[
            descriptor(BUFFERS, 100, WRITE, 0),
            descriptor(BUFFERS + 0x1000, 0x8000, WRITE, 0),
        ])
        .unwrap();
        Rng(Sevens).serve(&mut ring, &memory, &Stop::new().unwrap()).unwrap();
        assert_eq!(mock.used().ring().ref_at(0).unwrap().load().len(), 4096);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(BUFFERS + 99)).unwrap(), 7);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(BUFFERS + 100)).unwrap(), 0);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(BUFFERS + 0x1000 + 3995)).unwrap(), 7);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(BUFFERS + 0x1000 + 3996)).unwrap(), 0);
    }

    #[test]
    fn scrambled_rings_end() {
        for seed in 0..100 {
            let memory = memory();
            let mock = MockSplitQueue::new(&memory, 16);
            scramble(&memory, &mock, 16, &mut Random::new(seed));
            let _ = Rng(Sevens).serve(&mut ring(&mock), &memory, &Stop::new().unwrap());
        }
    }
}
