//! The instance metadata service (IMDS), what guests meet at `http://169.254.169.254`.
//!
//! ```text
//! PUT /latest/api/token            -> a session token (IMDSv2)
//! GET /                            -> the versions
//! GET /VERSION/…                   -> a value, or what is in a folder, one name a line
//! ```
//!
//! Source: AWS, *Use the Instance Metadata Service to access instance metadata*, and what EC2 was seen
//! to do. Where the two leave a choice:
//!
//! - Each known version shows the same tree. EC2 hides from old versions what came later; a client
//!   that asks an old version does not look for the new names.
//! - A folder answers with and without `/` at its end, and empty parts of a path do not count: scripts
//!   that paste `macs/` and a listing's `02:…:01/` together work as in EC2.
//! - Ranges are not served, also not of user data, and no header says so.

mod document;
mod http;
mod token;
mod tree;

use std::borrow::Cow;

pub use document::identity_document;
pub use http::{Request, Response};
pub use token::Sessions;

use percent_encoding::percent_decode_str;

use crate::view::{InstanceView, TokenUse};
use token::LONGEST_TTL;
use tree::Node;

/// The versions EC2 has had, oldest first.
const VERSIONS: [&str; 30] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-07-09",
    "2022-09-24",
    "2024-04-11",
    "latest",
];

/// The header that says how long a token (still) holds, in seconds.
const TOKEN_TTL: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";

/// The longest path that is looked at, in bytes; no name in the tree comes near it.
const LONGEST_PATH: usize = 2048;

/// Answers a request of the instance that `view` shows.
pub fn answer(request: &Request<'_>, view: &InstanceView, sessions: Sessions<'_>) -> Response {
    let response = if !view.metadata.endpoint {
        Response::error(403, "Forbidden")
    } else {
        match names_of(request.path) {
            None => Response::error(404, "Not Found"),
            Some(path) if path == ["latest", "api", "token"] => open_session(request, view, sessions),
            Some(path) => read(&path, request, view, sessions),
        }
    };
    if request.method == "HEAD" { response.without_body() } else { response }
}

/// Reads the tree, if the request may.
fn read(
    path: &[Cow<'_, str>],
    request: &Request<'_>,
    view: &InstanceView,
    sessions: Sessions<'_>,
) -> Response {
    let left = request.token.map(|token| sessions.check(&view.instance_id, token));
    let must_show_one = view.metadata.tokens == TokenUse::Required;
    if left == Some(None) || (left.is_none() && must_show_one) {
        return Response::error(401, "Unauthorized");
    }
    let response = match look_up(path, view) {
        None => Response::error(404, "Not Found"),
        Some(found) if ["GET", "HEAD"].contains(&request.method) => found,
        Some(_) => not_allowed("GET, HEAD"),
    };
    match left.flatten() {
        Some(left) => response.with(TOKEN_TTL, left.as_secs()),
        None => response,
    }
}

/// `PUT /latest/api/token`. What passed a proxy gets no token: it may be somebody else's wish.
fn open_session(request: &Request<'_>, view: &InstanceView, sessions: Sessions<'_>) -> Response {
    if request.method != "PUT" {
        return not_allowed("PUT");
    }
    if request.forwarded {
        return Response::error(403, "Forbidden");
    }
    let asked = request.token_ttl.and_then(|text| str::from_utf8(text).ok()?.trim().parse().ok());
    let Some(ttl @ 1..=LONGEST_TTL) = asked else { return Response::error(400, "Bad Request") };
    let token = sessions.mint(&view.instance_id, ttl);
    let mut response = Response::new(200, "text/plain", token).with(TOKEN_TTL, ttl);
    response.hop_limit = Some(view.metadata.hop_limit);
    response
}

/// What is at a path, as an answer to GET.
fn look_up(path: &[Cow<'_, str>], view: &InstanceView) -> Option<Response> {
    let Some((version, path)) = path.split_first() else {
        return Some(Response::new(200, "text/plain", VERSIONS.join("\n")));
    };
    if !VERSIONS.contains(&version.as_ref()) {
        return None;
    }
    let top = tree::build(view);
    let found = match path {
        [] => Response::new(200, "text/plain", top.listing()),
        path => match top.find(path)? {
            Node::Folder(folder) => Response::new(200, "text/plain", folder.listing()),
            Node::Text(text) => Response::new(200, "text/plain", text.as_ref()),
            Node::Raw(bytes) => Response::new(200, "application/octet-stream", *bytes),
        },
    };
    Some(found.last_modified(view.launch_time))
}

fn not_allowed(allow: &'static str) -> Response {
    Response::new(405, "text/plain", "").with("Allow", allow)
}

/// The names a path is made of, `%41` read as `A`. None if it cannot be one of ours.
fn names_of(path: &str) -> Option<Vec<Cow<'_, str>>> {
    if path.len() > LONGEST_PATH {
        return None;
    }
    let names = path.split('/').filter(|name| !name.is_empty());
    names.map(|name| percent_decode_str(name).decode_utf8().ok()).collect()
}
