//! EC2 on the wire, both ways: Query and XML as serde formats, SigV4, errors, one table of actions.
