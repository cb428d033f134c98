//! The control queue (virtio 1.2, 5.1.6.5): a driver says how many pairs of queues it uses.
//!
//! A command is a class, a number and what belongs to it; the answer is one byte. Whatever is none, or is about what was
//! not offered, is answered with an error.

use super::TURN;
use crate::memory::Memory;
use crate::virtio::queue::{Broken, Chain, Ring};

/// Answers.
const OK: u8 = 0;
const ERROR: u8 = 1;
/// The class about several pairs, and its command that sets how many (5.1.6.5.5).
const CLASS_PAIRS: u8 = 4;
const SET_PAIRS: u8 = 0;
/// Bytes of the only command that there is: class, number, how many.
const COMMAND: usize = 4;

/// Answers what is asked, as long as it is our turn. `in_use` is how many of the pairs the driver uses; there are `there`.
/// Whether the turn ended first.
pub(super) fn serve(
    ring: &mut Ring,
    memory: &Memory,
    there: usize,
    in_use: &mut usize,
) -> Result<bool, Broken> {
    for _ in 0..TURN {
        let Some(Chain { head, readable, writable }) = ring.next(memory)? else { return ring.arm(memory) };
        if writable.is_empty() {
            return Err(Broken("a control command leaves no room for its answer"));
        }
        // One byte more, so that what is longer shows.
        let mut bytes = [0; COMMAND + 1];
        let len = readable.copy_to(&mut bytes);
        let wish = bytes.get(..len).and_then(|command| pairs_wished(command, there));
        *in_use = wish.unwrap_or(*in_use);
        let written = writable.copy_from(&[if wish.is_some() { OK } else { ERROR }]);
        ring.complete(memory, head, written)?;
        ring.publish(memory)?;
    }
    Ok(true)
}

/// How many pairs a command asks for, if it does, of as many as there are.
fn pairs_wished(command: &[u8], there: usize) -> Option<usize> {
    match *command {
        [CLASS_PAIRS, SET_PAIRS, low, high] => {
            Some(usize::from(u16::from_le_bytes([low, high]))).filter(|pairs| (1..=there).contains(pairs))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::testing::Random;
    use crate::virtio::queue::tests::{BUFFERS, NEXT, WRITE, descriptor, memory, ring, scramble};

    #[test]
    fn only_what_was_offered_is_agreed_to() {
        for (command, wished) in [
            (&[4, 0, 1, 0][..], Some(1)),
            (&[4, 0, 4, 0], Some(4)),
            (&[4, 0, 5, 0], None),
            (&[4, 0, 0, 0], None),
            (&[4, 0, 1, 1], None),
            (&[4, 1, 1, 0], None),
            (&[0, 0, 1, 0], None),
            (&[4, 0, 1], None),
            (&[4, 0, 1, 0, 0], None),
            (&[], None),
        ] {
            assert_eq!(pairs_wished(command, 4), wished, "{command:?}");
        }
    }

    #[test]
    fn every_command_is_answered() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 16);
        // The command in two parts, as drivers send it.
        memory.write_slice(&[4, 0, 3, 0, 0xaa, 0xaa], GuestAddress(BUFFERS)).unwrap();
        mock.build_desc_chain(&[
            descriptor(BUFFERS, 2, 0, 0),
            descriptor(BUFFERS + 2, 2, 0, 0),
            descriptor(BUFFERS + 4, 1, WRITE, 0),
        ])
        .unwrap();
        let mut in_use = 1;
        let mut one = ring(&mock);
        assert_eq!(serve(&mut one, &memory, 4, &mut in_use), Ok(false));
        assert_eq!((in_use, memory.read_obj::<u8>(GuestAddress(BUFFERS + 4)).unwrap()), (3, OK));
        memory.write_slice(&[9], GuestAddress(BUFFERS + 2)).unwrap();
        let unknown = [descriptor(BUFFERS, 4, NEXT, 9), descriptor(BUFFERS + 4, 2, WRITE, 0)];
        mock.add_desc_chains(&unknown, 8).unwrap();
        assert_eq!(serve(&mut one, &memory, 4, &mut in_use), Ok(false));
        assert_eq!((in_use, memory.read_obj::<u8>(GuestAddress(BUFFERS + 4)).unwrap()), (3, ERROR));
        assert_eq!(memory.read_obj::<u8>(GuestAddress(BUFFERS + 5)).unwrap(), 0xaa);
        assert_eq!(mock.used().idx().load(), 2);
    }

    #[test]
    fn what_leaves_no_room_for_an_answer_breaks_the_device() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 16);
        mock.build_desc_chain(&[descriptor(BUFFERS, 4, 0, 0)]).unwrap();
        assert!(serve(&mut ring(&mock), &memory, 2, &mut 1).is_err());
    }

    #[test]
    fn scrambled_rings_end_and_pairs_stay_those_that_there_are() {
        for seed in 0..300 {
            let memory = memory();
            let mock = MockSplitQueue::new(&memory, 32);
            let mut random = Random::new(seed);
            scramble(&memory, &mock, 32, &mut random);
            let mut in_use = 1;
            let mut ring = ring(&mock);
            while serve(&mut ring, &memory, 3, &mut in_use) == Ok(true) {}
            assert!((1..=3).contains(&in_use), "seed {seed}");
        }
    }
}
