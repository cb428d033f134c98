//! The metadata service: the whole tree, the protocol around it, sessions.

use guest_services::metadata::{Request, Response, Sessions, answer};
use guest_services::view::{IdentityProofs, InstanceView, TokenUse};
use jiff::Timestamp;

use crate::noise::Noise;
use crate::sample::{self, USER_DATA};

const START: i64 = 1_790_000_000;
const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// Asks at a second after [`START`], with headers.
pub(crate) fn ask_at(
    second: i64,
    view: &InstanceView,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    let request = Request::new(method, path, |name| {
        headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_bytes())
    });
    let now = Timestamp::from_second(START + second).expect("a time");
    answer(&request, view, Sessions { secret: &[1; 32], now, nonce: [2; 8] })
}

fn get(view: &InstanceView, path: &str) -> Response {
    ask_at(0, view, "GET", path, &[])
}

fn text(response: &Response) -> &str {
    str::from_utf8(&response.body).expect("text")
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str())
}

fn token(view: &InstanceView, ttl: &str) -> String {
    let response = ask_at(0, view, "PUT", "/latest/api/token", &[(TTL, ttl)]);
    assert_eq!(response.status, 200);
    text(&response).to_owned()
}

/// All that a walk from a folder finds, one line each: the path and what is there.
fn walk(view: &InstanceView, folder: &str, lines: &mut Vec<String>) {
    let listing = get(view, folder);
    assert_eq!(listing.status, 200, "{folder}");
    assert_eq!(get(view, folder.trim_end_matches('/')).body, listing.body, "{folder} without its /");
    for label in text(&listing).lines() {
        let at_the_top = folder == "/latest/" && label != "user-data";
        match label.split_once('=').filter(|_| folder.ends_with("public-keys/")) {
            Some((index, _)) => walk(view, &format!("{folder}{index}/"), lines),
            None if label.ends_with('/') => walk(view, &format!("{folder}{label}"), lines),
            None if at_the_top => walk(view, &format!("{folder}{label}/"), lines),
            None => {
                let path = format!("{folder}{label}");
                let leaf = get(view, &path);
                assert_eq!(leaf.status, 200, "{path}");
                lines.push(format!("{path} {:?}", String::from_utf8_lossy(&leaf.body)));
            }
        }
    }
}

#[test]
fn the_tree_of_a_whole_instance() {
    let mut lines = Vec::new();
    walk(&sample::instance(), "/latest/", &mut lines);
    let tree = lines.join("\n") + "\n";
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/metadata.golden");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &tree).unwrap();
    }
    assert_eq!(tree, std::fs::read_to_string(golden).unwrap(), "UPDATE_GOLDEN=1 accepts what is new");
}

#[test]
fn what_an_instance_does_not_have_is_neither_listed_nor_there() {
    let mut view = sample::instance();
    view.key = None;
    view.user_data = None;
    view.tags = None;
    view.primary.public_address = None;
    assert_eq!(text(&get(&view, "/latest/")), "dynamic\nmeta-data");
    assert_eq!(text(&get(&view, "/latest/dynamic/instance-identity/")), "document");
    let mut lines = Vec::new();
    walk(&view, "/latest/", &mut lines);
    for absent in [
        "user-data",
        "meta-data/public-keys/",
        "meta-data/public-keys/0/openssh-key",
        "meta-data/tags/",
        "meta-data/tags/instance/Name",
        "meta-data/public-ipv4",
        "meta-data/public-hostname",
        "meta-data/network/interfaces/macs/02:00:5e:10:00:01/ipv4-associations/",
        "meta-data/kernel-id",
        "meta-data/iam/info",
        "meta-data/iam/security-credentials/",
        "meta-data/spot/instance-action",
        "dynamic/instance-identity/pkcs7",
        "dynamic/instance-identity/signature",
        "meta-data/instance-id/more",
        "meta-data/nothing",
    ] {
        let path = format!("/latest/{absent}");
        let response = get(&view, &path);
        assert_eq!(response.status, 404, "{path}");
        assert!(text(&response).contains("<title>404 - Not Found</title>"));
        assert!(!lines.iter().any(|line| line.starts_with(&path)), "{path}");
    }
}

#[test]
fn empty_user_data_is_not_the_same_as_none() {
    let mut view = sample::instance();
    view.user_data = Some(Vec::new());
    let response = get(&view, "/latest/user-data");
    assert_eq!((response.status, response.body.len()), (200, 0));
}

