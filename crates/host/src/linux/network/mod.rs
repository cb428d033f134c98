//! VPCs as namespaces, bridges, TAPs and nftables.
