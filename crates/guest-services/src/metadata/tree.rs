//! The metadata tree: everything one instance can read, as data.
//!
//! [`build`] makes it from the view; listing and reading both go through it, so that what is listed
//! can be read and what can be read is listed. It is built anew for each request: a hundred short
//! strings, and user data only borrowed.
//!
//! The categories are those of AWS, *Instance metadata categories*, as far as they mean something
//! here. What an instance does not have (a key, a public address, a role) is absent, as in EC2.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::document;
use crate::names;
use crate::view::{InstanceView, InterfaceView};

/// A thing that can be asked for.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// A value.
    Text(Cow<'a, str>),
    /// A value that need not be text.
    Raw(&'a [u8]),
    /// Further nodes.
    Folder(Folder<'a>),
}

/// Nodes by name, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Folder<'a>(Vec<Entry<'a>>);

#[derive(Debug)]
struct Entry<'a> {
    name: Cow<'a, str>,
    /// How the folder's listing shows it: a folder's name ends in `/`, a key's says the key's name.
    label: String,
    node: Node<'a>,
}

impl<'a> Folder<'a> {
    /// The listing: one label a line.
    pub(super) fn listing(&self) -> String {
        let labels: Vec<&str> = self.0.iter().map(|entry| entry.label.as_str()).collect();
        labels.join("\n")
    }

    /// Follows a path of names downwards.
    pub(super) fn find(&self, path: &[impl AsRef<str>]) -> Option<&Node<'a>> {
        let (name, rest) = path.split_first()?;
        let at = self.0.binary_search_by(|entry| entry.name.as_ref().cmp(name.as_ref())).ok()?;
        match &self.0[at].node {
            node if rest.is_empty() => Some(node),
            Node::Folder(folder) => folder.find(rest),
            Node::Text(_) | Node::Raw(_) => None,
        }
    }

    fn add(&mut self, name: impl Into<Cow<'a, str>>, label: impl Into<String>, node: Node<'a>) {
        let name = name.into();
        let at = self.0.partition_point(|entry| entry.name < name);
        self.0.insert(at, Entry { name, label: label.into(), node });
    }

    fn leaf(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let name = name.into();
        self.add(name.clone(), name, Node::Text(value.into()));
    }

    /// A leaf only if there is a value.
    fn maybe(&mut self, name: &'static str, value: Option<impl Into<Cow<'a, str>>>) {
        if let Some(value) = value {
            self.leaf(name, value);
        }
    }

    fn folder(&mut self, name: impl Into<Cow<'a, str>>, folder: Folder<'a>) {
        let name = name.into();
        let label = format!("{name}/");
        self.add(name, label, Node::Folder(folder));
    }

    fn of(fill: impl FnOnce(&mut Folder<'a>)) -> Self {
        let mut folder = Folder::default();
        fill(&mut folder);
        folder
    }
}

/// All that is under a version. This one folder shows its folders without `/`, as EC2's does.
pub(super) fn build(view: &InstanceView) -> Folder<'_> {
    Folder::of(|top| {
        top.add("dynamic", "dynamic", Node::Folder(dynamic(view)));
        top.add("meta-data", "meta-data", Node::Folder(meta_data(view)));
        if let Some(bytes) = &view.user_data {
            top.add("user-data", "user-data", Node::Raw(bytes));
        }
    })
}

fn dynamic(view: &InstanceView) -> Folder<'_> {
    Folder::of(|dynamic| {
        dynamic.folder("fws", Folder::of(|fws| fws.leaf("instance-monitoring", "disabled")));
        dynamic.folder(
            "instance-identity",
            Folder::of(|identity| {
                identity.leaf("document", document::identity_document(view));
                if let Some(proofs) = &view.identity {
                    identity.leaf("pkcs7", &proofs.pkcs7);
                    identity.leaf("rsa2048", &proofs.rsa2048);
                    identity.leaf("signature", &proofs.signature);
                }
            }),
        );
    })
}

fn meta_data(view: &InstanceView) -> Folder<'_> {
    let primary = &view.primary;
    let hostname = names::private_hostname(primary.address, &view.region);
    Folder::of(|top| {
        top.leaf("ami-id", &view.image_id);
        top.leaf("ami-launch-index", view.launch_index.to_string());
        top.leaf("ami-manifest-path", "(unknown)");
        top.folder("block-device-mapping", block_devices(view));
        top.folder("events", Folder::of(|events| events.folder("maintenance", no_maintenance())));
        top.leaf("hostname", hostname.clone());
        top.leaf("instance-action", "none");
        top.leaf("instance-id", &view.instance_id);
        top.leaf("instance-life-cycle", "on-demand");
        top.leaf("instance-type", &view.instance_type);
        top.maybe("kernel-id", view.kernel_id.as_deref());
        top.leaf("local-hostname", hostname);
        top.leaf("local-ipv4", primary.address.to_string());
        top.leaf("mac", &primary.mac);
        // There for guests that look: EC2 has no host metrics either, and says it with an empty document.
        let no_metrics = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        top.folder("metrics", Folder::of(|metrics| metrics.leaf("vhostmd", no_metrics)));
        top.folder("network", Folder::of(|network| network.folder("interfaces", interfaces(view))));
        top.folder("placement", placement(view));
        top.leaf("profile", "default-hvm");
        let public = primary.public_address;
        top.maybe("public-hostname", public.map(|address| names::public_hostname(address, &view.region)));
        top.maybe("public-ipv4", public.map(|address| address.to_string()));
        if view.key.is_some() {
            top.folder("public-keys", public_keys(view));
        }
        top.maybe("ramdisk-id", view.ramdisk_id.as_deref());
        top.leaf("reservation-id", &view.reservation_id);
        top.leaf("security-groups", lines(primary.security_groups.iter().map(|group| &group.name)));
        top.folder("services", services(view));
        if let Some(tags) = &view.tags {
            top.folder("tags", Folder::of(|folder| folder.folder("instance", instance_tags(tags))));
        }
    })
}

