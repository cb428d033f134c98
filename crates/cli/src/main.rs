//! cumulet: the user's tool.

fn main() {}
