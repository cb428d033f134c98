//! A volume's format on disk: copy-on-write over a base, in constant time.
