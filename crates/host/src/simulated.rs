//! A host in memory: the same trait, no root, no KVM, no guests.
