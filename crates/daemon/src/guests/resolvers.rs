//! Who the host's own resolvers are, as it says itself (resolv.conf(5)).

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the host says it.
const FILE: &str = "/etc/resolv.conf";
/// The most bytes of it that are read.
const LONGEST_FILE: u64 = 64 * 1024;
/// The most servers that count (resolv.conf(5), `MAXNS`).
const MOST_SERVERS: usize = 3;
const PORT: u16 = 53;

/// The resolvers as the host says them now.
pub(super) fn current() -> Vec<SocketAddr> {
    parse(&read_file().unwrap_or_default())
}

fn read_file() -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(FILE)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The servers that a resolv.conf(5) names; this machine itself where it names none.
fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.parse().ok().map(|address: IpAddr| SocketAddr::new(address, PORT))
    };
    let mut servers: Vec<SocketAddr> = text.lines().filter_map(server).take(MOST_SERVERS).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 1.1.1.1\nsearch example.com\nnameserver 10.0.0.53\n  nameserver\t::1 # here\n\
                    nameserver fe80::1%eth0\nnameserver\nnameservers 9.9.9.9\nnameserver 10.0.0.54\nnameserver 10.0.0.55";
        let addresses: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.53:53", "[::1]:53", "10.0.0.54:53"]);
        assert_eq!(parse("options edns0"), [SocketAddr::from(([127, 0, 0, 1], 53))]);
    }
}
