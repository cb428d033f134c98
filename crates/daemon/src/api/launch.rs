//! RunInstances: from a request's words to a [`Launch`].

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cloud::World;
use cloud::model::{MetadataOptions, ShutdownBehavior};
use cloud::rules::block_devices::BlockDevice;
use cloud::rules::launch::{Launch, run_instances};
use cloud::rules::performance::Performance;
use ec2::shapes::instances as wire;
use ec2::{Blob, Error, Handler, Resource};
use spec::ids::{ImageId, SnapshotId};

use super::Api;
use super::common::{read_address, read_tag_specifications, read_token};
use super::ids::{id, ids};
use super::instances::launched;
use super::volumes::read_kind;

/// Bytes of user-data at most, before base64 (AWS API reference, *RunInstances*).
const MAX_USER_DATA: usize = 16 * 1024;

impl Handler<wire::RunInstancesRequest> for Api {
    async fn handle(&self, request: wire::RunInstancesRequest) -> Result<wire::Reservation, Error> {
        let launch = read(&self.store.world(), request)?;
        let (reservation, world) = self.change(move |tx| run_instances(tx, &launch)).await?;
        Ok(launched(&world, reservation))
    }
}

/// What a request wants. The world is only asked for the name of the image's root device.
fn read(world: &World, request: wire::RunInstancesRequest) -> Result<Launch, Error> {
    let wire::RunInstancesRequest {
        block_device_mapping,
        client_token,
        disable_api_stop,
        disable_api_termination,
        hibernation_options,
        image_id,
        instance_initiated_shutdown_behavior,
        instance_type,
        key_name,
        max_count,
        metadata_options,
        min_count,
        network_interface,
        placement,
        private_ip_address,
        security_group,
        security_group_id,
        subnet_id,
        tag_specification,
        user_data,
    } = request;
    let image: ImageId = id(&image_id.ok_or_else(|| Error::missing_parameter("ImageId"))?)?;
    if subnet_id.is_some() && !security_group.is_empty() {
        let text = "The parameter groupName cannot be used with the parameter subnet";
        return Err(Error::invalid_parameter_combination(text));
    }
    let top = wire::InstanceNetworkInterfaceSpecification {
        private_ip_address,
        security_group_id,
        subnet_id,
        ..Default::default()
    };
    let interface = choose_interface(top, !security_group.is_empty(), network_interface)?;
    let mut tags = read_tag_specifications(tag_specification, &["instance", "volume", "network-interface"])?;
    let mut tags_of = |kind| tags.remove(kind).unwrap_or_default();
    Ok(Launch {
        image,
        instance_type,
        least: min_count,
        most: max_count,
        key_name,
        groups: ids(&interface.security_group_id)?.into_iter().collect(),
        group_names: security_group.into_iter().collect(),
        subnet: interface.subnet_id.as_deref().map(id).transpose()?,
        zone: placement.and_then(|wire::RequestedPlacement { availability_zone }| availability_zone),
        address: interface.private_ip_address.as_deref().map(read_address).transpose()?,
        public: interface.associate_public_ip_address,
        interface_description: interface.description.unwrap_or_default(),
        keep_interface: interface.delete_on_termination == Some(false),
        user_data: user_data.map(read_user_data).transpose()?,
        volumes: read_devices(world, image, block_device_mapping)?,
        instance_tags: tags_of("instance"),
        volume_tags: tags_of("volume"),
        interface_tags: tags_of("network-interface"),
        client_token: read_token(client_token)?,
        shutdown_behavior: match instance_initiated_shutdown_behavior.unwrap_or_default() {
            wire::ShutdownBehavior::Stop => ShutdownBehavior::Stop,
            wire::ShutdownBehavior::Terminate => ShutdownBehavior::Terminate,
        },
        termination_protection: disable_api_termination.unwrap_or(false),
        stop_protection: disable_api_stop.unwrap_or(false),
        hibernation: hibernation_options.and_then(|options| options.configured).unwrap_or(false),
        metadata: read_metadata_options(metadata_options.unwrap_or_default())?,
    })
}