#[test]
fn proofs_are_shown_where_there_are_any() {
    let mut view = sample::instance();
    let [pkcs7, rsa2048, signature] = ["p", "r", "s"].map(String::from);
    view.identity = Some(IdentityProofs { pkcs7, rsa2048, signature });
    let folder = "/latest/dynamic/instance-identity/";
    assert_eq!(text(&get(&view, folder)), "document\npkcs7\nrsa2048\nsignature");
    assert_eq!(text(&get(&view, &format!("{folder}rsa2048"))), "r");
}

#[test]
fn tags_that_cannot_be_paths_are_left_out() {
    let mut view = sample::instance();
    let keys = ["a/b", "a b", ".", "..", "_index", "", "é", "a\nb", "ok"];
    view.tags = Some(keys.map(|key| (key.into(), "v".into())).into());
    assert_eq!(text(&get(&view, "/latest/meta-data/tags/instance/")), "ok");
}

#[test]
fn each_known_version_shows_the_tree_and_no_other_exists() {
    let view = sample::instance();
    let versions = get(&view, "/");
    assert!(text(&versions).starts_with("1.0\n2007-01-19\n"), "{}", text(&versions));
    assert!(text(&versions).ends_with("\nlatest"));
    for version in text(&versions).lines() {
        assert_eq!(
            text(&get(&view, &format!("/{version}/meta-data/instance-id"))),
            "i-0123456789abcdef0",
            "{version}"
        );
    }
    for version in ["2099-01-01", "LATEST", "late", "1.1", "meta-data"] {
        assert_eq!(get(&view, &format!("/{version}/meta-data/instance-id")).status, 404, "{version}");
        assert_eq!(get(&view, &format!("/{version}")).status, 404, "{version}");
    }
}

#[test]
fn paths_are_read_as_clients_write_them() {
    let view = sample::instance();
    for (path, value) in [
        ("//latest/meta-data/instance-id", "i-0123456789abcdef0"),
        ("/latest/meta-data/instance-id?x=/y", "i-0123456789abcdef0"),
        // botocore asks for this leaf as for a folder.
        ("/latest/meta-data/placement/availability-zone/", "us-east-1a"),
        // Shell scripts paste a listing's line, `/` included, into a path.
        (
            "/latest/meta-data/network/interfaces/macs/02:00:5e:10:00:02//subnet-id",
            "subnet-0fffffffffffffff0",
        ),
        (
            "/latest/meta-data/network/interfaces/macs/02%3A00%3a5e%3A10%3A00%3A02/interface-id",
            "eni-0ddddddddddddddd1",
        ),
        ("/latest/meta-data/tags/instance/team%3Aowner", "Ada Lovelace"),
    ] {
        assert_eq!(text(&get(&view, path)), value, "{path}");
    }
    for path in [
        "/latest/../latest/meta-data/instance-id",
        "/latest/meta-data%2Finstance-id",
        "/latest/meta-data/instance-id%00",
        "/latest/meta-data/%ff",
        "latest/META-DATA/instance-id",
        &format!("/latest/{}", "meta-data/".repeat(300)),
    ] {
        assert_eq!(get(&view, path).status, 404, "{path}");
    }
}

#[test]
fn answers_are_dressed_as_ec2_dresses_them() {
    let view = sample::instance();
    let leaf = get(&view, "/latest/meta-data/instance-id");
    let expected = [
        ("Content-Type", "text/plain"),
        ("Accept-Ranges", "none"),
        ("Content-Length", "19"),
        ("Server", "EC2ws"),
        ("Last-Modified", "Sat, 21 Nov 2026 08:51:55 GMT"),
    ];
    assert_eq!(leaf.headers, expected.map(|(name, value)| (name, value.to_owned())));
    assert_eq!(leaf.hop_limit, None);

    let head = ask_at(0, &view, "HEAD", "/latest/meta-data/instance-id", &[]);
    assert_eq!((head.status, head.headers, head.body), (200, leaf.headers, Vec::new()));

    let missing = ask_at(0, &view, "HEAD", "/latest/nothing", &[]);
    assert_eq!((missing.status, missing.body.len()), (404, 0));

    let user_data = get(&view, "/latest/user-data");
    assert_eq!(user_data.body, USER_DATA);
    assert_eq!(header(&user_data, "Content-Type"), Some("application/octet-stream"));
}

