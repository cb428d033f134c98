//! One attribute of an instance at a time, shown and changed; its metadata options; its CPU credits.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cloud::World;
use cloud::catalog;
use cloud::model::{Instance, ShutdownBehavior};
use cloud::rules::instance_attributes::{Attribute, DeviceChange, MetadataChange, modify, modify_metadata};
use ec2::shapes::common::Done;
use ec2::shapes::instance_attributes as wire;
use ec2::shapes::instances::{EnclaveOptions, HttpTokens, Switch};
use ec2::{Blob, Error, Handler};
use spec::ids::InstanceId;
use wire::InstanceAttributeName as Name;

use super::Api;
use super::common::group_identifiers;
use super::ids::{chosen, id, ids, the};
use super::instances::{block_devices, metadata_options};
use super::launch::{read_hops, read_user_data};
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

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

impl Handler<wire::ModifyInstanceAttributeRequest> for Api {
    async fn handle(&self, request: wire::ModifyInstanceAttributeRequest) -> Result<Done, Error> {
        let id: InstanceId = id(&request.instance_id)?;
        let wish = read(request)?;
        self.change(move |tx| match &wish {
            Wish::Change(attribute) => modify(tx, id, attribute),
            Wish::AsItIs => cloud::rules::instances::require_all(tx, &[id]),
        })
        .await?;
        Ok(Done::default())
    }
}

/// What is asked of an attribute.
enum Wish {
    Change(Attribute),
    /// The only value that it can have here.
    AsItIs,
}

/// The one attribute that a request says, and what it is to be.
fn read(request: wire::ModifyInstanceAttributeRequest) -> Result<Wish, Error> {
    let wire::ModifyInstanceAttributeRequest {
        attribute,
        block_device_mapping,
        disable_api_stop,
        disable_api_termination,
        ebs_optimized,
        ena_support,
        group_id,
        instance_id: _,
        instance_initiated_shutdown_behavior,
        instance_type,
        source_dest_check,
        user_data,
        value,
    } = request;
    let mut said: Vec<(Name, Result<Wish, Error>)> = Vec::new();
    let flags = [
        (Name::DisableApiStop, disable_api_stop),
        (Name::DisableApiTermination, disable_api_termination),
        (Name::EbsOptimized, ebs_optimized),
        (Name::EnaSupport, ena_support),
        (Name::SourceDestCheck, source_dest_check),
    ];
    for (name, flag) in flags {
        said.extend(flag.map(|flag| (name, of_flag(name, flag.value))));
    }
    let texts = [
        (Name::InstanceType, instance_type),
        (Name::InstanceInitiatedShutdownBehavior, instance_initiated_shutdown_behavior),
    ];
    for (name, text) in texts {
        said.extend(text.map(|text| (name, of_text(name, &text.value.unwrap_or_default()))));
    }
    said.extend(user_data.map(|data| (Name::UserData, of_bytes(data.value.unwrap_or_default()))));
    if !group_id.is_empty() {
        let groups = ids(&group_id).map(|ids| Attribute::Groups(ids.into_iter().collect()));
        said.push((Name::GroupSet, groups.map(Wish::Change)));
    }
    if !block_device_mapping.is_empty() {
        said.push((Name::BlockDeviceMapping, read_devices(block_device_mapping).map(Wish::Change)));
    }
    match (attribute, value) {
        (Some(name), Some(value)) => said.push((name, of_text(name, &value))),
        (None, Some(_)) => return Err(combination("The parameter value needs the parameter attribute")),
        (_, None) => {}
    }
    let (Some((name, wish)), None) = (said.pop(), said.pop()) else {
        return Err(combination("Exactly one attribute can be modified at a time"));
    };
    match attribute.filter(|named| *named != name) {
        None => wish,
        Some(_) => Err(combination("The parameter attribute names another attribute than is given")),
    }
}

fn combination(text: &str) -> Error {
    Error::invalid_parameter_combination(text)
}

/// What a text means for an attribute.
fn of_text(name: Name, value: &str) -> Result<Wish, Error> {
    let shown: String = value.chars().take(64).collect();
    let bad = |why: &str| Err(Error::invalid_parameter_value("Value", &shown, why));
    match name {
        Name::InstanceType => Ok(Wish::Change(Attribute::InstanceType(value.to_owned()))),
        Name::InstanceInitiatedShutdownBehavior => match value {
            "stop" => Ok(Wish::Change(Attribute::ShutdownBehavior(ShutdownBehavior::Stop))),
            "terminate" => Ok(Wish::Change(Attribute::ShutdownBehavior(ShutdownBehavior::Terminate))),
            _ => bad("Expected stop or terminate."),
        },
        Name::UserData => match BASE64_STANDARD.decode(value) {
            Ok(bytes) => of_bytes(Blob(bytes)),
            Err(_) => bad("Expected base64."),
        },
        Name::DisableApiStop
        | Name::DisableApiTermination
        | Name::EbsOptimized
        | Name::EnaSupport
        | Name::SourceDestCheck => match value {
            "true" => of_flag(name, true),
            "false" => of_flag(name, false),
            _ => bad("Expected true or false."),
        },
        Name::Kernel | Name::Ramdisk | Name::SriovNetSupport | Name::EnclaveOptions => {
            Err(Error::unsupported_operation("This attribute cannot be modified here yet"))
        }
        Name::RootDeviceName | Name::BlockDeviceMapping | Name::ProductCodes | Name::GroupSet => {
            Err(combination("This attribute cannot be modified by a value"))
        }
    }
}

