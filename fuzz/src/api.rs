//! A client's request: the query that becomes a call, and the signature.

use ec2::query::Parameters;
use ec2::sign::{HttpRequest, Payload, Secret, verify};
use ec2::{Call, Service, Timestamp};

/// The query string in a line, the header fields in the following, the body after an empty one.
pub(crate) fn target(bytes: &[u8]) {
    if let Ok(parameters) = Parameters::parse(&[bytes]) {
        // A call, or a refusal that has a code.
        if let Err(error) = Call::decode(parameters) {
            assert!(!error.to_string().is_empty());
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let query = lines.next().unwrap_or_default();
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let payload = Payload::Bytes(body.as_bytes());
    let request = HttpRequest { method: "POST", path: "/", query, headers: &headers, payload };
    let find = |_: &str, _: Option<&str>| Some((Secret::new("a secret that nobody knows"), ()));
    let now = Timestamp::from_unix(1_800_000_000);
    assert!(verify(&request, Service::Ec2, "us-east-1", now, find).is_err(), "a forged signature holds");
}
