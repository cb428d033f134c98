//! IMDSv2's session tokens, kept by nobody: a token carries its own proof.
//!
//! ```text
//! base64url( version:1 | expiry:8 | nonce:8 | HMAC-SHA256(secret, domain | version | expiry | nonce | instance id) )
//! ```
//!
//! A token is good for the instance it was made for, until it expires, as long as the secret lives.
//! Since nothing is stored, a guest that asks for a million tokens costs no memory, and tokens
//! outlive a restart of the daemon if it keeps its secret.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;

/// The longest life of a token, in seconds: six hours (AWS, *How Instance Metadata Service Version 2 works*).
pub(super) const LONGEST_TTL: u32 = 21_600;

/// Keeps our use of the secret apart from any other.
const DOMAIN: &[u8] = b"cumulet metadata session token\0";
const VERSION: u8 = 1;
/// Version, expiry and nonce.
const HEAD: usize = 1 + 8 + 8;
const PROOF: usize = 32;

/// What making and checking tokens takes; the caller brings clock and randomness.
#[derive(Clone, Copy)]
pub struct Sessions<'a> {
    /// The service's own secret, the same for all instances.
    pub secret: &'a [u8; 32],
    /// Now.
    pub now: Timestamp,
    /// Fresh random bytes: they make two tokens of the same second differ.
    pub nonce: [u8; 8],
}

impl Sessions<'_> {
    /// Makes a token for an instance that holds for `ttl` seconds.
    pub(super) fn mint(&self, instance_id: &str, ttl: u32) -> String {
        let expiry = self.now.as_second().saturating_add(i64::from(ttl));
        let mut token = Vec::with_capacity(HEAD + PROOF);
        token.push(VERSION);
        token.extend(expiry.to_be_bytes());
        token.extend(self.nonce);
        let proof = self.proof(&token, instance_id).finalize().into_bytes();
        token.extend(proof);
        URL_SAFE.encode(token)
    }

    /// How long a token still holds; none if it is not one of this instance's or has expired.
    pub(super) fn check(&self, instance_id: &str, token: &[u8]) -> Option<Duration> {
        let mut bytes = [0; HEAD + PROOF];
        let length = URL_SAFE.decode_slice(token, &mut bytes).ok()?;
        let (head, proof) = bytes.get(..length)?.split_at_checked(HEAD)?;
        self.proof(head, instance_id).verify_slice(proof).ok()?;
        let expiry = i64::from_be_bytes(*head.get(1..)?.first_chunk()?);
        let left = u64::try_from(expiry.checked_sub(self.now.as_second())?).ok()?;
        (head[0] == VERSION && left > 0).then(|| Duration::from_secs(left))
    }

    fn proof(&self, head: &[u8], instance_id: &str) -> Hmac<Sha256> {
        // HMAC fills a key up with zeros to its block of 64 bytes (RFC 2104, 2).
        let mut key = [0; 64];
        key[..self.secret.len()].copy_from_slice(self.secret);
        let mut proof = Hmac::<Sha256>::new(&key.into());
        proof.update(DOMAIN);
        proof.update(head);
        proof.update(instance_id.as_bytes());
        proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn at(second: i64) -> Sessions<'static> {
        Sessions { secret: &SECRET, now: Timestamp::from_second(second).unwrap(), nonce: [9; 8] }
    }

    #[test]
    fn a_token_holds_until_its_last_second() {
        let token = at(1_000).mint("i-1", 60);
        let left = |second| at(second).check("i-1", token.as_bytes()).map(|left| left.as_secs());
        assert_eq!(left(1_000), Some(60));
        assert_eq!(left(1_059), Some(1));
        assert_eq!(left(1_060), None);
        assert_eq!(left(i64::from(u32::MAX)), None);
    }

    #[test]
    fn a_token_is_good_for_its_instance_and_its_secret_only() {
        let token = at(1_000).mint("i-1", 60);
        assert_eq!(at(1_000).check("i-2", token.as_bytes()), None);
        assert_eq!(at(1_000).check("i-", token.as_bytes()), None);
        let other = Sessions { secret: &[8; 32], ..at(1_000) };
        assert_eq!(other.check("i-1", token.as_bytes()), None);
    }

    #[test]
    fn two_nonces_make_two_tokens() {
        let other = Sessions { nonce: [1; 8], ..at(1_000) };
        assert_ne!(at(1_000).mint("i-1", 60), other.mint("i-1", 60));
    }

    #[test]
    fn no_single_bit_can_be_changed() {
        let token = URL_SAFE.decode(at(1_000).mint("i-1", 60)).unwrap();
        for bit in 0..token.len() * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(at(1_000).check("i-1", URL_SAFE.encode(forged).as_bytes()), None, "bit {bit}");
        }
        for length in 0..token.len() {
            assert_eq!(at(1_000).check("i-1", URL_SAFE.encode(&token[..length]).as_bytes()), None);
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let long = "A".repeat(100_000);
        for text in ["", "=", "....", "AAAA", long.as_str(), "\u{fffd}"] {
            assert_eq!(at(1_000).check("i-1", text.as_bytes()), None);
        }
        assert_eq!(at(1_000).check("i-1", &[0xff; 68]), None);
    }
}
