//! What EC2 calls IP permissions: protocols, ports and peers of security group rules, read and shown.
//!
//! A permission has one protocol and one range of ports for many peers; a rule has one of each. Reading takes
//! permissions apart into rules, showing puts rules together again.

use std::fmt::Display;

use cloud::model::{Direction, GroupRule, SecurityGroup, Tags};
use cloud::rules::launch::group_by_name;
use cloud::{Refusal, World};
use ec2::Error;
use ec2::shapes::security_groups as wire;
use ipnet::{Ipv4Net, Ipv6Net};
use spec::ids::{GroupId, VpcId};
use spec::network::{Peer, Traffic};

use super::ids::id;

/// One rule as a request says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    traffic: Traffic,
    peer: AskedPeer,
    description: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum AskedPeer {
    Known(Peer),
    /// A group of the rule's own VPC, which only the transaction can find.
    Named(String),
}

impl Asked {
    /// The rule it means in a group of that VPC.
    pub(super) fn rule(
        self,
        world: &World,
        vpc: VpcId,
        direction: Direction,
        tags: &Tags,
    ) -> Result<GroupRule, Refusal> {
        let Self { traffic, peer, description } = self;
        let peer = match peer {
            AskedPeer::Known(peer) => peer,
            AskedPeer::Named(name) => Peer::Group(group_by_name(world, vpc, &name)?),
        };
        Ok(GroupRule { direction, traffic, peer, description, tags: tags.clone() })
    }
}

/// The rules that a request's permissions mean. `account` is the only one whose groups can be named.
pub(super) fn read(permissions: Vec<wire::IpPermission>, account: &str) -> Result<Vec<Asked>, Error> {
    let mut rules = Vec::new();
    for permission in permissions {
        let wire::IpPermission {
            ip_protocol,
            from_port,
            to_port,
            groups,
            ip_ranges,
            ipv6_ranges,
            // The table of unobeyed parameters refuses them.
            prefix_list_ids: _,
        } = permission;
        let traffic = read_traffic(&ip_protocol, from_port, to_port)?;
        let before = rules.len();
        let mut add = |peer, description| rules.push(Asked { traffic, peer, description });
        for wire::UserIdGroupPair { description, group_id, group_name, user_id } in groups {
            add(read_group(group_id, group_name, user_id.as_deref(), account)?, description);
        }
        for wire::IpRange { cidr_ip, description } in ip_ranges {
            add(AskedPeer::Known(Peer::Ipv4(read_cidr(&cidr_ip)?)), description);
        }
        for wire::Ipv6Range { cidr_ipv6, description } in ipv6_ranges {
            let net: Ipv6Net = cidr_ipv6.parse().map_err(|_| malformed(&cidr_ipv6))?;
            add(AskedPeer::Known(Peer::Ipv6(net.trunc())), description);
        }
        if rules.len() == before {
            let text = "A permission names no peer: an IP range or a security group";
            return Err(Error::new(400, "MissingParameter", text));
        }
    }
    if rules.is_empty() { Err(Error::missing_parameter("IpPermissions")) } else { Ok(rules) }
}

/// The permissions that a request says in the old way, without `IpPermissions`: one range of addresses, or one
/// group, whose members then may send all of TCP, UDP and ICMP (AWS API reference, *AuthorizeSecurityGroupIngress*).
pub(super) fn read_old_form(
    cidr_ip: Option<String>,
    from_port: Option<i32>,
    ip_protocol: Option<String>,
    group_name: Option<String>,
    user_id: Option<String>,
    to_port: Option<i32>,
) -> Result<Vec<wire::IpPermission>, Error> {
    let range = |cidr_ip| wire::IpRange { cidr_ip, description: None };
    let group = |name: &String| wire::UserIdGroupPair {
        group_name: Some(name.clone()),
        user_id: user_id.clone(),
        ..Default::default()
    };
    let permission = |protocol: &str, from_port, to_port| wire::IpPermission {
        ip_protocol: protocol.to_owned(),
        from_port,
        to_port,
        groups: group_name.as_ref().map(group).into_iter().collect(),
        ip_ranges: cidr_ip.clone().map(range).into_iter().collect(),
        ..Default::default()
    };
    match (&ip_protocol, &group_name, &cidr_ip) {
        (None, None, None) if from_port.is_none() && to_port.is_none() && user_id.is_none() => Ok(Vec::new()),
        (None, Some(_), None) => Ok(vec![
            permission("tcp", Some(0), Some(65_535)),
            permission("udp", Some(0), Some(65_535)),
            permission("icmp", Some(-1), Some(-1)),
        ]),
        (Some(protocol), _, _) => Ok(vec![permission(protocol, from_port, to_port)]),
        (None, _, _) => Err(Error::missing_parameter("IpProtocol")),
    }
}

