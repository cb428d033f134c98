//! cumulet-vmm: one process, one machine, on KVM.

fn main() {}
