//! Who signed this request, and may it still be obeyed?

use subtle::ConstantTimeEq;

use super::{ALGORITHM, HttpRequest, Payload, Scope, Secret, UNSIGNED_PAYLOAD, canonical, hex};
use crate::Error;
use crate::time::Timestamp;
use crate::version::Service;

/// How far EC2 lets a signature's clock be off, either way, in seconds.
const SKEW_EC2: u64 = 15 * 60;
/// The same for STS.
const SKEW_STS: u64 = 5 * 60;
/// The longest that a presigned request may be valid, in seconds: a week.
const LONGEST: u64 = 7 * 24 * 60 * 60;

/// A request whose signature is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<I> {
    /// The key it was signed with.
    pub access_key_id: String,
    /// Whoever the look-up said owns the key.
    pub identity: I,
    /// When it was signed.
    pub time: Timestamp,
    /// Whether it was signed beforehand, by its query string.
    pub presigned: bool,
}

/// Why a request is not obeyed. The variants tell a log what happened; [`Refusal::answer`] tells the caller no more
/// than EC2 does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not signed at all.
    #[error("The request is not signed")]
    NotSigned,
    /// It is signed in a way that is not Signature Version 4.
    #[error("The request is not signed with {ALGORITHM}")]
    OtherScheme,
    /// Its signature lacks something or is not in order.
    #[error("The signature is incomplete: {0}")]
    Incomplete(String),
    /// Nobody has this key, or not with this session token.
    #[error("There is no access key {0}")]
    UnknownKey(String),
    /// It is signed for another day, region or service.
    #[error("The signature is for another scope: {0}")]
    WrongScope(String),
    /// Headers that matter are not covered by the signature.
    #[error("The header {0} is not signed")]
    UnsignedHeader(String),
    /// The signature is not that of the request and the key.
    #[error("The signature does not match")]
    Mismatch,
    /// It was signed too long ago, or too far in the future.
    #[error("The request was signed at {signed}, and it is {now}")]
    Expired {
        /// When it was signed, by its own account.
        signed: Timestamp,
        /// The time here.
        now: Timestamp,
    },
}

impl Refusal {
    /// What the service answers. EC2 does not tell an unknown key from a wrong signature; STS does.
    #[must_use]
    pub fn answer(&self, service: Service) -> Error {
        let message = self.to_string();
        match (self, service) {
            (Self::NotSigned, _) => Error::new(
                403,
                "MissingAuthenticationToken",
                "The request must be signed with a valid access key: it has no Authorization header.",
            ),
            (Self::Incomplete(_), _) => Error::new(400, "IncompleteSignature", message),
            (Self::Expired { .. }, Service::Ec2) => Error::new(400, "RequestExpired", message),
            (Self::Expired { .. }, Service::Sts) => Error::new(403, "SignatureDoesNotMatch", message),
            (Self::UnknownKey(_), Service::Sts) => Error::new(
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            ),
            (Self::UnknownKey(_) | Self::Mismatch, Service::Ec2) => {
                Error::new(401, "AuthFailure", "AWS was not able to validate the provided access credentials")
            }
            (_, Service::Ec2) => Error::new(401, "AuthFailure", message),
            (_, Service::Sts) => Error::new(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your AWS \
                 Secret Access Key and signing method.",
            ),
        }
    }
}

/// Tells who signed `request` for `scope`, or why it is not obeyed. `now` is the time here. `find` is given an access
/// key id and the session token if there is one, and returns the key's secret and owner.
///
/// # Errors
/// [`Refusal`]. The signature is judged before the time, so that an attacker without a key learns nothing.
pub fn verify<I>(
    request: &HttpRequest<'_>,
    service: Service,
    region: &str,
    now: Timestamp,
    find: impl FnOnce(&str, Option<&str>) -> Option<(Secret, I)>,
) -> Result<Verified<I>, Refusal> {
    let query =
        canonical::query_pairs(request.query).map_err(|problem| Refusal::Incomplete(problem.to_string()))?;
    let claim = Claim::read(request, &query)?;
    let scope = Scope { region, service: service.signing_name() };
    claim.check_scope(scope)?;
    claim.check_headers(request)?;
    check_payload(request)?;

    let unknown = || Refusal::UnknownKey(claim.access_key_id.clone());
    let (secret, identity) =
        find(&claim.access_key_id, claim.session_token.as_deref()).ok_or_else(unknown)?;
    let covered: Vec<_> = query.into_iter().filter(|(name, _)| name != "X-Amz-Signature").collect();
    let text = canonical::request(request, &covered, &claim.signed_headers);
    let signature = hex(&secret.signature(scope, claim.time, &text));
    if !bool::from(signature.as_bytes().ct_eq(claim.signature.as_bytes())) {
        return Err(Refusal::Mismatch);
    }
    claim.check_time(service, now)?;
    Ok(Verified {
        access_key_id: claim.access_key_id,
        identity,
        time: claim.time,
        presigned: claim.lifetime.is_some(),
    })
}

/// What a request says about its signature, believed by nobody yet.
struct Claim {
    access_key_id: String,
    /// Day, region, service and `aws4_request`.
    scope: Vec<String>,
    signed_headers: Vec<String>,
    signature: String,
    time: Timestamp,
    session_token: Option<String>,
    /// Seconds that a presigned request is valid for.
    lifetime: Option<u64>,
}

impl Claim {
    fn read(request: &HttpRequest<'_>, query: &[(String, String)]) -> Result<Self, Refusal> {
        let mut headers = request.values("authorization");
        let by_query = query.iter().any(|(name, _)| name == "X-Amz-Signature" || name == "X-Amz-Algorithm");
        match (headers.next(), headers.next(), by_query) {
            (Some(header), None, false) => Self::from_header(request, header),
            (None, None, true) => Self::from_query(query),
            (None, None, false) if query.iter().any(|(name, _)| name == "Signature") => {
                Err(Refusal::OtherScheme)
            }
            (None, None, false) => Err(Refusal::NotSigned),
            _ => Err(Refusal::Incomplete("it is signed more than once".to_owned())),
        }
    }

