//! Percent-encoding as EC2 and its signatures need it: RFC 3986, unreserved characters bare, all else `%XX`.
//!
//! One encoder and one decoder serve both the Query body and the canonical request of Signature Version 4, so
//! what was signed and what is obeyed cannot be read in two ways. The decoder is strict: a broken escape or bytes
//! that are not UTF-8 are refused, never repaired, because a repaired value is not what the caller signed.

/// Why a percent-encoded text cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEscape {
    /// A `%` is not followed by two hexadecimal digits.
    #[error("A percent sign is not followed by two hexadecimal digits")]
    Broken,
    /// The decoded bytes are not UTF-8.
    #[error("The decoded text is not UTF-8")]
    NotUtf8,
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Encodes every byte of `text` but the unreserved `A-Z a-z 0-9 - . _ ~`. A space becomes `%20`, never `+`.
#[must_use]
pub fn encode(text: &str) -> String {
    encode_keeping(text, b"")
}

/// Like [`encode`], but leaves the bytes in `keep` as they are (a path keeps its slashes).
pub(crate) fn encode_keeping(text: &str, keep: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if unreserved || keep.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

/// Decodes one name or value of a form-urlencoded text: `+` is a space, `%XX` a byte.
///
/// # Errors
/// [`BadEscape`] where an escape is broken or the bytes are not UTF-8.
pub fn decode_form(text: &[u8]) -> Result<String, BadEscape> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(rest.next())? << 4 | hex_digit(rest.next())?,
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| BadEscape::NotUtf8)
}

fn hex_digit(byte: Option<&u8>) -> Result<u8, BadEscape> {
    match byte {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(BadEscape::Broken),
    }
}

/// Splits `name=value&name=value` and decodes both sides. Empty pieces (`a=1&&b=2`) are skipped, and a piece
/// without `=` has the empty value, as in every form decoder.
///
/// # Errors
/// Each pair is [`BadEscape`] where an escape is broken or the bytes are not UTF-8.
pub fn form_pairs(text: &[u8]) -> impl Iterator<Item = Result<(String, String), BadEscape>> + '_ {
    text.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty()).map(|piece| {
        let mut halves = piece.splitn(2, |byte| *byte == b'=');
        let name = decode_form(halves.next().unwrap_or_default())?;
        let value = decode_form(halves.next().unwrap_or_default())?;
        Ok((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        let text = "a b+c/d%é\n~-._=&";
        assert_eq!(encode(text), "a%20b%2Bc%2Fd%25%C3%A9%0A~-._%3D%26");
        assert_eq!(decode_form(encode(text).as_bytes()).unwrap(), text);
    }

    #[test]
    fn broken_escapes_are_refused_not_repaired() {
        for text in ["%", "%4", "%zz", "%4g"] {
            assert_eq!(decode_form(text.as_bytes()), Err(BadEscape::Broken), "{text}");
        }
        assert_eq!(decode_form(b"%ff"), Err(BadEscape::NotUtf8));
        assert_eq!(decode_form(b"\xff"), Err(BadEscape::NotUtf8));
    }

    #[test]
    fn pairs_follow_the_form_rules() {
        let pairs: Result<Vec<_>, _> = form_pairs(b"a=1&&b&c=d=e&=x").collect();
        let pairs = pairs.unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("c", "d=e"), ("", "x")]);
    }
}
