//! The VPC's resolver (AWS, *Amazon DNS server*): answers for names of the cloud's own, says which
//! questions to hand on to the host's resolver, and checks what comes back.
//!
//! ```text
//! question -> answer() -> Reply(bytes)       ours, or refused
//!                      -> Forward            the daemon asks upstream -> relay() or failure()
//!                      -> Ignore             not a question: answering answers makes loops
//! ```
//!
//! Nothing is kept between question and answer, so there is no cache to poison: a question is handed on
//! as it came, from a socket of its own, and [`relay`] lets through only what answers it. Host names
//! change with the VPC at once; clients may keep them for [`TTL`].
//!
//! Header and counts are looked at before the message is decoded: hickory makes room for as many
//! questions as the header claims.

mod transport;
mod zone;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

pub use transport::{Frame, LONGEST_QUERY, Transport, framed, next_frame};
pub use zone::VpcNames;

use transport::LONGEST_DATAGRAM;
use zone::{Content, Known};

/// How long an answer of ours may be kept, and the absence of one, in seconds; as long as EC2's.
pub const TTL: u32 = 60;

/// What to do with a message from a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send this back: an answer, or why there is none.
    Reply(Vec<u8>),
    /// Ask upstream with the message as it is, and send back what [`relay`] makes of the reply, or what
    /// [`failure`] says if there is none.
    Forward,
    /// Do nothing.
    Ignore,
}

/// Decides what to do with a message from a guest in a VPC. Our own replies fit into any datagram.
pub fn answer(message: &[u8], vpc: &impl VpcNames) -> Decision {
    let question = match Question::parse(message) {
        Ok(question) => question,
        Err(refusal) => return refusal.map_or(Decision::Ignore, Decision::Reply),
    };
    let reply = match question.check() {
        Err(code) => question.reply(code),
        Ok(()) => match zone::look_up(question.query.name(), vpc) {
            Some(known) => question.answered(known),
            None => return Decision::Forward,
        },
    };
    reply.to_vec().map_or(Decision::Ignore, Decision::Reply)
}

/// An upstream server's reply as it may go back to the guest: cut to what the guest takes. None if it
/// does not answer that question; the right one may still come. Datagrams must be read with room for more
/// than any guest takes (4096 bytes will do), or a reply that lost its end looks whole.
pub fn relay(question: &[u8], upstream: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let question = Question::parse(question).ok()?;
    let mut decoder = BinDecoder::new(upstream);
    let Header { metadata, counts } = Header::read(&mut decoder).ok()?;
    let fits = metadata.message_type == MessageType::Response
        && metadata.id == question.message.metadata.id
        && metadata.op_code == question.message.metadata.op_code
        && counts.queries == 1
        && question.is(&Query::read(&mut decoder).ok()?);
    if !fits {
        return None;
    }
    if upstream.len() <= question.longest_reply(transport) {
        return Some(upstream.to_vec());
    }
    let mut cut = question.reply(metadata.response_code);
    cut.metadata = metadata;
    cut.metadata.truncation = true;
    cut.to_vec().ok()
}

/// What a guest is told whose question nobody upstream answers. None if it is not a question.
pub fn failure(question: &[u8]) -> Option<Vec<u8>> {
    Question::parse(question).ok()?.reply(ResponseCode::ServFail).to_vec().ok()
}

/// A message that asks one thing.
struct Question {
    message: Message,
    query: Query,
}

impl Question {
    /// Reads a question. What is none is refused with a reply, or with none if it must not be answered.
    fn parse(bytes: &[u8]) -> Result<Self, Option<Vec<u8>>> {
        let Header { metadata, counts } = Header::read(&mut BinDecoder::new(bytes)).map_err(|_| None)?;
        if metadata.message_type != MessageType::Query {
            return Err(None);
        }
        let refuse = |code| {
            let mut refusal = Message::error_msg(metadata.id, metadata.op_code, code);
            refusal.metadata.recursion_desired = metadata.recursion_desired;
            refusal.to_vec().ok()
        };
        if metadata.op_code != OpCode::Query {
            return Err(refuse(ResponseCode::NotImp));
        }
        let well_formed =
            bytes.len() <= LONGEST_QUERY && (counts.queries, counts.answers, counts.authorities) == (1, 0, 0);
        let message = well_formed.then(|| Message::from_vec(bytes).ok()).flatten();
        let query = message.as_ref().and_then(|message| message.queries.first().cloned());
        match (message, query) {
            (Some(message), Some(query)) => Ok(Self { message, query }),
            _ => Err(refuse(ResponseCode::FormErr)),
        }
    }

    /// Questions that nobody gets an answer to: other than version 0 of EDNS (RFC 6891, 6.1.3), other
    /// classes than the Internet's, whole zones.
    fn check(&self) -> Result<(), ResponseCode> {
        if self.message.version() != 0 {
            return Err(ResponseCode::BADVERS);
        }
        match (self.query.query_class(), self.query.query_type()) {
            (DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => Err(ResponseCode::Refused),
            (DNSClass::IN, _) => Ok(()),
            _ => Err(ResponseCode::Refused),
        }
    }

    /// Whether another question is the same, capital letters aside.
    fn is(&self, other: &Query) -> bool {
        self.query.name().eq_ignore_root(other.name())
            && self.query.query_type() == other.query_type()
            && self.query.query_class() == other.query_class()
    }

    /// The longest reply the asker takes, in bytes.
    fn longest_reply(&self, transport: Transport) -> usize {
        match transport {
            Transport::Udp => self.message.max_payload().min(LONGEST_DATAGRAM).into(),
            Transport::Tcp => u16::MAX.into(),
        }
    }

    /// A reply without records.
    fn reply(&self, code: ResponseCode) -> Message {
        let asked = &self.message.metadata;
        let mut reply = Message::error_msg(asked.id, asked.op_code, code);
        reply.metadata.recursion_desired = asked.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.checking_disabled = asked.checking_disabled;
        reply.add_query(self.query.clone());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(LONGEST_DATAGRAM);
            reply.set_edns(edns);
        }
        reply
    }

    /// The reply for a name of ours: its record of the type asked for, or the zone's beginning, which
    /// says how long its absence may be kept (RFC 2308, 3).
    fn answered(&self, known: Known) -> Message {
        let code = match known.content {
            Content::Missing => ResponseCode::NXDomain,
            _ => ResponseCode::NoError,
        };
        let mut reply = self.reply(code);
        reply.metadata.authoritative = true;
        let wanted = |kind| [kind, RecordType::ANY].contains(&self.query.query_type());
        let data = match known.content {
            Content::Address(address) if wanted(RecordType::A) => Some(RData::A(A(address))),
            Content::Host(host) if wanted(RecordType::PTR) => Some(RData::PTR(PTR(host))),
            Content::Apex if wanted(RecordType::SOA) => Some(RData::SOA(zone_beginning(&known.zone))),
            _ => None,
        };
        match data {
            Some(data) => reply.add_answer(Record::from_rdata(self.query.name().clone(), TTL, data)),
            None => {
                let beginning = RData::SOA(zone_beginning(&known.zone));
                reply.add_authority(Record::from_rdata(known.zone, TTL, beginning))
            }
        };
        reply
    }
}

/// A zone's SOA record. It has neither servers nor transfers; only the last number means something.
fn zone_beginning(zone: &Name) -> SOA {
    let contact = zone.prepend_label("hostmaster").unwrap_or_else(|_| zone.clone());
    SOA::new(zone.clone(), contact, 1, 3600, 900, 604_800, TTL)
}