/// An IPv4 range; bits behind the prefix are dropped, as EC2 does.
fn read_cidr(text: &str) -> Result<Ipv4Net, Error> {
    text.parse::<Ipv4Net>().map(|net| net.trunc()).map_err(|_| malformed(text))
}

fn malformed(cidr: &str) -> Error {
    let cidr: String = cidr.chars().take(64).collect();
    Error::new(400, "InvalidParameterValue", format!("CIDR block {cidr} is malformed"))
}

fn read_group(
    group_id: Option<String>,
    group_name: Option<String>,
    user_id: Option<&str>,
    account: &str,
) -> Result<AskedPeer, Error> {
    let peer = match (group_id, group_name) {
        (Some(text), _) => AskedPeer::Known(Peer::Group(id(&text)?)),
        (None, Some(name)) => AskedPeer::Named(name),
        (None, None) => return Err(Error::missing_parameter("GroupId")),
    };
    match user_id.filter(|user| *user != account) {
        None => Ok(peer),
        Some(user) => {
            let user: String = user.chars().take(64).collect();
            let text = format!("The account {user} has no security groups here");
            Err(Error::new(400, "InvalidGroup.NotFound", text))
        }
    }
}

/// Protocols by name or number; for TCP and UDP the ports, for ICMP type and code, -1 for every one.
fn read_traffic(protocol: &str, from: Option<i32>, to: Option<i32>) -> Result<Traffic, Error> {
    let bad = |text: String| Error::new(400, "InvalidParameterValue", text);
    match protocol.to_ascii_lowercase().as_str() {
        "-1" | "all" => Ok(Traffic::All),
        "tcp" | "6" => read_ports(from, to).map(|(from, to)| Traffic::Tcp(from, to)),
        "udp" | "17" => read_ports(from, to).map(|(from, to)| Traffic::Udp(from, to)),
        "icmp" | "1" => read_icmp(from, to).map(|(kind, code)| Traffic::Icmp(kind, code)),
        "icmpv6" | "58" => read_icmp(from, to).map(|(kind, code)| Traffic::Icmp6(kind, code)),
        other => other.parse().map(Traffic::Protocol).map_err(|_| {
            let protocol: String = protocol.chars().take(64).collect();
            bad(format!("Invalid value '{protocol}' for IP protocol. Unknown protocol."))
        }),
    }
}

fn read_ports(from: Option<i32>, to: Option<i32>) -> Result<(u16, u16), Error> {
    let bad = |text: String| Err(Error::new(400, "InvalidParameterValue", text));
    let (Some(from), Some(to)) = (from, to) else {
        return bad("Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.".into());
    };
    match (u16::try_from(from), u16::try_from(to)) {
        (Ok(low), Ok(high)) if low <= high => Ok((low, high)),
        _ => bad(format!("Invalid TCP/UDP port range ({from}:{to})")),
    }
}

fn read_icmp(kind: Option<i32>, code: Option<i32>) -> Result<(Option<u8>, Option<u8>), Error> {
    let bad = |what: &str, number: i32| {
        Error::new(400, "InvalidParameterValue", format!("ICMP {what} ({number}) out of range"))
    };
    let read = |what: &str, number: Option<i32>| match number.unwrap_or(-1) {
        -1 => Ok(None),
        number => u8::try_from(number).map(Some).map_err(|_| bad(what, number)),
    };
    match (read("type", kind)?, read("code", code)?) {
        (None, Some(code)) => Err(bad("code without a type", code.into())),
        read => Ok(read),
    }
}

