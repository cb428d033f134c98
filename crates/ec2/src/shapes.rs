//! What EC2's requests and answers consist of, one file per family of Amazon's API reference.
//!
//! Each type is the one of the same name in <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/>, cut to the
//! parameters that are obeyed and the elements that are answered. A field is named as on the wire (`groupSet` is
//! `group_set`, `InstanceId.N` is `instance_id`), so a page of the reference reads like the type. A field of a
//! request that is neither an option nor a list is required.
//!
//! What else EC2 knows for a request stands in the same file as a table of [`Unobeyed`](crate::query::Unobeyed)
//! parameters. To begin to obey one, move it from the table into the struct: every handler that takes requests
//! apart field by field (`let X { a, b } = request;`, no `..`) then stops compiling until it does.

#![allow(missing_docs, reason = "a field is named and meant as in Amazon's API reference; types link to it")]

pub mod addresses;
pub mod common;
pub mod dhcp_options;
pub mod images;
pub mod instance_attributes;
pub mod instance_types;
pub mod instances;
pub mod internet_gateways;
pub mod key_pairs;
pub mod network_acls;
pub mod network_interfaces;
pub mod regions;
pub mod route_tables;
pub mod security_groups;
pub mod sts;
pub mod subnets;
pub mod tags;
pub mod volumes;
pub mod vpcs;
