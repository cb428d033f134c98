//! How DNS messages travel: how long they may be, and how TCP tells them apart.

/// The longest question that is read, in bytes. Real ones are a third of it.
pub const LONGEST_QUERY: usize = 1232;

/// The longest answer we send by UDP to those who say that they take more than 512 bytes: what passes
/// every link unfragmented (DNS flag day 2020).
pub(super) const LONGEST_DATAGRAM: u16 = 1232;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram; a longer answer is cut and says so.
    Udp,
    /// In a stream.
    Tcp,
}

/// What is at the beginning of a stream's bytes (RFC 1035, 4.2.2: two bytes of length, then the message).
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Not all of a message yet.
    Incomplete,
    /// A message, and what follows it.
    Message(&'a [u8], &'a [u8]),
    /// A length that no question of ours has: the stream should be closed.
    Invalid,
}

/// Looks for a question at the beginning of a stream's bytes.
pub fn next_frame(stream: &[u8]) -> Frame<'_> {
    let Some((length, rest)) = stream.split_first_chunk() else { return Frame::Incomplete };
    match usize::from(u16::from_be_bytes(*length)) {
        length @ 1..=LONGEST_QUERY => match rest.split_at_checked(length) {
            Some((message, rest)) => Frame::Message(message, rest),
            None => Frame::Incomplete,
        },
        _ => Frame::Invalid,
    }
}

/// A message as it goes into a stream. None if it is longer than a stream can say.
pub fn framed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes(), message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_the_messages_it_was_made_of() {
        let stream = [framed(b"one").unwrap(), framed(b"three").unwrap()].concat();
        let Frame::Message(b"one", rest) = next_frame(&stream) else { panic!() };
        let Frame::Message(b"three", b"") = next_frame(rest) else { panic!() };
        for cut in 0..5 {
            assert_eq!(next_frame(&stream[..cut]), Frame::Incomplete);
        }
    }

    #[test]
    fn a_length_of_nothing_or_too_much_closes_the_stream() {
        assert_eq!(next_frame(&[0, 0]), Frame::Invalid);
        assert_eq!(next_frame(&[0xff, 0xff, 1, 2, 3]), Frame::Invalid);
        assert_eq!(framed(&vec![0; 65_536]), None);
        assert_eq!(framed(&vec![0; 65_535]).map(|bytes| bytes.len()), Some(65_537));
    }
}
