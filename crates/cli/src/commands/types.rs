//! `cumulet types`: how large an instance can be.

use ec2::shapes::instance_types::InstanceTypeInfo;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Cell, Format, Row};

/// Lists them, the smallest first.
pub(crate) async fn run(client: &Client, output: Format) -> Result<(), Failure> {
    let mut types = client.instance_types().await?;
    types.sort_by_key(|kind| {
        (kind.memory_info.size_in_mib, kind.v_cpu_info.default_v_cpus, kind.instance_type.clone())
    });
    Ok(output.list(&types.iter().map(row).collect::<Vec<_>>())?)
}

fn row(kind: &InstanceTypeInfo) -> Row {
    vec![
        ("type", Cell::from(&*kind.instance_type)),
        ("vcpus", Cell::Number(kind.v_cpu_info.default_v_cpus.into())),
        ("memory_mib", Cell::Number(kind.memory_info.size_in_mib)),
        ("architecture", Cell::from(&*kind.processor_info.supported_architectures.join(", "))),
    ]
}
