//! Signatures against Amazon's published test vectors, against Amazon's own signer, and against forgers.

#![allow(clippy::unwrap_used, reason = "a test whose ground gives way should stop right there")]

mod common;

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use common::{LETTERS, Random};
use ec2::percent::encode;
use ec2::sign::{HttpRequest, Payload, Refusal, Scope, Secret, Signer, verify};
use ec2::{Service, Timestamp};

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: Timestamp = Timestamp::from_unix(1_440_938_160); // 2015-08-30T12:36:00Z
const EC2: Scope<'_> = Scope { region: "us-east-1", service: "ec2" };

fn signer(session_token: Option<&str>) -> Signer {
    let session_token = session_token.map(str::to_owned);
    Signer { access_key_id: KEY.to_owned(), secret: Secret::new(SECRET), session_token }
}

fn find(access_key_id: &str, _token: Option<&str>) -> Option<(Secret, &'static str)> {
    (access_key_id == KEY).then(|| (Secret::new(SECRET), "owner"))
}

/// What follows the last `=`, where headers and query strings have the signature.
fn signature(text: &str) -> &str {
    text.rsplit('=').next().unwrap()
}

type Headers = &'static [(&'static str, &'static str)];

/// Method, path, query string, headers, body, then the signatures in a header and in a query string, as published
/// in the test suite for Signature Version 4. All are signed for the service `service`, those in a query string for
/// an hour.
#[rustfmt::skip]
const VECTORS: &[(&str, &str, &str, Headers, &str, &str, &str)] = &[
    ("GET", "/", "", &[], "",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
     "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
    ("GET", "/example/..", "", &[], "",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
     "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
    ("GET", "//example//", "", &[], "",
     "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
     "c1834e8fb0307243711f0f907f6ab7311ed300d87f13792d7ee4da89ab93e082"),
    ("GET", "/example space/", "", &[], "",
     "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
     "7a1f416954786484c9824d93c1f26ef64acb9b1b6c9154d08c9f07d0e394abf6"),
    ("GET", "/\u{1234}", "", &[], "",
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
     "10eae3f14a260bd3911cc6d008d3c576d143b05b62f09782a7a4b37f52178e44"),
    ("GET", "/", "Param2=value2&Param1=value1", &[], "",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
     "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5"),
    ("GET", "/", "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=\
                  -._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", &[], "",
     "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
     "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf"),
    ("POST", "/", "Param1=value1", &[], "",
     "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
     "a9ef26247f293bffe40eeff86a0480ba8c14d31503b2e0c3399e3a16bf1a3682"),
    ("GET", "/", "", &[("My-Header1", "value4"), ("My-Header1", "value1"), ("My-Header1", "value3"),
                       ("My-Header1", "value2")], "",
     "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
     "313720e71ca6202fdcfa9b20f88de01a4eb0638a83c833b1c184359a4eda864e"),
    ("GET", "/", "", &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")], "",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
     "e7bb0fd515e125e1aec2ecc4c0c17484fb06f6846b927c35e46005dd3df3acd4"),
];

#[test]
fn the_published_vectors_hold() {
    let scope = Scope { region: "us-east-1", service: "service" };
    for &(method, path, query, headers, body, by_header, by_query) in VECTORS {
        let headers = [&[("Host", "example.amazonaws.com")], headers].concat();
        let payload = Payload::Bytes(body.as_bytes());
        let request = HttpRequest { method, path, query, headers: &headers, payload };
        let added = signer(None).headers(request, scope, NOW).unwrap();
        assert_eq!(signature(&added.last().unwrap().1), by_header, "{method} {path} {query} {headers:?}");
        let presigned = signer(None).presign(request, scope, NOW, 3600).unwrap();
        assert_eq!(signature(&presigned), by_query, "{method} {path} {query} {headers:?}");
    }
}

/// A random request: method, path with query string, query string, a header's value, body.
fn any_request(random: &mut Random) -> (&'static str, String, String, String, String) {
    let pair = |random: &mut Random| {
        let name = random.word(LETTERS, 5);
        format!("x{}={}", encode(&name), encode(&random.word(LETTERS, 8)))
    };
    let query = (0..random.below(4)).map(|_| pair(random)).collect::<Vec<_>>().join("&");
    let segment = |random: &mut Random| encode(&random.word(LETTERS, 5));
    let path = format!("/{}/{}", segment(random), segment(random));
    let value = random.word(&['a', ' ', ',', '=', '"', '~'], 10);
    let body = random.word(LETTERS, 40);
    let method = *random.pick(&["GET", "POST", "PUT"]);
    (method, path, query, value, body)
}

/// The signature of Amazon's own implementation, which is the newest one that many clients use.
fn amazon_signs(request: &HttpRequest<'_>, token: Option<&str>, presign: bool) -> String {
    let Payload::Bytes(body) = request.payload else { panic!("nothing else is tried") };
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    if presign {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
    }
    let identity = Credentials::new(KEY, SECRET, token.map(str::to_owned), None, "test").into();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.unix());
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(EC2.region)
        .name(EC2.service)
        .time(time)
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let url = format!("http://host{}?{}", request.path, request.query);
    let signable =
        SignableRequest::new(request.method, url, request.headers.iter().copied(), SignableBody::Bytes(body));
    sign(signable.unwrap(), &params).unwrap().into_parts().1
}

#[test]
fn amazons_own_signer_agrees() {
    let mut random = Random(5);
    for round in 0..500 {
        let (method, path, query, value, body) = any_request(&mut random);
        let token = random.pick(&[None, Some("token/+= ~")]).to_owned();
        let headers = [("host", "host"), ("x-own", value.as_str())];
        let payload = Payload::Bytes(body.as_bytes());
        let request = HttpRequest { method, path: &path, query: &query, headers: &headers, payload };

        let added = signer(token).headers(request, EC2, NOW).unwrap();
        assert_eq!(
            signature(&added.last().unwrap().1),
            amazon_signs(&request, token, false),
            "round {round}"
        );
        let mut all = headers.to_vec();
        all.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
        let signed = HttpRequest { headers: &all, ..request };
        let verified = verify(&signed, Service::Ec2, EC2.region, NOW, |id, session| {
            assert_eq!(session, token);
            find(id, session)
        });
        let verified = verified.unwrap();
        assert_eq!((verified.identity, verified.time, verified.presigned), ("owner", NOW, false));

        let presigned = signer(token).presign(request, EC2, NOW, 60).unwrap();
        assert_eq!(signature(&presigned), amazon_signs(&request, token, true), "round {round}");
        let signed = HttpRequest { query: &presigned, ..request };
        assert!(verify(&signed, Service::Ec2, EC2.region, NOW, find).unwrap().presigned);
    }
}

/// A signed request that somebody may change before it arrives.
struct Sent {
    headers: Vec<(String, String)>,
    query: String,
    body: Vec<u8>,
}

impl Sent {
    fn replace(&mut self, header: &str, from: &str, to: &str) {
        let header = self.headers.iter_mut().find(|(name, _)| name == header).unwrap();
        assert!(header.1.contains(from), "{header:?}");
        header.1 = header.1.replace(from, to);
    }

    fn add(&mut self, header: &str, value: &str) {
        self.headers.push((header.to_owned(), value.to_owned()));
    }
}

/// What becomes of a signed request that `change` had its way with: whether it was presigned, or why not.
fn judged(service: Service, now: Timestamp, change: impl FnOnce(&mut Sent)) -> Result<bool, Refusal> {
    let body = b"Action=DescribeVpcs&Version=2016-11-15";
    let headers = [("host", "h"), ("content-type", "text/plain")];
    let request = HttpRequest {
        method: "POST",
        path: "/",
        query: "a=1",
        headers: &headers,
        payload: Payload::Bytes(body),
    };
    let scope = Scope { region: EC2.region, service: service.signing_name() };
    let added = signer(None).headers(request, scope, NOW).unwrap();
    let own = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let headers = own.chain(added.into_iter().map(|(name, value)| (name.to_owned(), value))).collect();
    let mut sent = Sent { headers, query: request.query.to_owned(), body: body.to_vec() };
    change(&mut sent);
    let headers: Vec<_> = sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let payload = Payload::Bytes(&sent.body);
    let request = HttpRequest { query: &sent.query, headers: &headers, payload, ..request };
    verify(&request, service, EC2.region, now, find).map(|verified| verified.presigned)
}

#[test]
fn a_changed_request_is_refused() {
    let ec2 = |change: &dyn Fn(&mut Sent)| judged(Service::Ec2, NOW, |sent| change(sent));
    assert_eq!(ec2(&|_| {}), Ok(false));
    for mismatch in [
        ec2(&|sent| sent.body.push(b'x')),
        ec2(&|sent| sent.query.push('x')),
        ec2(&|sent| sent.replace("host", "h", "other")),
        ec2(&|sent| sent.replace("authorization", "Signature=", "Signature=0")),
    ] {
        assert_eq!(mismatch, Err(Refusal::Mismatch));
    }
    assert_eq!(
        ec2(&|sent| sent.replace("authorization", KEY, "AKIDOTHER")),
        Err(Refusal::UnknownKey("AKIDOTHER".into()))
    );
    assert_eq!(
        ec2(&|sent| sent.add("X-Amz-Target", "x")),
        Err(Refusal::UnsignedHeader("x-amz-target".into()))
    );
    assert_eq!(
        ec2(&|sent| sent.replace("authorization", "host;", "")),
        Err(Refusal::UnsignedHeader("host".into()))
    );
    for (from, to) in [("/us-east-1/", "/us-east-2/"), ("/ec2/", "/sts/"), ("20150830/", "20150831/")] {
        let refused = ec2(&|sent| sent.replace("authorization", from, to));
        assert!(matches!(refused, Err(Refusal::WrongScope(_))), "{refused:?}");
    }
}

#[test]
fn a_signature_that_is_not_in_order_is_refused() {
    let ec2 = |change: &dyn Fn(&mut Sent)| judged(Service::Ec2, NOW, |sent| change(sent));
    for name in ["authorization", "x-amz-date"] {
        let refused = ec2(&|sent| {
            let twice = sent.headers.iter().find(|(other, _)| other == name).unwrap().clone();
            sent.headers.push(twice);
        });
        assert!(matches!(refused, Err(Refusal::Incomplete(_))), "{refused:?}");
    }
    for (from, to) in [
        ("Credential=", "Crudential="),
        ("Signature=", "Credential=x, Signature="),
        ("/aws4_request", ""),
        (KEY, ""),
        ("content-type;host", "host;content-type"),
        ("content-type;host", "Content-Type;host"),
        ("content-type;", "content-type;content-type;"),
    ] {
        let refused = ec2(&|sent| sent.replace("authorization", from, to));
        assert!(matches!(refused, Err(Refusal::Incomplete(_))), "{from}: {refused:?}");
    }
    let without = |sent: &mut Sent| sent.headers.retain(|(name, _)| name != "authorization");
    assert_eq!(ec2(&without), Err(Refusal::NotSigned));
    let by_another_scheme = ec2(&|sent| sent.replace("authorization", "AWS4-HMAC-SHA256", "Basic"));
    assert_eq!(by_another_scheme, Err(Refusal::OtherScheme));
    let by_version_2 = ec2(&|sent| {
        without(sent);
        sent.query.push_str("&AWSAccessKeyId=x&SignatureVersion=2&Signature=x");
    });
    assert_eq!(by_version_2, Err(Refusal::OtherScheme));
}

#[test]
fn a_request_is_good_for_minutes() {
    for (service, minutes) in [(Service::Ec2, 15), (Service::Sts, 5)] {
        let at = |offset: i64| {
            let now = Timestamp::from_unix(NOW.unix().checked_add_signed(offset).unwrap());
            judged(service, now, |_| {}).is_ok()
        };
        let limit = minutes * 60;
        assert_eq!([at(-limit - 1), at(-limit), at(limit), at(limit + 1)], [false, true, true, false]);
    }
}

#[test]
fn a_presigned_request_is_good_for_as_long_as_it_says() {
    let headers = [("host", "h")];
    let request = HttpRequest {
        method: "GET",
        path: "/",
        query: "a=1",
        headers: &headers,
        payload: Payload::Bytes(b""),
    };
    let judge = |query: &str, now: u64| {
        let request = HttpRequest { query, ..request };
        verify(&request, Service::Ec2, EC2.region, Timestamp::from_unix(now), find)
    };
    let signed = NOW.unix();
    let query = signer(None).presign(request, EC2, NOW, 3600).unwrap();
    assert!(judge(&query, signed).is_ok());
    assert!(judge(&query, signed + 3600).is_ok());
    assert!(matches!(judge(&query, signed + 3601), Err(Refusal::Expired { .. })));
    assert!(matches!(judge(&query, signed - 901), Err(Refusal::Expired { .. })));
    assert_eq!(judge(&query.replace("Expires=3600", "Expires=3601"), signed), Err(Refusal::Mismatch));
    assert_eq!(judge(&query.replace("a=1", "a=2"), signed), Err(Refusal::Mismatch));
    assert_eq!(judge(&format!("{query}&b=2"), signed), Err(Refusal::Mismatch));
    for seconds in [0, 604_801] {
        let query = signer(None).presign(request, EC2, NOW, seconds).unwrap();
        assert!(matches!(judge(&query, signed), Err(Refusal::Incomplete(_))), "{seconds}");
    }
}

#[test]
fn an_unsigned_body_is_accepted_only_where_it_is_expected() {
    let judge = |signed: Payload<'_>, received: Payload<'_>| {
        let headers = [("host", "h")];
        let request =
            HttpRequest { method: "PUT", path: "/images/x", query: "", headers: &headers, payload: signed };
        let added = signer(None).headers(request, EC2, NOW).unwrap();
        let mut all = headers.to_vec();
        all.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
        let request = HttpRequest { headers: &all, payload: received, ..request };
        verify(&request, Service::Ec2, EC2.region, NOW, find).map(|verified| verified.identity)
    };
    assert_eq!(judge(Payload::Unsigned, Payload::Unsigned), Ok("owner"));
    assert_eq!(judge(Payload::Bytes(b"body"), Payload::Bytes(b"body")), Ok("owner"));
    assert!(matches!(judge(Payload::Unsigned, Payload::Bytes(b"body")), Err(Refusal::Incomplete(_))));
    assert!(matches!(judge(Payload::Bytes(b"body"), Payload::Unsigned), Err(Refusal::Incomplete(_))));
}

#[test]
fn a_stated_hash_of_the_body_must_be_the_right_one() {
    let judge = |stated: &str, body: &[u8]| {
        let headers = [("host", "h"), ("x-amz-content-sha256", stated)];
        let payload = Payload::Bytes(body);
        let request = HttpRequest { method: "PUT", path: "/", query: "", headers: &headers, payload };
        let added = signer(None).headers(request, EC2, NOW).unwrap();
        let mut all = headers.to_vec();
        all.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
        let request = HttpRequest { headers: &all, ..request };
        verify(&request, Service::Ec2, EC2.region, NOW, find).map(|verified| verified.identity)
    };
    let hash_of_body = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    assert_eq!(judge(hash_of_body, b"body"), Ok("owner"));
    assert_eq!(judge(hash_of_body, b"other"), Err(Refusal::Mismatch));
}

#[test]
fn refusals_have_ec2s_codes_and_statuses() {
    let expired = || Refusal::Expired { signed: NOW, now: NOW };
    for (refusal, ec2, sts) in [
        (Refusal::NotSigned, (403, "MissingAuthenticationToken"), (403, "MissingAuthenticationToken")),
        (Refusal::OtherScheme, (401, "AuthFailure"), (403, "SignatureDoesNotMatch")),
        (Refusal::Incomplete("x".into()), (400, "IncompleteSignature"), (400, "IncompleteSignature")),
        (Refusal::UnknownKey("x".into()), (401, "AuthFailure"), (403, "InvalidClientTokenId")),
        (Refusal::WrongScope("x".into()), (401, "AuthFailure"), (403, "SignatureDoesNotMatch")),
        (Refusal::UnsignedHeader("x".into()), (401, "AuthFailure"), (403, "SignatureDoesNotMatch")),
        (Refusal::Mismatch, (401, "AuthFailure"), (403, "SignatureDoesNotMatch")),
        (expired(), (400, "RequestExpired"), (403, "SignatureDoesNotMatch")),
    ] {
        for (service, (status, code)) in [(Service::Ec2, ec2), (Service::Sts, sts)] {
            let answer = refusal.answer(service);
            assert_eq!((answer.status(), answer.code()), (status, code), "{refusal:?}");
        }
    }
    assert!(!format!("{:?}", signer(None)).contains(SECRET));
}
