//! What the API promises of an instance's devices, the monitor has room for. The crates that know the two numbers do not
//! know each other.

const _: () = assert!(cloud::catalog::PORTS <= devices::pci::slots::PORTS);
