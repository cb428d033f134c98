//! The host names EC2 gives to addresses, and back.
//!
//! Metadata, DHCP and DNS all speak of the same names, so they are made and read here only, and the
//! daemon uses these functions for `privateDnsName` and `dnsName` too. A name is a pure function of
//! address and region (AWS, *EC2 instance hostnames*), so nothing has to be stored.

use std::net::Ipv4Addr;

/// The metadata service's address (AWS, *Access instance metadata*).
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The host part of the metadata service's name.
pub(crate) const METADATA_HOST: &str = "instance-data";

/// The domain of private host names: `ec2.internal` in us-east-1, `REGION.compute.internal` elsewhere.
pub fn private_domain(region: &str) -> String {
    match region {
        "us-east-1" => "ec2.internal".into(),
        _ => format!("{region}.compute.internal"),
    }
}

/// The domain of public host names: `compute-1.amazonaws.com` in us-east-1, `REGION.compute.amazonaws.com`
/// elsewhere.
pub fn public_domain(region: &str) -> String {
    let domain = services_domain(region);
    match region {
        "us-east-1" => format!("compute-1.{domain}"),
        _ => format!("{region}.compute.{domain}"),
    }
}

/// The private host name of an address, as in `ip-172-31-0-5.ec2.internal`.
pub fn private_hostname(address: Ipv4Addr, region: &str) -> String {
    format!("{}.{}", private_host(address), private_domain(region))
}

/// The public host name of an address, as in `ec2-198-18-0-5.compute-1.amazonaws.com`.
pub fn public_hostname(address: Ipv4Addr, region: &str) -> String {
    format!("{}.{}", host("ec2", address), public_domain(region))
}

/// The first label of a private host name: `ip-172-31-0-5`.
pub(crate) fn private_host(address: Ipv4Addr) -> String {
    host("ip", address)
}

/// The address whose private host name begins with this label; only the exact spelling counts
/// (`ip-10-0-0-05` names nobody), capital letters aside.
pub(crate) fn address_of_private_host(label: &str) -> Option<Ipv4Addr> {
    address_of_host("ip", label)
}

/// The address whose public host name begins with this label; see [`address_of_private_host`].
pub(crate) fn address_of_public_host(label: &str) -> Option<Ipv4Addr> {
    address_of_host("ec2", label)
}

/// The partition a region belongs to: `aws`, `aws-cn` or `aws-us-gov`.
pub fn partition(region: &str) -> &'static str {
    match region {
        r if r.starts_with("cn-") => "aws-cn",
        r if r.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// The domain under which AWS services of a region are found.
pub(crate) fn services_domain(region: &str) -> &'static str {
    match partition(region) {
        "aws-cn" => "amazonaws.com.cn",
        _ => "amazonaws.com",
    }
}

fn host(prefix: &str, address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{prefix}-{a}-{b}-{c}-{d}")
}

fn address_of_host(prefix: &str, label: &str) -> Option<Ipv4Addr> {
    let (head, rest) = label.split_once('-')?;
    if !head.eq_ignore_ascii_case(prefix) {
        return None;
    }
    let address: Ipv4Addr = rest.replace('-', ".").parse().ok()?;
    host(head, address).eq(label).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn us_east_1_has_the_old_domains() {
        let address = Ipv4Addr::new(172, 31, 0, 5);
        assert_eq!(private_hostname(address, "us-east-1"), "ip-172-31-0-5.ec2.internal");
        assert_eq!(private_hostname(address, "eu-west-1"), "ip-172-31-0-5.eu-west-1.compute.internal");
        assert_eq!(public_hostname(address, "us-east-1"), "ec2-172-31-0-5.compute-1.amazonaws.com");
        assert_eq!(public_hostname(address, "eu-west-1"), "ec2-172-31-0-5.eu-west-1.compute.amazonaws.com");
        assert_eq!(
            public_hostname(address, "cn-north-1"),
            "ec2-172-31-0-5.cn-north-1.compute.amazonaws.com.cn"
        );
    }

    #[test]
    fn a_label_leads_back_to_its_address_only_as_we_write_it() {
        let address = Ipv4Addr::new(10, 0, 255, 7);
        assert_eq!(address_of_private_host(&private_host(address)), Some(address));
        assert_eq!(address_of_private_host("IP-10-0-255-7"), Some(address));
        assert_eq!(address_of_public_host("ec2-10-0-255-7"), Some(address));
        for label in [
            "ip-10-0-255-07",
            "ip-10-0-255",
            "ip-10-0-255-7-1",
            "ip-10-0-255-256",
            "ip-10.0.255.7",
            "ip--10-0-255-7",
            "ip",
            "",
            "ec2-10-0-255-7",
            "ip-10-0-+5-7",
        ] {
            assert_eq!(address_of_private_host(label), None, "{label}");
        }
    }
}
