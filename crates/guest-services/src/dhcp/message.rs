//! DHCP messages as bytes (RFC 2131, 2; options RFC 2132): reading a client's, writing ours.
//!
//! ```text
//! op htype hlen hops | xid:4 | secs:2 flags:2 | ciaddr:4 | yiaddr:4 | siaddr:4 | giaddr:4
//! chaddr:16 | sname:64 | file:128 | magic:4 | options: (code length value…)… end
//! ```
//!
//! Reading is our own because it faces guests: dhcproto 0.15 panics on messages that any guest can
//! send (a hardware address longer than its field, options of odd lengths in debug builds), and its
//! messages draw random numbers when they are made. In the tests it is the second opinion.

use std::net::Ipv4Addr;

/// The longest message that is looked at, in bytes: what fits into an Ethernet packet.
const LONGEST: usize = 1500;
/// Where options begin.
const HEAD: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// BOOTP's length; some clients take nothing shorter (RFC 1542, 2.1).
const SHORTEST: usize = 300;
/// Bytes of IP and UDP header; option 57 counts them.
const HEADERS: usize = 28;
/// What every client must be able to take, in bytes with IP header (RFC 2131, 2).
const SMALLEST_MAXIMUM: usize = 576;

/// Option codes that we read or write, by their names in RFC 2132.
pub(super) mod code {
    pub(in crate::dhcp) const SUBNET_MASK: u8 = 1;
    pub(in crate::dhcp) const ROUTER: u8 = 3;
    pub(in crate::dhcp) const DOMAIN_NAME_SERVER: u8 = 6;
    pub(in crate::dhcp) const HOST_NAME: u8 = 12;
    pub(in crate::dhcp) const DOMAIN_NAME: u8 = 15;
    pub(in crate::dhcp) const INTERFACE_MTU: u8 = 26;
    pub(in crate::dhcp) const BROADCAST_ADDRESS: u8 = 28;
    pub(in crate::dhcp) const NTP_SERVERS: u8 = 42;
    pub(in crate::dhcp) const REQUESTED_ADDRESS: u8 = 50;
    pub(in crate::dhcp) const LEASE_TIME: u8 = 51;
    pub(in crate::dhcp) const MESSAGE_TYPE: u8 = 53;
    pub(in crate::dhcp) const SERVER_IDENTIFIER: u8 = 54;
    pub(in crate::dhcp) const PARAMETER_LIST: u8 = 55;
    pub(in crate::dhcp) const MAXIMUM_SIZE: u8 = 57;
    pub(in crate::dhcp) const RENEWAL_TIME: u8 = 58;
    pub(in crate::dhcp) const REBINDING_TIME: u8 = 59;
    pub(in crate::dhcp) const CLIENT_IDENTIFIER: u8 = 61;
    /// RFC 3442.
    pub(in crate::dhcp) const CLASSLESS_STATIC_ROUTE: u8 = 121;
    pub(in crate::dhcp) const PAD: u8 = 0;
    pub(in crate::dhcp) const END: u8 = 255;
}

/// Message types (RFC 2132, 9.6).
pub(super) mod kind {
    pub(in crate::dhcp) const DISCOVER: u8 = 1;
    pub(in crate::dhcp) const OFFER: u8 = 2;
    pub(in crate::dhcp) const REQUEST: u8 = 3;
    pub(in crate::dhcp) const ACK: u8 = 5;
    pub(in crate::dhcp) const NAK: u8 = 6;
    pub(in crate::dhcp) const INFORM: u8 = 8;
}

/// What we look at in a client's message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    xid: [u8; 4],
    flags: [u8; 2],
    /// The client's own address, if it has one already.
    pub(super) client: Option<Ipv4Addr>,
    /// The client's link address.
    pub(super) mac: [u8; 6],
    /// One of [`kind`], or another.
    pub(super) kind: u8,
    /// The address it asks for (option 50).
    pub(super) requested: Option<Ipv4Addr>,
    /// The server it speaks to (option 54).
    pub(super) server: Option<Ipv4Addr>,
    /// The options it wants to hear of (option 55).
    wants: &'a [u8],
    identifier: &'a [u8],
    /// The longest answer it takes, in bytes without IP and UDP header.
    longest_answer: usize,
}

