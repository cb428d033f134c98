//! cloud-init's EC2 datasource, its requests replayed in its order (22.4 to 25.x ask the same).
//!
//! Open a session; find the newest version it knows; user data; walk `meta-data/` (a label that ends in
//! `/` is a folder, `N=NAME` a key, all else a leaf); walk `dynamic/instance-identity`, asked for
//! without a `/`. One 404 on the way and the datasource has failed.

use std::collections::BTreeMap;

use guest_services::view::{InstanceView, TokenUse};

use crate::metadata::ask_at;
use crate::sample::{self, USER_DATA};

/// What cloud-init makes of the tree: text, or further entries.
#[derive(Debug, PartialEq)]
enum Crawled {
    Text(String),
    Tree(BTreeMap<String, Crawled>),
}

impl Crawled {
    fn at(&self, path: &str) -> &str {
        let found = path.split('/').fold(self, |at, name| match at {
            Crawled::Tree(tree) => tree.get(name).unwrap_or_else(|| panic!("no {name} of {path}")),
            Crawled::Text(_) => panic!("{path} ends early"),
        });
        let Crawled::Text(text) = found else { panic!("{path} is a tree") };
        text
    }
}

struct Client {
    view: InstanceView,
    token: String,
    requests: usize,
}

impl Client {
    fn open(view: InstanceView) -> Self {
        let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", "21600")];
        let response = ask_at(0, &view, "PUT", "/latest/api/token", &ttl);
        assert_eq!(response.status, 200);
        Self { view, token: String::from_utf8(response.body).expect("a token is text"), requests: 1 }
    }

    fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        self.requests += 1;
        let response =
            ask_at(0, &self.view, "GET", path, &[("x-aws-ec2-metadata-token", self.token.as_str())]);
        (response.status, response.body)
    }

    fn read(&mut self, path: &str) -> String {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}");
        String::from_utf8(body).expect("metadata is text")
    }

    fn version(&mut self) -> &'static str {
        let known = ["2021-03-23", "2018-09-24", "2016-09-02"];
        let found = known.into_iter().find(|v| self.get(&format!("/{v}/meta-data/instance-id")).0 == 200);
        found.expect("a version that cloud-init knows")
    }

    fn crawl(&mut self, folder: &str) -> Crawled {
        let base = format!("{}/", folder.trim_end_matches('/'));
        let mut tree = BTreeMap::new();
        for label in self.read(folder).lines().map(str::trim).filter(|label| !label.is_empty()) {
            if let Some(name) = label.strip_suffix('/') {
                let child = self.crawl(&format!("{base}{label}"));
                tree.insert(name.to_owned(), child);
                continue;
            }
            let (name, path) = match label.split_once('=') {
                Some((index, name)) if index.parse::<u32>().is_ok() => {
                    (name, format!("{base}{index}/openssh-key"))
                }
                _ => (label, format!("{base}{label}")),
            };
            let text = self.read(&path);
            tree.insert(name.to_owned(), Crawled::Text(text));
        }
        Crawled::Tree(tree)
    }
}

#[test]
fn the_crawl_finds_all_it_asks_for() {
    let mut view = sample::instance();
    view.metadata.tokens = TokenUse::Required;
    let mut client = Client::open(view);
    let version = client.version();
    assert_eq!(version, "2021-03-23");
    assert_eq!(client.get(&format!("/{version}/user-data")), (200, USER_DATA.to_vec()));
    let meta_data = client.crawl(&format!("/{version}/meta-data/"));
    let identity = client.crawl(&format!("/{version}/dynamic/instance-identity"));

    for (path, value) in [
        ("instance-id", "i-0123456789abcdef0"),
        ("local-hostname", "ip-172-31-0-5.ec2.internal"),
        ("public-hostname", "ec2-198-18-0-7.compute-1.amazonaws.com"),
        ("placement/availability-zone", "us-east-1a"),
        ("block-device-mapping/root", "/dev/xvda"),
        ("public-keys/my key", "ssh-ed25519 AAAAC3Nza my key\n"),
        ("events/maintenance/scheduled", "[]"),
        ("tags/instance/Name", "web"),
        // From these it makes the network configuration.
        ("network/interfaces/macs/02:00:5e:10:00:01/device-number", "0"),
        ("network/interfaces/macs/02:00:5e:10:00:01/local-ipv4s", "172.31.0.5"),
        ("network/interfaces/macs/02:00:5e:10:00:01/subnet-ipv4-cidr-block", "172.31.0.0/20"),
        ("network/interfaces/macs/02:00:5e:10:00:01/vpc-id", "vpc-01111111111111111"),
        ("network/interfaces/macs/02:00:5e:10:00:02/device-number", "1"),
    ] {
        assert_eq!(meta_data.at(path), value, "{path}");
    }
    let document: serde_json::Value = serde_json::from_str(identity.at("document")).unwrap();
    assert_eq!(document["instanceId"], "i-0123456789abcdef0");
    assert_eq!(document["availabilityZone"], "us-east-1a");
    assert_eq!(document["region"], "us-east-1");
    assert!((64..100).contains(&client.requests), "{} requests", client.requests);
}

#[test]
fn an_instance_without_key_tags_and_user_data_is_crawled_too() {
    let mut view = sample::instance();
    (view.key, view.user_data, view.tags) = (None, None, None);
    view.secondary.clear();
    let mut client = Client::open(view);
    assert_eq!(client.get("/2021-03-23/user-data").0, 404, "cloud-init takes only this one as none");
    let meta_data = client.crawl("/2021-03-23/meta-data/");
    let Crawled::Tree(tree) = &meta_data else { panic!("a tree") };
    assert!(!tree.contains_key("public-keys") && !tree.contains_key("tags"));
}
