//! Whatever arrives, nothing panics, and nothing takes long.

#![allow(clippy::unwrap_used, reason = "a test whose ground gives way should stop right there")]

mod common;

use common::{Chance, LETTERS, Random};
use ec2::actions::{Action, Call, Visitor, read_response, visit, write_request, write_response};
use ec2::query::Parameters;
use ec2::sign::{HttpRequest, Payload, Secret, verify};
use ec2::specimen::{Full, fill};
use ec2::xml::Document;
use ec2::{Error, Service, Timestamp, Version};

struct Mutate(Random);

impl Visitor for Mutate {
    fn visit<A: Action>(&mut self) {
        let body = write_request(&fill::<A>(&mut Full).unwrap(), false).unwrap();
        let response = fill(&mut Full).unwrap();
        let document = write_response::<A>(&response, Version::EC2, "id").unwrap();
        for _ in 0..300 {
            if let Ok(parameters) = Parameters::parse(&[&self.0.mutate(body.as_bytes())]) {
                // Either is right; that it returns is what is tested.
                drop(Call::decode(parameters));
            }
            if let Ok(text) = String::from_utf8(self.0.mutate(document.as_bytes())) {
                drop(read_response::<A>(&text));
                drop(Error::from_xml(400, &text));
            }
        }
    }
}

#[test]
fn requests_and_answers_with_errors_in_them() {
    visit(&mut Mutate(Random(1)));
}

#[test]
fn noise() {
    let mut random = Random(2);
    for _ in 0..20_000 {
        let text = random.word(LETTERS, 60);
        if let Ok(parameters) = Parameters::parse(&[text.as_bytes()]) {
            drop(Call::decode(parameters));
        }
        drop(Document::parse(&text));
        _ = Timestamp::parse(&text);
    }
}

/// Parsing is linear in the number of parameters, and a tree of them is dropped without deep recursion.
#[test]
fn the_largest_requests_are_refused_or_read_at_once() {
    let many = |name: &str| -> String { (1..4000).map(|index| format!("{name}.{index}=x&")).collect() };
    let begin = std::time::Instant::now();
    for name in ["InstanceId", "Filter", "Filter.1.Value", "A.B.C.D.E.F.G.H"] {
        let body = format!("Action=DescribeInstances&Version=2016-11-15&{}", many(name));
        let call = Call::decode(Parameters::parse(&[body.as_bytes()]).unwrap());
        assert_eq!(call.is_ok(), name == "InstanceId", "{name}");
    }
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

#[test]
fn authorization_headers_with_errors_in_them() {
    let mut random = Random(3);
    let header = "AWS4-HMAC-SHA256 Credential=AKID/20150830/us-east-1/ec2/aws4_request, \
                  SignedHeaders=host;x-amz-date, Signature=00";
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20150830%2Fus-east-1%2Fec2%2Faws4_request\
                 &X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
    let now = Timestamp::from_unix(1_440_938_160);
    for _ in 0..20_000 {
        let (header, query) = (random.mutate(header.as_bytes()), random.mutate(query.as_bytes()));
        let (header, query) = (String::from_utf8_lossy(&header), String::from_utf8_lossy(&query));
        let signed = [("host", "h"), ("x-amz-date", "20150830T123600Z"), ("authorization", &*header)];
        for (headers, query) in [(&signed[..], ""), (&signed[..1], &*query)] {
            let payload = Payload::Bytes(b"");
            let request = HttpRequest { method: "GET", path: "/", query, headers, payload };
            let find = |_: &str, _: Option<&str>| Some((Secret::new("secret"), ()));
            assert!(verify(&request, Service::Ec2, "us-east-1", now, find).is_err());
        }
    }
}

/// What a client is told goes through XML whole, or with what XML cannot say replaced.
#[test]
fn refusals_may_quote_anything() {
    let mut chance = Chance { random: Random(4), always: true };
    for round in 0..5000 {
        let said = ec2::specimen::Choices::text(&mut chance, "");
        let error = Error::invalid_parameter_value("Name", &said, "Expected something else.");
        for service in [Service::Ec2, Service::Sts] {
            let read = Error::from_xml(400, &error.to_xml(service, "id"));
            assert_eq!(read, Ok((error.clone(), "id".to_owned())), "round {round}");
        }
    }
    let controls = Error::new(400, "Code", "a\0b\u{1}c\u{1f}d\u{fffe}e");
    let (read, _) = Error::from_xml(400, &controls.to_xml(Service::Ec2, "id")).unwrap();
    assert_eq!(read.message(), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e");
}