/// EC2's protocol and its two numbers; none where the protocol has no ports.
fn show_traffic(traffic: Traffic) -> (String, Option<(i32, i32)>) {
    let any = |number: Option<u8>| number.map_or(-1, i32::from);
    match traffic {
        Traffic::All => ("-1".into(), None),
        Traffic::Tcp(from, to) => ("tcp".into(), Some((from.into(), to.into()))),
        Traffic::Udp(from, to) => ("udp".into(), Some((from.into(), to.into()))),
        Traffic::Icmp(kind, code) => ("icmp".into(), Some((any(kind), any(code)))),
        Traffic::Icmp6(kind, code) => ("icmpv6".into(), Some((any(kind), any(code)))),
        Traffic::Protocol(number) => (number.to_string(), None),
    }
}

/// A group's rules of one direction, those of the same packets together.
pub(super) fn show(group: &SecurityGroup, direction: Direction, account: &str) -> Vec<wire::IpPermission> {
    let mut shown: Vec<(Traffic, wire::IpPermission)> = Vec::new();
    for rule in group.rules.values().filter(|rule| rule.direction == direction) {
        let at = shown.iter().position(|(traffic, _)| *traffic == rule.traffic).unwrap_or_else(|| {
            let (ip_protocol, ports) = show_traffic(rule.traffic);
            let (from_port, to_port) = ports.unzip();
            let empty = wire::IpPermission { ip_protocol, from_port, to_port, ..Default::default() };
            shown.push((rule.traffic, empty));
            shown.len() - 1
        });
        if let Some((_, permission)) = shown.get_mut(at) {
            add_peer(permission, rule, account);
        }
    }
    shown.sort_unstable_by_key(|(traffic, _)| *traffic);
    shown.into_iter().map(|(_, permission)| permission).collect()
}

fn add_peer(permission: &mut wire::IpPermission, rule: &GroupRule, account: &str) {
    let description = rule.description.clone();
    match rule.peer {
        Peer::Ipv4(net) => {
            permission.ip_ranges.push(wire::IpRange { cidr_ip: net.to_string(), description });
        }
        Peer::Ipv6(net) => {
            permission.ipv6_ranges.push(wire::Ipv6Range { cidr_ipv6: net.to_string(), description });
        }
        Peer::Group(group) => permission.groups.push(wire::UserIdGroupPair {
            description,
            group_id: Some(group.to_string()),
            group_name: None,
            user_id: Some(account.to_owned()),
        }),
    }
}

/// The parts that a rule shows in whatever shape it stands.
pub(super) struct Shown {
    pub(super) is_egress: bool,
    pub(super) ip_protocol: String,
    pub(super) from_port: i32,
    pub(super) to_port: i32,
    pub(super) cidr_ipv4: Option<String>,
    pub(super) cidr_ipv6: Option<String>,
    pub(super) group: Option<GroupId>,
}

