//! A request and an answer, as far as the metadata service knows HTTP, independent of any HTTP library.

use jiff::Timestamp;

/// What the service looks at in a request. Parsed once, at the edge.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) token: Option<&'a [u8]>,
    pub(super) token_ttl: Option<&'a [u8]>,
    pub(super) forwarded: bool,
}

impl<'a> Request<'a> {
    /// A request by method and path (a query may follow it: it is not looked at). `header` gives the
    /// first value of the header of that name; it is asked in lower case and must not mind case.
    pub fn new(method: &'a str, path: &'a str, header: impl Fn(&str) -> Option<&'a [u8]>) -> Self {
        Self {
            method,
            path: path.split_once('?').map_or(path, |(path, _)| path),
            token: header("x-aws-ec2-metadata-token"),
            token_ttl: header("x-aws-ec2-metadata-token-ttl-seconds"),
            forwarded: header("x-forwarded-for").is_some(),
        }
    }
}

/// An answer. Its `Content-Length` is among the headers; `Date` is the server's to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Name and value, each name once.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty for HEAD whatever `Content-Length` says.
    pub body: Vec<u8>,
    /// The IP time to live that this answer must be sent with. Only answers that carry a token have
    /// one: behind a forwarding hop too many the token never arrives.
    pub hop_limit: Option<u8>,
}

impl Response {
    /// An answer with a body, as EC2 dresses it.
    pub(super) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let headers = vec![
            ("Content-Type", content_type.to_owned()),
            ("Accept-Ranges", "none".to_owned()),
            ("Content-Length", body.len().to_string()),
            ("Server", "EC2ws".to_owned()),
        ];
        Self { status, headers, body, hop_limit: None }
    }

    /// An error as EC2 words it: the page that clients have always been given.
    pub(super) fn error(status: u16, reason: &str) -> Self {
        let page = format!(
            r#"<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
	"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>{status} - {reason}</title>
 </head>
 <body>
  <h1>{status} - {reason}</h1>
 </body>
</html>
"#
        );
        Self::new(status, "text/html", page)
    }

    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// Adds when the content last changed, in HTTP's form of a date (RFC 9110, 5.6.7).
    pub(super) fn last_modified(self, when: Timestamp) -> Self {
        self.with("Last-Modified", when.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    }

    pub(super) fn without_body(mut self) -> Self {
        self.body.clear();
        self
    }
}
