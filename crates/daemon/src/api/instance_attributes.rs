//! One attribute of an instance at a time.

use cloud::World;
use cloud::model::{Instance, ShutdownBehavior};
use ec2::shapes::instance_attributes as wire;
use ec2::shapes::instances::EnclaveOptions;
use ec2::{Error, Handler};

use super::Api;
use super::common::group_identifiers;
use super::ids::{id, the};
use super::instances::block_devices;

impl Handler<wire::DescribeInstanceAttributeRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeInstanceAttributeRequest,
    ) -> Result<wire::DescribeInstanceAttributeResponse, Error> {
        let wire::DescribeInstanceAttributeRequest { attribute, instance_id } = request;
        let id = id(&instance_id)?;
        self.look(|world| Ok(show(world, the::<Instance>(world, id)?, attribute)))
    }
}

fn show(
    world: &World,
    row: &Instance,
    attribute: wire::InstanceAttributeName,
) -> wire::DescribeInstanceAttributeResponse {
    use wire::InstanceAttributeName as Name;
    let primary = world.primary_interface(row.id);
    let flag = |value| Some(wire::AttributeFlag { value });
    let text = |value: &str| Some(wire::AttributeText { value: Some(value.to_owned()) });
    let unset = Some(wire::AttributeText { value: None });
    let mut answer =
        wire::DescribeInstanceAttributeResponse { instance_id: row.id.to_string(), ..Default::default() };
    match attribute {
        Name::InstanceType => answer.instance_type = text(&row.instance_type),
        Name::Kernel => answer.kernel = unset,
        Name::Ramdisk => answer.ramdisk = unset,
        Name::UserData => answer.user_data = Some(wire::AttributeText { value: row.user_data.clone() }),
        Name::DisableApiTermination => answer.disable_api_termination = flag(row.termination_protection),
        Name::DisableApiStop => answer.disable_api_stop = flag(row.stop_protection),
        Name::InstanceInitiatedShutdownBehavior => {
            answer.instance_initiated_shutdown_behavior = match row.shutdown_behavior {
                ShutdownBehavior::Stop => text("stop"),
                ShutdownBehavior::Terminate => text("terminate"),
            };
        }
        Name::RootDeviceName => answer.root_device_name = text(&world.root_device(row)),
        Name::BlockDeviceMapping => answer.block_device_mapping = Some(block_devices(world, row.id)),
        Name::ProductCodes => answer.product_codes = Some(Vec::new()),
        Name::SourceDestCheck => {
            answer.source_dest_check = primary.and_then(|interface| flag(interface.source_dest_check));
        }
        Name::GroupSet => {
            let groups = primary.map(|interface| group_identifiers(world, &interface.groups));
            answer.group_set = Some(groups.unwrap_or_default());
        }
        Name::EbsOptimized => answer.ebs_optimized = flag(false),
        Name::SriovNetSupport => answer.sriov_net_support = unset,
        Name::EnaSupport => answer.ena_support = flag(false),
        Name::EnclaveOptions => answer.enclave_options = Some(EnclaveOptions { enabled: false }),
    }
    answer
}