    fn from_header(request: &HttpRequest<'_>, header: &str) -> Result<Self, Refusal> {
        let (algorithm, rest) = header.trim().split_once(' ').ok_or(Refusal::OtherScheme)?;
        if algorithm != ALGORITHM {
            return Err(Refusal::OtherScheme);
        }
        let mut fields = Vec::new();
        for field in rest.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or_else(|| incomplete("Authorization"))?;
            fields.push((name.to_owned(), value.to_owned()));
        }
        let header = |name: &str| one(request.values(name), name);
        let time = header("x-amz-date")?.ok_or_else(|| incomplete("X-Amz-Date"))?;
        let token = header("x-amz-security-token")?.map(str::to_owned);
        Self::assemble(&fields, ["Credential", "SignedHeaders", "Signature"], time, token, None)
    }

    fn from_query(query: &[(String, String)]) -> Result<Self, Refusal> {
        let field = |name: &str| one(values(query, name), name);
        if field("X-Amz-Algorithm")? != Some(ALGORITHM) {
            return Err(Refusal::OtherScheme);
        }
        let time = field("X-Amz-Date")?.ok_or_else(|| incomplete("X-Amz-Date"))?;
        let token = field("X-Amz-Security-Token")?.map(str::to_owned);
        let lifetime = field("X-Amz-Expires")?.and_then(|text| text.parse().ok());
        let lifetime = lifetime.filter(|seconds| (1..=LONGEST).contains(seconds));
        let lifetime = lifetime.ok_or_else(|| incomplete("X-Amz-Expires"))?;
        let names = ["X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature"];
        Self::assemble(query, names, time, token, Some(lifetime))
    }

    fn assemble(
        fields: &[(String, String)],
        names: [&str; 3],
        time: &str,
        session_token: Option<String>,
        lifetime: Option<u64>,
    ) -> Result<Self, Refusal> {
        let field = |name: &str| one(values(fields, name), name)?.ok_or_else(|| incomplete(name));
        let [credential, signed_headers, signature] = names;
        let mut parts = field(credential)?.split('/').map(str::to_owned);
        let access_key_id = parts.next().unwrap_or_default();
        let scope: Vec<_> = parts.collect();
        let signed: Vec<_> = field(signed_headers)?.split(';').map(str::to_owned).collect();
        let in_order = signed.windows(2).all(|pair| pair[0] < pair[1]);
        if access_key_id.is_empty() || scope.len() != 4 {
            return Err(incomplete(credential));
        }
        if !in_order || signed.iter().any(|name| *name != name.to_ascii_lowercase()) {
            return Err(incomplete(signed_headers));
        }
        Ok(Self {
            access_key_id,
            scope,
            signed_headers: signed,
            signature: field(signature)?.to_owned(),
            time: Timestamp::parse(time).map_err(|_| incomplete("X-Amz-Date"))?,
            session_token,
            lifetime,
        })
    }

    fn check_scope(&self, wanted: Scope<'_>) -> Result<(), Refusal> {
        let day = super::day(self.time);
        let wanted = [day.as_str(), wanted.region, wanted.service, "aws4_request"];
        if self.scope == wanted {
            return Ok(());
        }
        let message = format!("'{}' should be '{}'", self.scope.join("/"), wanted.join("/"));
        Err(Refusal::WrongScope(message))
    }

    /// The host and all headers by which AWS steers a request must be signed.
    fn check_headers(&self, request: &HttpRequest<'_>) -> Result<(), Refusal> {
        let mut must = canonical::header_names(request.headers);
        must.retain(|name| name.starts_with("x-amz-"));
        must.push("host".to_owned());
        match must.into_iter().find(|name| !self.signed_headers.contains(name)) {
            Some(name) => Err(Refusal::UnsignedHeader(name)),
            None => Ok(()),
        }
    }

    fn check_time(&self, service: Service, now: Timestamp) -> Result<(), Refusal> {
        let skew = match service {
            Service::Ec2 => SKEW_EC2,
            Service::Sts => SKEW_STS,
        };
        let (signed, now_unix) = (self.time.unix(), now.unix());
        let not_before = signed.saturating_sub(skew);
        let not_after = signed + self.lifetime.unwrap_or(skew);
        if (not_before..=not_after).contains(&now_unix) {
            return Ok(());
        }
        Err(Refusal::Expired { signed: self.time, now })
    }
}

/// A header that states the body's hash must state the right one.
fn check_payload(request: &HttpRequest<'_>) -> Result<(), Refusal> {
    match (one(request.values("x-amz-content-sha256"), "x-amz-content-sha256")?, request.payload) {
        (None, Payload::Bytes(_)) => Ok(()),
        (Some(stated), payload) if stated == payload.hash() => Ok(()),
        (Some(UNSIGNED_PAYLOAD) | None, _) => {
            Err(Refusal::Incomplete("it must say whether it covers the body".to_owned()))
        }
        (Some(_), _) => Err(Refusal::Mismatch),
    }
}

fn incomplete(what: &str) -> Refusal {
    Refusal::Incomplete(format!("{what} is missing or malformed"))
}

fn values<'a>(pairs: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    pairs.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// The only value there is, or none.
fn one<'a>(mut values: impl Iterator<Item = &'a str>, name: &str) -> Result<Option<&'a str>, Refusal> {
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Refusal::Incomplete(format!("{name} is given twice"))),
    }
}
