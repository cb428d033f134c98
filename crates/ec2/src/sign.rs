//! Signature Version 4: to sign requests and to verify them, as pure functions.
//!
//! Both sides build the same canonical request ([`canonical`]) from the method, path, query string, chosen headers
//! and body, and the same key from the secret, the day, the region and the service; what travels is an HMAC. The
//! clock and the secrets are handed in. Specification:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

mod canonical;
mod verify;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub use verify::{Refusal, Verified, verify};

use crate::percent::{self, BadEscape};
use crate::time::Timestamp;

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// An HTTP request as far as signatures cover it.
#[derive(Debug, Clone, Copy)]
pub struct HttpRequest<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path as sent, still percent-encoded: `/`.
    pub path: &'a str,
    /// The query string as sent, without its question mark.
    pub query: &'a str,
    /// Names in any case, and values. `host` must be among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub payload: Payload<'a>,
}

impl<'a> HttpRequest<'a> {
    /// All values of a header, in their order.
    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let matching = move |(other, _): &&(&str, &str)| other.eq_ignore_ascii_case(name);
        self.headers.iter().filter(matching).map(|(_, value)| *value)
    }
}

/// What a signature says about the body.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// The body itself, which the signature covers.
    Bytes(&'a [u8]),
    /// A stream that the signature does not cover, such as an upload, which must be protected otherwise. The
    /// request says so in `x-amz-content-sha256: UNSIGNED-PAYLOAD`.
    Unsigned,
}

impl Payload<'_> {
    /// The body's place in the canonical request.
    fn hash(self) -> String {
        match self {
            Self::Bytes(bytes) => hex(&Sha256::digest(bytes)),
            Self::Unsigned => UNSIGNED_PAYLOAD.to_owned(),
        }
    }
}

/// Where a signature is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// `us-east-1`, …
    pub region: &'a str,
    /// `ec2`, `sts`: see [`Service::signing_name`](crate::Service::signing_name).
    pub service: &'a str,
}

/// A secret access key. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the key as the user writes it.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The signature of a canonical request.
    fn signature(&self, scope: Scope<'_>, time: Timestamp, canonical_request: &str) -> [u8; 32] {
        let (stamp, day) = (time.basic(), day(time));
        let mut key = hmac(format!("AWS4{}", self.0).as_bytes(), &day);
        for part in [scope.region, scope.service, "aws4_request"] {
            key = hmac(&key, part);
        }
        let hash = hex(&Sha256::digest(canonical_request));
        hmac(&key, &format!("{ALGORITHM}\n{stamp}\n{}\n{hash}", scope_text(scope, &day)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// The day of a signature: `20261121`.
fn day(time: Timestamp) -> String {
    time.basic()[..8].to_owned()
}

fn scope_text(scope: Scope<'_>, day: &str) -> String {
    format!("{day}/{}/{}/aws4_request", scope.region, scope.service)
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Someone who signs requests.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The public half of the key pair: `AKIA…`.
    pub access_key_id: String,
    /// The secret half.
    pub secret: Secret,
    /// What temporary keys bring along.
    pub session_token: Option<String>,
}

impl Signer {
    /// The headers to add to a request, `authorization` the last of them. All headers that the request has are
    /// covered, so leave out those that proxies change.
    ///
    /// # Errors
    /// [`BadEscape`] when the query string cannot be decoded.
    pub fn headers(
        &self,
        request: HttpRequest<'_>,
        scope: Scope<'_>,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, String)>, BadEscape> {
        let mut added = vec![("x-amz-date", now.basic())];
        if let Payload::Unsigned = request.payload {
            added.push(("x-amz-content-sha256", UNSIGNED_PAYLOAD.to_owned()));
        }
        if let Some(token) = &self.session_token {
            added.push(("x-amz-security-token", token.clone()));
        }
        let mut headers = request.headers.to_vec();
        headers.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
        let request = HttpRequest { headers: &headers, ..request };
        let signed = canonical::header_names(request.headers);
        let text = canonical::request(&request, &canonical::query_pairs(request.query)?, &signed);
        let signature = self.secret.signature(scope, now, &text);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={}",
            self.access_key_id,
            scope_text(scope, &day(now)),
            signed.join(";"),
            hex(&signature)
        );
        added.push(("authorization", authorization));
        Ok(added)
    }

    /// The query string of a request that anyone may send within `seconds` from now, up to a week.
    ///
    /// # Errors
    /// [`BadEscape`] when the query string cannot be decoded.
    pub fn presign(
        &self,
        request: HttpRequest<'_>,
        scope: Scope<'_>,
        now: Timestamp,
        seconds: u32,
    ) -> Result<String, BadEscape> {
        let signed = canonical::header_names(request.headers);
        let mut pairs = canonical::query_pairs(request.query)?;
        let credential = format!("{}/{}", self.access_key_id, scope_text(scope, &day(now)));
        let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
        add("X-Amz-Algorithm", ALGORITHM.to_owned());
        add("X-Amz-Credential", credential);
        add("X-Amz-Date", now.basic());
        add("X-Amz-Expires", seconds.to_string());
        add("X-Amz-SignedHeaders", signed.join(";"));
        if let Some(token) = &self.session_token {
            add("X-Amz-Security-Token", token.clone());
        }
        let text = canonical::request(&request, &pairs, &signed);
        pairs.push(("X-Amz-Signature".to_owned(), hex(&self.secret.signature(scope, now, &text))));
        let pieces =
            pairs.iter().map(|(name, value)| format!("{}={}", percent::encode(name), percent::encode(value)));
        Ok(pieces.collect::<Vec<_>>().join("&"))
    }
}
