//! The canonical request: one spelling for all requests that mean the same, so that both sides hash one text.

use super::HttpRequest;
use crate::percent::{self, BadEscape};

/// The canonical request over the given parameters of the query string and the headers named in `signed`, which
/// must be lower-case and sorted.
pub(super) fn request(request: &HttpRequest<'_>, query: &[(String, String)], signed: &[String]) -> String {
    let mut text = format!("{}\n{}\n{}\n", request.method, path(request.path), query_string(query));
    for name in signed {
        let values: Vec<_> = request.values(name).map(fold_spaces).collect();
        text.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    format!("{text}\n{}\n{}", signed.join(";"), request.payload.hash())
}

/// The names of all headers: lower-case, sorted, each once.
pub(super) fn header_names(headers: &[(&str, &str)]) -> Vec<String> {
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names
}

/// The parameters of a query string.
pub(super) fn query_pairs(query: &str) -> Result<Vec<(String, String)>, BadEscape> {
    percent::form_pairs(query.as_bytes()).collect()
}

/// Sorted by name, then value, as encoded.
fn query_string(pairs: &[(String, String)]) -> String {
    let mut encoded: Vec<_> =
        pairs.iter().map(|(name, value)| (percent::encode(name), percent::encode(value))).collect();
    encoded.sort();
    let pieces = encoded.iter().map(|(name, value)| format!("{name}={value}"));
    pieces.collect::<Vec<_>>().join("&")
}

/// Without `.`, `..` and empty segments, and with each segment encoded once more than it was sent.
fn path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let ends_in_folder = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    let tail = if ends_in_folder && !kept.is_empty() { "/" } else { "" };
    percent::encode_keeping(&format!("/{}{tail}", kept.join("/")), b"/")
}

/// Trimmed, and with runs of spaces as one.
fn fold_spaces(value: &str) -> String {
    value.split(' ').filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normal() {
        for (sent, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/./", "/"),
            ("/example/..", "/"),
            ("/example1/example2/../..", "/"),
            ("/../a", "/a"),
            ("//example//", "/example/"),
            ("/./example", "/example"),
            ("/example space/", "/example%20space/"),
            ("/example%20space/", "/example%2520space/"),
            ("/\u{1234}", "/%E1%88%B4"),
        ] {
            assert_eq!(path(sent), canonical, "{sent}");
        }
    }

    #[test]
    fn queries_are_sorted_as_encoded() {
        let pairs = query_pairs("b=2&a=z&a=y&%C3%A9=&A=+").unwrap();
        assert_eq!(query_string(&pairs), "%C3%A9=&A=%20&a=y&a=z&b=2");
    }
}