/// One rule by itself: here even protocols without ports have two, -1.
pub(super) fn show_rule(rule: &GroupRule) -> Shown {
    let (ip_protocol, ports) = show_traffic(rule.traffic);
    let (from_port, to_port) = ports.unwrap_or((-1, -1));
    let text = |net: &dyn Display| Some(net.to_string());
    let (cidr_ipv4, cidr_ipv6, group) = match rule.peer {
        Peer::Ipv4(net) => (text(&net), None, None),
        Peer::Ipv6(net) => (None, text(&net), None),
        Peer::Group(group) => (None, None, Some(group)),
    };
    let is_egress = rule.direction == Direction::Egress;
    Shown { is_egress, ip_protocol, from_port, to_port, cidr_ipv4, cidr_ipv6, group }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "123456789012";

    fn ranges(protocol: &str, from: Option<i32>, to: Option<i32>, cidrs: &[&str]) -> wire::IpPermission {
        let range = |cidr: &&str| wire::IpRange { cidr_ip: (*cidr).into(), description: None };
        wire::IpPermission {
            ip_protocol: protocol.into(),
            from_port: from,
            to_port: to,
            ip_ranges: cidrs.iter().map(range).collect(),
            ..Default::default()
        }
    }

    fn traffic(protocol: &str, from: i32, to: i32) -> Result<Traffic, String> {
        read_traffic(protocol, Some(from), Some(to)).map_err(|error| error.code().to_owned())
    }

    #[test]
    fn protocols_by_name_and_by_number() {
        assert_eq!(traffic("tcp", 22, 22), Ok(Traffic::Tcp(22, 22)));
        assert_eq!(traffic("6", 0, 65_535), Ok(Traffic::Tcp(0, 65_535)));
        assert_eq!(traffic("UDP", 53, 54), Ok(Traffic::Udp(53, 54)));
        assert_eq!(traffic("icmp", 8, -1), Ok(Traffic::Icmp(Some(8), None)));
        assert_eq!(traffic("icmpv6", -1, -1), Ok(Traffic::Icmp6(None, None)));
        assert_eq!(traffic("50", 1, 2), Ok(Traffic::Protocol(50)));
        assert_eq!(traffic("-1", 1, 2), Ok(Traffic::All));
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = Err("InvalidParameterValue".to_owned());
        for (protocol, from, to) in [
            ("tcp", 22, 21),
            ("tcp", -1, 22),
            ("udp", 0, 65_536),
            ("icmp", 256, 0),
            ("icmp", -1, 0),
            ("256", 0, 0),
            ("-2", 0, 0),
            ("ssh", 22, 22),
            ("", 0, 0),
        ] {
            assert_eq!(traffic(protocol, from, to), bad, "{protocol} {from} {to}");
        }
        assert!(read_traffic("tcp", Some(22), None).is_err());
        for cidr in ["10.0.0.0/33", "10.0.0.0", "10.0.0/8", "::/0", ""] {
            assert!(read(vec![ranges("-1", None, None, &[cidr])], ACCOUNT).is_err(), "{cidr}");
        }
        assert_eq!(
            read(vec![ranges("-1", None, None, &[])], ACCOUNT).unwrap_err().code(),
            "MissingParameter"
        );
        assert_eq!(read(vec![], ACCOUNT).unwrap_err().code(), "MissingParameter");
    }

    #[test]
    fn a_permission_is_a_rule_for_each_peer_and_bits_behind_the_prefix_go() {
        let rules = read(vec![ranges("tcp", Some(80), Some(81), &["100.68.0.18/18", "0.0.0.0/0"])], ACCOUNT);
        let peers: Vec<AskedPeer> = rules.unwrap().into_iter().map(|rule| rule.peer).collect();
        let peer = |text: &str| AskedPeer::Known(Peer::Ipv4(text.parse().unwrap()));
        assert_eq!(peers, [peer("100.68.0.0/18"), peer("0.0.0.0/0")]);
    }

    #[test]
    fn the_old_form_says_one_range_or_all_of_a_group() {
        let old = |cidr: Option<&str>, protocol: Option<&str>, group: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let port = protocol.map(|_| 22);
            read_old_form(own(cidr), port, own(protocol), own(group), None, port)
        };
        assert_eq!(old(None, None, None), Ok(Vec::new()));
        assert_eq!(
            old(Some("10.0.0.0/8"), Some("tcp"), None),
            Ok(vec![ranges("tcp", Some(22), Some(22), &["10.0.0.0/8"])])
        );
        let group = old(None, None, Some("web")).unwrap();
        assert_eq!(
            group.iter().map(|one| one.ip_protocol.as_str()).collect::<Vec<_>>(),
            ["tcp", "udp", "icmp"]
        );
        assert_eq!(old(Some("10.0.0.0/8"), None, None).unwrap_err().code(), "MissingParameter");
    }

    #[test]
    fn other_accounts_have_no_groups() {
        let pair = |user: &str| wire::UserIdGroupPair {
            group_id: Some("sg-0123456789abcdef0".into()),
            user_id: Some(user.into()),
            ..Default::default()
        };
        let permission = |user| wire::IpPermission {
            ip_protocol: "-1".into(),
            groups: vec![pair(user)],
            ..Default::default()
        };
        assert!(read(vec![permission(ACCOUNT)], ACCOUNT).is_ok());
        let other = read(vec![permission("210987654321")], ACCOUNT).unwrap_err();
        assert_eq!(other.code(), "InvalidGroup.NotFound");
    }
}