impl<'a> Request<'a> {
    /// Reads a client's message. None for what is none, is broken, is not Ethernet's or comes through a
    /// relay. Of an option that is there twice the first counts.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, options) = bytes.split_first_chunk::<HEAD>().filter(|_| bytes.len() <= LONGEST)?;
        let address = |at: usize| Some(Ipv4Addr::from(*head.get(at..)?.first_chunk::<4>()?));
        let from_ethernet_client = head[0..3] == [1, 1, 6] && head[236..] == MAGIC;
        if !from_ethernet_client || !address(24)?.is_unspecified() {
            return None;
        }
        let mut request = Self {
            xid: *head[4..].first_chunk()?,
            flags: *head[10..].first_chunk()?,
            client: address(12).filter(|address| !address.is_unspecified()),
            mac: *head[28..].first_chunk()?,
            kind: 0,
            requested: None,
            server: None,
            wants: &[],
            identifier: &[],
            longest_answer: SMALLEST_MAXIMUM - HEADERS,
        };
        request.read_options(options)?;
        Some(request)
    }

    fn read_options(&mut self, mut options: &'a [u8]) -> Option<()> {
        let mut seen = [false; 256];
        while let Some((&code, rest)) = options.split_first() {
            match code {
                code::END => break,
                code::PAD => options = rest,
                code => {
                    let (&length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(length.into())?;
                    if !std::mem::replace(&mut seen[usize::from(code)], true) {
                        self.read_option(code, value)?;
                    }
                    options = rest;
                }
            }
        }
        Some(())
    }

    fn read_option(&mut self, code: u8, value: &'a [u8]) -> Option<()> {
        let address = || <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
        match code {
            code::MESSAGE_TYPE => [self.kind] = value.try_into().ok()?,
            code::REQUESTED_ADDRESS => self.requested = Some(address()?),
            code::SERVER_IDENTIFIER => self.server = Some(address()?),
            code::PARAMETER_LIST => self.wants = value,
            code::CLIENT_IDENTIFIER => self.identifier = value,
            code::MAXIMUM_SIZE => {
                let maximum = usize::from(u16::from_be_bytes(value.try_into().ok()?));
                self.longest_answer = maximum.clamp(SMALLEST_MAXIMUM, LONGEST) - HEADERS;
            }
            _ => {}
        }
        Some(())
    }

    /// Whether the client asks for an answer that all hear, as it cannot take another yet.
    pub(super) fn wants_broadcast(&self) -> bool {
        self.flags[0] & 0x80 != 0
    }

    /// Whether the client wants to hear of an option.
    pub(super) fn wants(&self, code: u8) -> bool {
        self.wants.contains(&code)
    }
}

/// An answer in the making.
pub(super) struct Answer {
    bytes: Vec<u8>,
    longest: usize,
}

impl Answer {
    /// Begins an answer of a [`kind`] to a request, from a server. `client` and `yours` are the fields
    /// `ciaddr` and `yiaddr`. A client's identifier is said back (RFC 6842).
    pub(super) fn new(
        to: &Request<'_>,
        kind: u8,
        server: Ipv4Addr,
        client: Option<Ipv4Addr>,
        yours: Option<Ipv4Addr>,
    ) -> Self {
        let mut head = [0; HEAD];
        let mut put = |at: usize, value: &[u8]| head[at..at + value.len()].copy_from_slice(value);
        put(0, &[2, 1, 6, 0]);
        put(4, &to.xid);
        put(10, &to.flags);
        put(12, &client.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        put(16, &yours.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        put(28, &to.mac);
        put(236, &MAGIC);
        let mut answer = Self { bytes: head.to_vec(), longest: to.longest_answer };
        answer.option(code::MESSAGE_TYPE, &[kind]);
        answer.addresses(code::SERVER_IDENTIFIER, &[server]);
        answer.option(code::CLIENT_IDENTIFIER, to.identifier);
        answer
    }

    /// Adds an option. It is left out if it is empty, or if it no longer fits into what the client
    /// takes: callers begin with what matters most.
    pub(super) fn option(&mut self, code: u8, value: &[u8]) {
        let Ok(length @ 1..) = u8::try_from(value.len()) else { return };
        // Code and length before it, an end after it.
        if self.bytes.len() + 2 + value.len() < self.longest {
            self.bytes.extend([code, length]);
            self.bytes.extend(value);
        }
    }

    /// Adds an option that is a list of addresses.
    pub(super) fn addresses(&mut self, code: u8, addresses: &[Ipv4Addr]) {
        self.option(code, &addresses.iter().flat_map(Ipv4Addr::octets).collect::<Vec<u8>>());
    }

    /// Adds an option that is a number of seconds.
    pub(super) fn seconds(&mut self, code: u8, seconds: u32) {
        self.option(code, &seconds.to_be_bytes());
    }

    /// The finished message.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(code::END);
        self.bytes.resize(self.bytes.len().max(SHORTEST), 0);
        self.bytes
    }
}
