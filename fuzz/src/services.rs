//! DHCP, DNS and metadata requests of a guest, and answers of a resolver that lies.

use std::net::Ipv4Addr;

use guest_services::dns::{Frame, Transport, VpcNames};
use guest_services::metadata::{Request, Sessions};
use guest_services::view::InstanceView;
use guest_services::{dhcp, dns, metadata};
use jiff::Timestamp;

/// A view as the daemon would write it.
const VIEW: &str = include_str!("view.json");

struct Vpc;

impl VpcNames for Vpc {
    fn region(&self) -> &str {
        "us-east-1"
    }
    fn covers(&self, address: Ipv4Addr) -> bool {
        address.octets()[0] == 172
    }
    fn is_private(&self, address: Ipv4Addr) -> bool {
        address == Ipv4Addr::new(172, 31, 0, 4)
    }
    fn public_target(&self, public: Ipv4Addr) -> Option<Ipv4Addr> {
        (public.octets()[0] == 198).then(|| Ipv4Addr::new(172, 31, 0, 4))
    }
}

fn view() -> InstanceView {
    serde_json::from_str(VIEW).unwrap_or_else(|error| panic!("the view is none: {error}"))
}

/// Which service, and what is sent to it.
pub(crate) fn target(bytes: &[u8]) {
    let Some((which, message)) = bytes.split_first() else { return };
    match which % 4 {
        0 => {
            let view = view();
            let _ = dhcp::answer(message, Ipv4Addr::UNSPECIFIED, |_| Some(&view.primary));
        }
        1 => {
            let _ = dns::answer(message, &Vpc);
            let _ = dns::failure(message);
            if let Frame::Message(one, rest) = dns::next_frame(message) {
                assert_eq!(dns::framed(one).map(|framed| framed.len() + rest.len()), Some(message.len()));
            }
        }
        2 => {
            let (question, answer) = message.split_at(message.len() / 2);
            let _ = dns::relay(question, answer, Transport::Udp);
            let _ = dns::relay(question, answer, Transport::Tcp);
        }
        _ => ask_metadata(message),
    }
}

/// Lines: method, path, then values of headers.
fn ask_metadata(message: &[u8]) {
    let mut lines = message.split(|byte| *byte == b'\n');
    let text = |line: Option<&[u8]>| String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
    let (method, path) = (text(lines.next()), text(lines.next()));
    let [token, ttl, forwarded] = std::array::from_fn(|_| lines.next());
    let request = Request::new(&method, &path, |name| match name {
        "x-aws-ec2-metadata-token" => token,
        "x-aws-ec2-metadata-token-ttl-seconds" => ttl,
        _ => forwarded,
    });
    let sessions = Sessions { secret: &[7; 32], now: Timestamp::UNIX_EPOCH, nonce: [1; 8] };
    let answer = metadata::answer(&request, &view(), sessions);
    assert!((200..600).contains(&answer.status));
}
