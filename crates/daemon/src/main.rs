//! cumuletd: HTTP, identity, store, reconcile loop, listeners for guests.

fn main() {}
