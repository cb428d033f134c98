//! Words that cloud, host and VMM share: machine, network, volume as plain data.
