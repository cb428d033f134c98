//! Security groups: the ports that `cumulet run --allow` opens, and whether a port is open.
//!
//! `--allow 22,80` means the group `cumulet-allow:22,80` of the default VPC, which is made when it is first needed and
//! shared by all instances that allow the same. Its name says what it lets in, so that two runs mean the same group;
//! it is made in steps that may each be repeated, so that a run that was cut short is finished by the next.

use std::fmt;
use std::str::FromStr;

use ec2::shapes::instances::Instance;
use ec2::shapes::security_groups::{
    AuthorizeSecurityGroupIngressRequest, CreateSecurityGroupRequest, DescribeSecurityGroupsRequest,
    IpPermission, IpRange,
};

use crate::client::{CallError, Client};
use crate::failure::Remedy;

/// Ports of one protocol: `22`, `8000-8010`, `53/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ports {
    protocol: Protocol,
    first: u16,
    last: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Protocol {
    Tcp,
    Udp,
}

/// A text that does not name ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a port such as 80, a range such as 8000-8010, or either with /udp behind it")]
pub(crate) struct NotPorts;

impl FromStr for Ports {
    type Err = NotPorts;

    fn from_str(text: &str) -> Result<Self, NotPorts> {
        let (range, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((range, "udp")) => (range, Protocol::Udp),
            Some(_) => return Err(NotPorts),
        };
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or(NotPorts);
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(NotPorts);
        }
        Ok(Self { protocol, first, last })
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.first)?;
        if self.last != self.first {
            write!(formatter, "-{}", self.last)?;
        }
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => formatter.write_str("/udp"),
        }
    }
}

impl Ports {
    /// Whether these include a TCP port.
    pub(crate) fn include(self, port: u16) -> bool {
        self.protocol == Protocol::Tcp && (self.first..=self.last).contains(&port)
    }

    /// The rule that lets everybody in by these.
    fn open_to_all(self) -> IpPermission {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        IpPermission {
            ip_protocol: protocol.to_owned(),
            from_port: Some(self.first.into()),
            to_port: Some(self.last.into()),
            ip_ranges: vec![IpRange { cidr_ip: "0.0.0.0/0".to_owned(), description: None }],
            ..IpPermission::default()
        }
    }
}

/// The name of the group that lets in these ports and no others.
fn group_name(ports: &[Ports]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    format!("cumulet-allow:{}", ports.iter().map(Ports::to_string).collect::<Vec<_>>().join(","))
}

/// The id of the group that lets in these ports, which is made if there is none.
pub(crate) async fn allowing(client: &Client, ports: &[Ports]) -> Result<String, CallError> {
    let name = group_name(ports);
    let create = CreateSecurityGroupRequest {
        group_name: name.clone(),
        group_description: "Made by cumulet run --allow".to_owned(),
        ..Default::default()
    };
    let group_id = match client.call(&create).await {
        Ok(created) => created.group_id,
        Err(error) if error.code() == Some("InvalidGroup.Duplicate") => {
            existing(client, &name).await?.ok_or(error)?
        }
        Err(error) => return Err(error),
    };
    for ports in ports {
        let authorize = AuthorizeSecurityGroupIngressRequest {
            group_id: Some(group_id.clone()),
            ip_permissions: vec![ports.open_to_all()],
            ..Default::default()
        };
        match client.call(&authorize).await {
            Err(error) if error.code() != Some("InvalidPermission.Duplicate") => return Err(error),
            _ => {}
        }
    }
    Ok(group_id)
}

async fn existing(client: &Client, name: &str) -> Result<Option<String>, CallError> {
    let request = DescribeSecurityGroupsRequest { group_name: vec![name.to_owned()], ..Default::default() };
    let groups = client.call(&request).await?.security_group_info;
    Ok(groups.into_iter().next().map(|group| group.group_id))
}

/// Why a port of an instance cannot be reached, whatever its guest does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClosedError {
    /// The cloud could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No rule of its groups opens the port.
    #[error("No security group of {id} lets TCP port {port} in")]
    Closed { id: String, group_id: Option<String>, port: u16 },
}

impl Remedy for ClosedError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Call(error) => error.hint(),
            Self::Closed { group_id, port, .. } => group_id.as_ref().map(|group_id| {
                format!(
                    "aws ec2 authorize-security-group-ingress --group-id {group_id} --protocol tcp --port {port} \
                     --cidr 0.0.0.0/0"
                )
            }),
        }
    }
}

/// Checks that some rule opens a TCP port to addresses. Which addresses is for the cloud to judge, when it is tried.
pub(crate) async fn check_open(client: &Client, instance: &Instance, port: u16) -> Result<(), ClosedError> {
    let ids: Vec<_> = instance.group_set.iter().map(|group| group.group_id.clone()).collect();
    let group_id = ids.first().cloned();
    if !ids.is_empty() {
        let request = DescribeSecurityGroupsRequest { group_id: ids, ..Default::default() };
        let groups = client.call(&request).await?.security_group_info;
        let mut rules = groups.iter().flat_map(|group| &group.ip_permissions);
        if rules.any(|rule| opens(rule, port)) {
            return Ok(());
        }
    }
    Err(ClosedError::Closed { id: instance.instance_id.clone(), group_id, port })
}

fn opens(rule: &IpPermission, port: u16) -> bool {
    let ports = match rule.ip_protocol.as_str() {
        "-1" => true,
        "tcp" | "6" => {
            let bound = |bound: Option<i32>| bound.filter(|port| *port != -1);
            bound(rule.from_port).is_none_or(|first| first <= port.into())
                && bound(rule.to_port).is_none_or(|last| i32::from(port) <= last)
        }
        _ => false,
    };
    ports && !rule.ip_ranges.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written_alike() {
        for text in ["22", "8000-8010", "53/udp", "1-65535"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        assert_eq!("80/tcp".parse::<Ports>().unwrap().to_string(), "80");
        for text in ["", "0", "65536", "80-", "-80", "90-80", "http", "80/icmp", "80/", "80/tcp/tcp", "22,80"]
        {
            assert_eq!(text.parse::<Ports>(), Err(NotPorts), "{text}");
        }
    }

    #[test]
    fn the_same_ports_mean_the_same_group() {
        let name =
            |texts: &[&str]| group_name(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(name(&["80", "22", "53/udp", "80/tcp"]), "cumulet-allow:22,80,53/udp");
        assert_eq!(name(&["22"]), "cumulet-allow:22");
    }

    #[test]
    fn a_rule_opens_what_it_says() {
        let rule = |protocol: &str, ports: Option<(i32, i32)>| IpPermission {
            ip_protocol: protocol.to_owned(),
            from_port: ports.map(|(first, _)| first),
            to_port: ports.map(|(_, last)| last),
            ip_ranges: vec![IpRange { cidr_ip: "0.0.0.0/0".to_owned(), description: None }],
            ..IpPermission::default()
        };
        assert!(opens(&rule("tcp", Some((22, 22))), 22));
        assert!(opens(&rule("tcp", Some((-1, -1))), 22));
        assert!(opens(&rule("6", Some((0, 1024))), 22));
        assert!(opens(&rule("-1", None), 22));
        assert!(!opens(&rule("tcp", Some((23, 80))), 22));
        assert!(!opens(&rule("udp", Some((22, 22))), 22));
        let from_members = IpPermission { ip_ranges: Vec::new(), ..rule("-1", None) };
        assert!(!opens(&from_members, 22));
    }
}