/// The root device twice, as `ami` and as `root`, then the others as `ebs1`, `ebs2`, … without `/dev/`.
fn block_devices(view: &InstanceView) -> Folder<'_> {
    Folder::of(|devices| {
        devices.leaf("ami", &view.root_device);
        devices.leaf("root", &view.root_device);
        for (index, device) in (1..).zip(&view.volume_devices) {
            devices.leaf(format!("ebs{index}"), device.strip_prefix("/dev/").unwrap_or(device));
        }
    })
}

fn no_maintenance<'a>() -> Folder<'a> {
    Folder::of(|events| {
        events.leaf("history", "[]");
        events.leaf("scheduled", "[]");
    })
}

fn interfaces(view: &InstanceView) -> Folder<'_> {
    Folder::of(|interfaces| {
        interfaces.folder(
            "macs",
            Folder::of(|macs| {
                for one in view.interfaces() {
                    macs.folder(&one.mac, interface(one, &view.region));
                }
            }),
        );
    })
}

fn interface<'a>(one: &'a InterfaceView, region: &str) -> Folder<'a> {
    let private = one.address.to_string();
    Folder::of(|top| {
        top.leaf("device-number", one.device_number.to_string());
        top.leaf("interface-id", &one.interface_id);
        if let Some(public) = one.public_address {
            let associations = Folder::of(|to| to.leaf(public.to_string(), private.clone()));
            top.folder("ipv4-associations", associations);
            top.leaf("public-hostname", names::public_hostname(public, region));
            top.leaf("public-ipv4s", public.to_string());
        }
        top.leaf("local-hostname", names::private_hostname(one.address, region));
        top.leaf("local-ipv4s", private);
        top.leaf("mac", &one.mac);
        top.leaf("owner-id", &one.owner_id);
        top.leaf("security-group-ids", lines(one.security_groups.iter().map(|group| &group.id)));
        top.leaf("security-groups", lines(one.security_groups.iter().map(|group| &group.name)));
        top.leaf("subnet-id", &one.subnet_id);
        top.leaf("subnet-ipv4-cidr-block", one.subnet_cidr.to_string());
        top.leaf("vpc-id", &one.vpc_id);
        top.maybe("vpc-ipv4-cidr-block", one.vpc_cidrs.first().map(ToString::to_string));
        top.leaf("vpc-ipv4-cidr-blocks", lines(&one.vpc_cidrs));
    })
}

fn placement(view: &InstanceView) -> Folder<'_> {
    Folder::of(|placement| {
        placement.leaf("availability-zone", &view.zone);
        placement.leaf("availability-zone-id", &view.zone_id);
        placement.leaf("region", &view.region);
    })
}

/// The key at index 0. Its text ends with a line end, the only one in the tree that does: it is meant
/// to be appended to `authorized_keys`.
fn public_keys(view: &InstanceView) -> Folder<'_> {
    Folder::of(|keys| {
        for (index, key) in view.key.iter().enumerate() {
            let one = Folder::of(|one| one.leaf("openssh-key", format!("{}\n", key.openssh)));
            keys.add(index.to_string(), format!("{index}={}", key.name), Node::Folder(one));
        }
    })
}

fn services(view: &InstanceView) -> Folder<'_> {
    Folder::of(|services| {
        services.leaf("domain", names::services_domain(&view.region));
        services.leaf("partition", names::partition(&view.region));
    })
}

/// Tags by key. Those whose key cannot be part of a path are left out; EC2 does not let instances
/// have such keys while it shows their tags (AWS, *Allow access to tags in instance metadata*).
fn instance_tags(tags: &BTreeMap<String, String>) -> Folder<'_> {
    let allowed = |key: &str| {
        !matches!(key, "" | "." | ".." | "_index")
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-=._,:@".contains(&byte))
    };
    Folder::of(|folder| {
        for (key, value) in tags.iter().filter(|(key, _)| allowed(key)) {
            folder.leaf(key, value);
        }
    })
}

fn lines<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join("\n")
}