fn of_flag(name: Name, value: bool) -> Result<Wish, Error> {
    match name {
        Name::DisableApiStop => Ok(Wish::Change(Attribute::StopProtection(value))),
        Name::DisableApiTermination => Ok(Wish::Change(Attribute::TerminationProtection(value))),
        Name::SourceDestCheck => Ok(Wish::Change(Attribute::SourceDestCheck(value))),
        _ if value => Err(Error::unsupported_operation("This attribute can only be false here")),
        _ => Ok(Wish::AsItIs),
    }
}

/// User-data; none of it takes away what there was.
fn of_bytes(bytes: Blob) -> Result<Wish, Error> {
    let data = Some(read_user_data(bytes)?).filter(|data| !data.is_empty());
    Ok(Wish::Change(Attribute::UserData(data)))
}

fn read_devices(mappings: Vec<wire::InstanceBlockDeviceMappingSpecification>) -> Result<Attribute, Error> {
    let mut devices = BTreeMap::new();
    for (number, mapping) in (1..).zip(mappings) {
        let wire::InstanceBlockDeviceMappingSpecification { device_name, ebs } = mapping;
        let missing = |name| Error::missing_parameter(&format!("BlockDeviceMapping.{number}.{name}"));
        let device = device_name.ok_or_else(|| missing("DeviceName"))?;
        let wire::EbsInstanceBlockDeviceSpecification { delete_on_termination, volume_id } =
            ebs.ok_or_else(|| missing("Ebs"))?;
        let change = DeviceChange {
            volume: volume_id.as_deref().map(id).transpose()?,
            delete_on_termination: delete_on_termination.unwrap_or(true),
        };
        devices.insert(device, change);
    }
    Ok(Attribute::DeleteOnTermination(devices))
}

impl Handler<wire::ModifyInstanceMetadataOptionsRequest> for Api {
    async fn handle(
        &self,
        request: wire::ModifyInstanceMetadataOptionsRequest,
    ) -> Result<wire::ModifyInstanceMetadataOptionsResponse, Error> {
        let wire::ModifyInstanceMetadataOptionsRequest {
            http_endpoint,
            http_put_response_hop_limit,
            http_tokens,
            instance_id,
            instance_metadata_tags,
        } = request;
        let id: InstanceId = id(&instance_id)?;
        let hops = http_put_response_hop_limit.map(|hops| read_hops("HttpPutResponseHopLimit", hops));
        let change = MetadataChange {
            enabled: http_endpoint.map(|endpoint| endpoint == Switch::Enabled),
            tokens_required: http_tokens.map(|tokens| tokens == HttpTokens::Required),
            hop_limit: hops.transpose()?,
            tags: instance_metadata_tags.map(|tags| tags == Switch::Enabled),
        };
        let (options, _) = self.change(move |tx| modify_metadata(tx, id, change)).await?;
        Ok(wire::ModifyInstanceMetadataOptionsResponse {
            instance_id: id.to_string(),
            instance_metadata_options: metadata_options(options),
        })
    }
}

static CREDITS: Listed = Listed {
    fields: Fields { paths: &[("instance-id", "instanceId")], tags: None },
    results: MAX_RESULTS,
    not_with: Some("instancesSet"),
};

impl Handler<wire::DescribeInstanceCreditSpecificationsRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeInstanceCreditSpecificationsRequest,
    ) -> Result<wire::DescribeInstanceCreditSpecificationsResponse, Error> {
        let wire::DescribeInstanceCreditSpecificationsRequest {
            instance_id,
            filter,
            max_results,
            next_token,
        } = request;
        let ids = ids::<InstanceId>(&instance_id)?;
        let listing = CREDITS.read(ids.len(), &filter, max_results, next_token)?;
        let burstable =
            |row: &Instance| catalog::find(&row.instance_type).is_some_and(|kind| kind.burstable());
        self.look(|world| {
            let mut rows = chosen::<Instance>(world, &ids)?;
            if let Some((id, row)) = rows.iter().find(|(_, row)| !ids.is_empty() && !burstable(row)) {
                let kind = &row.instance_type;
                let text = format!("The instance '{id}' is of type {kind}, which does not use CPU credits.");
                return Err(Error::new(400, "InstanceCreditSpecification.NotSupported", text));
            }
            rows.retain(|(_, row)| burstable(row));
            // No guest is slowed down for want of credits: that is what EC2 calls unlimited.
            let show = |id: &InstanceId| wire::InstanceCreditSpecification {
                instance_id: id.to_string(),
                cpu_credits: "unlimited".into(),
            };
            let (found, next_token) = listing.of(rows, |(id, _)| id.to_string(), |(id, _)| show(id));
            Ok(wire::DescribeInstanceCreditSpecificationsResponse {
                instance_credit_specification_set: found,
                next_token,
            })
        })
    }
}