/// The primary interface as a request describes it: by parameters of the instance, or by `NetworkInterface.1`, never by
/// both.
fn choose_interface(
    top: wire::InstanceNetworkInterfaceSpecification,
    groups_by_name: bool,
    mut listed: Vec<wire::InstanceNetworkInterfaceSpecification>,
) -> Result<wire::InstanceNetworkInterfaceSpecification, Error> {
    if listed.len() > 1 {
        let text =
            "An instance is launched with one network interface here; more than one is not supported yet";
        return Err(Error::unsupported_operation(text));
    }
    let Some(interface) = listed.pop() else { return Ok(top) };
    for (said, what) in [
        (top.subnet_id.is_some(), "subnet ID"),
        (groups_by_name || !top.security_group_id.is_empty(), "security groups"),
        (top.private_ip_address.is_some(), "private IP address"),
    ] {
        if said {
            let text = format!(
                "Network interfaces and an instance-level {what} may not be specified on the same request"
            );
            return Err(Error::invalid_parameter_combination(text));
        }
    }
    if interface.device_index != 0 {
        let index = interface.device_index.to_string();
        let why = "The only network interface of an instance has the device index 0.";
        return Err(Error::invalid_parameter_value("NetworkInterface.1.DeviceIndex", &index, why));
    }
    Ok(interface)
}

pub(super) fn read_user_data(Blob(bytes): Blob) -> Result<String, Error> {
    if bytes.len() > MAX_USER_DATA {
        let text = format!("User data is limited to {MAX_USER_DATA} bytes");
        return Err(Error::new(400, "InvalidParameterValue", text));
    }
    Ok(BASE64_STANDARD.encode(bytes))
}

/// The volumes that a request says something of. Taking away a device that the image does not have is no error.
fn read_devices(
    world: &World,
    image: ImageId,
    mappings: Vec<wire::BlockDeviceMapping>,
) -> Result<Vec<BlockDevice>, Error> {
    let bad = |text: String| Err(Error::new(400, "InvalidBlockDeviceMapping", text));
    let root = world.images.get(&image).map(|image| image.root_device.as_str());
    let mut devices = Vec::with_capacity(mappings.len());
    for wire::BlockDeviceMapping { device_name, ebs, no_device } in mappings {
        let shown: String = device_name.chars().take(64).collect();
        match (ebs, no_device) {
            (Some(_), Some(_)) => {
                return bad(format!("The device '{shown}' has both a volume and NoDevice"));
            }
            (None, Some(_)) if root == Some(device_name.as_str()) => {
                return bad(format!("The root device '{shown}' cannot be left out"));
            }
            (None, Some(_)) => {}
            (None, None) => return bad(format!("The device '{shown}' has neither a volume nor NoDevice")),
            (Some(ebs), None) => {
                if let Some(snapshot) = ebs.snapshot_id {
                    let snapshot: SnapshotId = id(&snapshot)?;
                    return Err(Error::not_found(Resource::Snapshot, &snapshot.to_string()));
                }
                devices.push(BlockDevice {
                    device: device_name,
                    gib: ebs.volume_size,
                    kind: ebs.volume_type.map(read_kind),
                    performance: Performance { iops: ebs.iops, throughput: ebs.throughput },
                    delete_on_termination: ebs.delete_on_termination,
                });
            }
        }
    }
    Ok(devices)
}

/// What is not said is as EC2 has it where neither account nor image says anything (AWS, *Configure instance metadata
/// options for new instances*).
fn read_metadata_options(options: wire::RequestedMetadataOptions) -> Result<MetadataOptions, Error> {
    let wire::RequestedMetadataOptions {
        http_endpoint,
        http_put_response_hop_limit,
        http_tokens,
        instance_metadata_tags,
    } = options;
    let hops = http_put_response_hop_limit.unwrap_or(1);
    Ok(MetadataOptions {
        enabled: http_endpoint != Some(wire::Switch::Disabled),
        tokens_required: http_tokens == Some(wire::HttpTokens::Required),
        hop_limit: read_hops("MetadataOptions.HttpPutResponseHopLimit", hops)?,
        tags: instance_metadata_tags == Some(wire::Switch::Enabled),
    })
}

/// How far an answer of the metadata service may travel.
pub(super) fn read_hops(parameter: &str, hops: i32) -> Result<u8, Error> {
    u8::try_from(hops).ok().filter(|hops| (1..=64).contains(hops)).ok_or_else(|| {
        Error::invalid_parameter_value(parameter, &hops.to_string(), "Expecting a value between 1 and 64.")
    })
}