#[test]
fn other_methods_are_not_allowed() {
    let view = sample::instance();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get"] {
        let response = ask_at(0, &view, method, "/latest/meta-data/instance-id", &[]);
        assert_eq!((response.status, header(&response, "Allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(ask_at(0, &view, method, "/latest/nothing", &[]).status, 404);
    }
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        let response = ask_at(0, &view, method, "/latest/api/token", &[(TTL, "60")]);
        assert_eq!((response.status, header(&response, "Allow")), (405, Some("PUT")), "{method}");
    }
}

#[test]
fn a_switched_off_endpoint_answers_nobody() {
    let mut view = sample::instance();
    view.metadata.endpoint = false;
    for (method, path) in [("GET", "/latest/meta-data/"), ("GET", "/"), ("PUT", "/latest/api/token")] {
        assert_eq!(ask_at(0, &view, method, path, &[(TTL, "60")]).status, 403, "{method} {path}");
    }
}

#[test]
fn a_session_is_opened_for_one_second_to_six_hours() {
    let view = sample::instance();
    for ttl in ["1", "21600", " 60 "] {
        let response = ask_at(0, &view, "PUT", "/latest/api/token", &[(TTL, ttl)]);
        assert_eq!(response.status, 200, "{ttl}");
        assert_eq!(header(&response, "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"), Some(ttl.trim()));
        assert_eq!(header(&response, "Content-Type"), Some("text/plain"));
        assert_eq!(response.hop_limit, Some(1));
    }
    for ttl in ["0", "21601", "-1", "", "1.5", "six", "99999999999999999999"] {
        assert_eq!(ask_at(0, &view, "PUT", "/latest/api/token", &[(TTL, ttl)]).status, 400, "{ttl}");
    }
    assert_eq!(ask_at(0, &view, "PUT", "/latest/api/token", &[]).status, 400);
    let forwarded = [(TTL, "60"), ("x-forwarded-for", "10.0.0.1")];
    assert_eq!(ask_at(0, &view, "PUT", "/latest/api/token", &forwarded).status, 403);
    assert_eq!(ask_at(0, &view, "PUT", "/2021-03-23/api/token", &[(TTL, "60")]).status, 404);
}

#[test]
fn a_token_opens_what_its_instance_requires_one_for() {
    let mut view = sample::instance();
    view.metadata.tokens = TokenUse::Required;
    let token = token(&view, "60");
    let path = "/latest/meta-data/instance-id";
    let status_at = |second, token: &str| ask_at(second, &view, "GET", path, &[(TOKEN, token)]).status;

    for path in [path, "/", "/latest/", "/latest/user-data", "/latest/nothing"] {
        assert_eq!(get(&view, path).status, 401, "{path}");
    }
    let response = ask_at(20, &view, "GET", path, &[(TOKEN, &token)]);
    assert_eq!(response.status, 200);
    assert_eq!(header(&response, "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"), Some("40"));
    assert_eq!(status_at(59, &token), 200);
    assert_eq!(status_at(60, &token), 401);
    assert_eq!(status_at(0, &token[1..]), 401);
    assert_eq!(status_at(0, ""), 401);

    let mut other = view.clone();
    other.instance_id = "i-0123456789abcdef1".into();
    assert_eq!(ask_at(0, &other, "GET", path, &[(TOKEN, &token)]).status, 401);
}

#[test]
fn a_bad_token_is_refused_where_none_is_required_too() {
    let view = sample::instance();
    let path = "/latest/meta-data/instance-id";
    assert_eq!(get(&view, path).status, 200);
    let response = ask_at(0, &view, "GET", path, &[(TOKEN, "bad")]);
    assert_eq!(response.status, 401);
    assert!(text(&response).contains("<h1>401 - Unauthorized</h1>"));
    assert_eq!(ask_at(0, &view, "GET", path, &[(TOKEN, &token(&view, "60"))]).status, 200);
}

#[test]
fn any_request_gets_an_answer() {
    let view = sample::instance();
    let mut noise = Noise::new();
    for _ in 0..5_000 {
        let path = noise.mutated(b"/latest/meta-data/public-keys/0/openssh-key?%41");
        let path = String::from_utf8_lossy(&path);
        let junk = String::from_utf8_lossy(&noise.bytes(80)).into_owned();
        let method = ["GET", "PUT", "HEAD", junk.as_str()][noise.below(4)];
        let headers = [(TOKEN, junk.as_str()), (TTL, junk.as_str())];
        let response = ask_at(0, &view, method, &path, &headers[..noise.below(3)]);
        assert!([200, 400, 401, 404, 405].contains(&response.status), "{method} {path}");
    }
}

#[test]
fn a_view_survives_the_way_to_another_process() {
    let view = sample::instance();
    let sent = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<InstanceView>(&sent).unwrap(), view);
}
