//! What guests meet at well-known addresses: metadata, DHCP, DNS. Pure.
