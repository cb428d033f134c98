//! Instances: describing them, and moving them between states.

use cloud::World;
use cloud::catalog;
use cloud::model::{Aim, Instance, Interface, MetadataOptions, Over, Volume, WhyOver};
use cloud::rules::instances::{self, StateChange, Stop};
use cloud::state::InstanceState;
use ec2::shapes::common::{Done, StateReason};
use ec2::shapes::instances as wire;
use ec2::{Blob, Error, Handler};
use spec::control::EndReason;
use spec::ids::InstanceId;
use spec::storage::Architecture;
use tokio::task::spawn_blocking;
use tracing::error;

use super::Api;
use super::common::{attachment_status, group_identifiers, private_name, public_name, tag_set, time};
use super::ids::{chosen, id, ids, the};
use super::subnets::private_dns_name_options;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};
use crate::store::now;

/// What is filtered is a reservation with one instance in it.
static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("affinity", ""),
            ("architecture", "instancesSet.architecture"),
            ("availability-zone", "instancesSet.placement.availabilityZone"),
            ("availability-zone-id", "instancesSet.placement.availabilityZoneId"),
            ("block-device-mapping.attach-time", "instancesSet.blockDeviceMapping.ebs.attachTime"),
            (
                "block-device-mapping.delete-on-termination",
                "instancesSet.blockDeviceMapping.ebs.deleteOnTermination",
            ),
            ("block-device-mapping.device-name", "instancesSet.blockDeviceMapping.deviceName"),
            ("block-device-mapping.status", "instancesSet.blockDeviceMapping.ebs.status"),
            ("block-device-mapping.volume-id", "instancesSet.blockDeviceMapping.ebs.volumeId"),
            ("boot-mode", "instancesSet.bootMode"),
            ("capacity-reservation-id", ""),
            (
                "capacity-reservation-specification.capacity-reservation-preference",
                "instancesSet.capacityReservationSpecification.capacityReservationPreference",
            ),
            ("capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id", ""),
            (
                "capacity-reservation-specification.capacity-reservation-target\
                 .capacity-reservation-resource-group-arn",
                "",
            ),
            ("client-token", "instancesSet.clientToken"),
            ("current-instance-boot-mode", "instancesSet.currentInstanceBootMode"),
            ("dns-name", "instancesSet.dnsName"),
            ("ebs-optimized", "instancesSet.ebsOptimized"),
            ("ena-support", "instancesSet.enaSupport"),
            ("enclave-options.enabled", "instancesSet.enclaveOptions.enabled"),
            ("hibernation-options.configured", "instancesSet.hibernationOptions.configured"),
            ("host-id", ""),
            ("hypervisor", "instancesSet.hypervisor"),
            ("iam-instance-profile.arn", ""),
            ("iam-instance-profile.id", ""),
            ("image-id", "instancesSet.imageId"),
            ("instance-id", "instancesSet.instanceId"),
            ("instance-lifecycle", ""),
            ("instance-state-code", "instancesSet.instanceState.code"),
            ("instance-state-name", "instancesSet.instanceState.name"),
            ("instance-type", "instancesSet.instanceType"),
            ("instance.group-id", "instancesSet.groupSet.groupId"),
            ("instance.group-name", "instancesSet.groupSet.groupName"),
            ("ip-address", "instancesSet.ipAddress"),
            ("ipv6-address", "instancesSet.networkInterfaceSet.ipv6AddressesSet.ipv6Address"),
            ("kernel-id", "instancesSet.kernelId"),
            ("key-name", "instancesSet.keyName"),
            ("launch-index", "instancesSet.amiLaunchIndex"),
            ("launch-time", "instancesSet.launchTime"),
            ("maintenance-options.auto-recovery", "instancesSet.maintenanceOptions.autoRecovery"),
            ("metadata-options.http-endpoint", "instancesSet.metadataOptions.httpEndpoint"),
            ("metadata-options.http-protocol-ipv4", ""),
            ("metadata-options.http-protocol-ipv6", "instancesSet.metadataOptions.httpProtocolIpv6"),
            (
                "metadata-options.http-put-response-hop-limit",
                "instancesSet.metadataOptions.httpPutResponseHopLimit",
            ),
            ("metadata-options.http-tokens", "instancesSet.metadataOptions.httpTokens"),
            ("metadata-options.instance-metadata-tags", "instancesSet.metadataOptions.instanceMetadataTags"),
            ("metadata-options.state", "instancesSet.metadataOptions.state"),
            ("monitoring-state", "instancesSet.monitoring.state"),
            ("network-interface.addresses.association.allocation-id", ""),
            ("network-interface.addresses.association.association-id", ""),
            (
                "network-interface.addresses.association.ip-owner-id",
                "instancesSet.networkInterfaceSet.privateIpAddressesSet.association.ipOwnerId",
            ),
            (
                "network-interface.addresses.association.public-ip",
                "instancesSet.networkInterfaceSet.privateIpAddressesSet.association.publicIp",
            ),
            (
                "network-interface.addresses.primary",
                "instancesSet.networkInterfaceSet.privateIpAddressesSet.primary",
            ),
            (
                "network-interface.addresses.private-ip-address",
                "instancesSet.networkInterfaceSet.privateIpAddressesSet.privateIpAddress",
            ),
            ("network-interface.association.allocation-id", ""),
            ("network-interface.association.association-id", ""),
            (
                "network-interface.association.ip-owner-id",
                "instancesSet.networkInterfaceSet.association.ipOwnerId",
            ),
            (
                "network-interface.association.public-dns-name",
                "instancesSet.networkInterfaceSet.association.publicDnsName",
            ),
            (
                "network-interface.association.public-ip",
                "instancesSet.networkInterfaceSet.association.publicIp",
            ),
            (
                "network-interface.attachment.attach-time",
                "instancesSet.networkInterfaceSet.attachment.attachTime",
            ),
            (
                "network-interface.attachment.attachment-id",
                "instancesSet.networkInterfaceSet.attachment.attachmentId",
            ),
            (
                "network-interface.attachment.delete-on-termination",
                "instancesSet.networkInterfaceSet.attachment.deleteOnTermination",
            ),
            (
                "network-interface.attachment.device-index",
                "instancesSet.networkInterfaceSet.attachment.deviceIndex",
            ),
            ("network-interface.attachment.instance-id", "instancesSet.instanceId"),
            ("network-interface.attachment.instance-owner-id", "ownerId"),
            ("network-interface.attachment.status", "instancesSet.networkInterfaceSet.attachment.status"),
            ("network-interface.availability-zone", "instancesSet.placement.availabilityZone"),
            ("network-interface.description", "instancesSet.networkInterfaceSet.description"),
            ("network-interface.group-id", "instancesSet.networkInterfaceSet.groupSet.groupId"),
            ("network-interface.group-name", "instancesSet.networkInterfaceSet.groupSet.groupName"),
            (
                "network-interface.ipv6-addresses.ipv6-address",
                "instancesSet.networkInterfaceSet.ipv6AddressesSet.ipv6Address",
            ),
            ("network-interface.mac-address", "instancesSet.networkInterfaceSet.macAddress"),
            ("network-interface.network-interface-id", "instancesSet.networkInterfaceSet.networkInterfaceId"),
            ("network-interface.outpost-arn", ""),
            ("network-interface.owner-id", "instancesSet.networkInterfaceSet.ownerId"),
            ("network-interface.private-dns-name", "instancesSet.networkInterfaceSet.privateDnsName"),
            ("network-interface.private-ip-address", "instancesSet.networkInterfaceSet.privateIpAddress"),
            ("network-interface.requester-id", ""),
            ("network-interface.requester-managed", ""),
            ("network-interface.source-dest-check", "instancesSet.networkInterfaceSet.sourceDestCheck"),
            ("network-interface.status", "instancesSet.networkInterfaceSet.status"),
            ("network-interface.subnet-id", "instancesSet.networkInterfaceSet.subnetId"),
            ("network-interface.vpc-id", "instancesSet.networkInterfaceSet.vpcId"),
            ("operator.managed", ""),
            ("operator.principal", ""),
            ("outpost-arn", ""),
            ("owner-id", "ownerId"),
            ("placement-group-name", "instancesSet.placement.groupName"),
            ("placement-partition-number", ""),
            ("platform", ""),
            ("platform-details", "instancesSet.platformDetails"),
            ("private-dns-name", "instancesSet.privateDnsName"),
            (
                "private-dns-name-options.enable-resource-name-dns-a-record",
                "instancesSet.privateDnsNameOptions.enableResourceNameDnsARecord",
            ),
            (
                "private-dns-name-options.enable-resource-name-dns-aaaa-record",
                "instancesSet.privateDnsNameOptions.enableResourceNameDnsAAAARecord",
            ),
            ("private-dns-name-options.hostname-type", "instancesSet.privateDnsNameOptions.hostnameType"),
            ("private-ip-address", "instancesSet.privateIpAddress"),
            ("product-code", "instancesSet.productCodes.productCode"),
            ("product-code.type", "instancesSet.productCodes.type"),
            ("ramdisk-id", "instancesSet.ramdiskId"),
            ("reason", "instancesSet.reason"),
            ("requester-id", "requesterId"),
            ("reservation-id", "reservationId"),
            ("root-device-name", "instancesSet.rootDeviceName"),
            ("root-device-type", "instancesSet.rootDeviceType"),
            ("source-dest-check", "instancesSet.sourceDestCheck"),
            ("spot-instance-request-id", ""),
            ("state-reason-code", "instancesSet.stateReason.code"),
            ("state-reason-message", "instancesSet.stateReason.message"),
            ("subnet-id", "instancesSet.subnetId"),
            ("tenancy", "instancesSet.placement.tenancy"),
            ("tpm-support", ""),
            ("usage-operation", "instancesSet.usageOperation"),
            ("usage-operation-update-time", "instancesSet.usageOperationUpdateTime"),
            ("virtualization-type", "instancesSet.virtualizationType"),
            ("vpc-id", "instancesSet.vpcId"),
        ],
        tags: Some("instancesSet.tagSet"),
    },
    results: MAX_RESULTS,
    not_with: Some("instancesSet"),
};

impl Handler<wire::DescribeInstancesRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeInstancesRequest,
    ) -> Result<wire::DescribeInstancesResponse, Error> {
        let wire::DescribeInstancesRequest { instance_id, filter, max_results, next_token } = request;
        let ids = ids(&instance_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        self.look(|world| {
            let mut rows = chosen::<Instance>(world, &ids)?;
            rows.sort_unstable_by_key(|(_, row)| (row.reservation, row.launch_index));
            let (found, next_token) = listing.of(
                rows,
                |(_, row)| format!("{}/{:010}", row.reservation, row.launch_index),
                |(_, row)| reservation(world, row),
            );
            Ok(wire::DescribeInstancesResponse { reservation_set: joined(found), next_token })
        })
    }
}

/// An instance in its reservation, as if it were the only one there.
fn reservation(world: &World, row: &Instance) -> wire::Reservation {
    wire::Reservation {
        reservation_id: row.reservation.to_string(),
        owner_id: world.settings.account.clone(),
        requester_id: None,
        group_set: Vec::new(),
        instances_set: vec![show(world, row)],
    }
}

/// Neighbours of one reservation, together.
pub(super) fn joined(found: Vec<wire::Reservation>) -> Vec<wire::Reservation> {
    let mut joined: Vec<wire::Reservation> = Vec::new();
    for one in found {
        match joined.last_mut().filter(|last| last.reservation_id == one.reservation_id) {
            Some(last) => last.instances_set.extend(one.instances_set),
            None => joined.push(one),
        }
    }
    joined
}

/// The instances of one launch.
pub(super) fn launched(world: &World, id: spec::ids::ReservationId) -> wire::Reservation {
    let mut rows: Vec<_> = world.launched(id).collect();
    rows.sort_unstable_by_key(|row| row.launch_index);
    joined(rows.into_iter().map(|row| reservation(world, row)).collect()).pop().unwrap_or_default()
}

/// An instance. One that is terminated has neither interface nor volume any more, and so no VPC and no address.
fn show(world: &World, row: &Instance) -> wire::Instance {
    let state = world.instance_state(row);
    let interfaces = world.interfaces_of(row.id);
    let interfaces: Vec<&Interface> =
        interfaces.into_iter().map(|row| &**row).filter(|interface| !interface.doomed).collect();
    let primary = interfaces.first().copied();
    let public = primary.and_then(|interface| world.public_address(interface));
    let (reason, state_reason) = why(world, row, state);
    wire::Instance {
        instance_id: row.id.to_string(),
        image_id: row.image.to_string(),
        instance_state: show_state(state),
        private_dns_name: primary.map(|interface| private_name(world, interface)).unwrap_or_default(),
        dns_name: primary
            .zip(public)
            .map(|(interface, address)| public_name(world, interface, address))
            .unwrap_or_default(),
        reason,
        key_name: row.key_name.clone(),
        ami_launch_index: row.launch_index,
        product_codes: Vec::new(),
        instance_type: row.instance_type.clone(),
        launch_time: time(row.launched),
        placement: placement(world, row),
        kernel_id: None,
        ramdisk_id: None,
        monitoring: wire::Monitoring { state: "disabled".into() },
        subnet_id: primary.map(|interface| interface.subnet.to_string()),
        vpc_id: primary.map(|interface| interface.vpc.to_string()),
        private_ip_address: primary.map(|interface| interface.address.to_string()),
        ip_address: public.map(|address| address.to_string()),
        source_dest_check: primary.map(|interface| interface.source_dest_check),
        group_set: primary.map(|row| group_identifiers(world, &row.groups)).unwrap_or_default(),
        state_reason,
        architecture: architecture(row).name().into(),
        root_device_type: "ebs".into(),
        root_device_name: world.root_device(row),
        block_device_mapping: block_devices(world, row.id),
        virtualization_type: "hvm".into(),
        client_token: row.client_token.as_ref().map(|token| token.token.clone()).unwrap_or_default(),
        tag_set: tag_set(&row.tags),
        // EC2's word for Nitro here as well as for Xen.
        hypervisor: "xen".into(),
        network_interface_set: interfaces.iter().map(|interface| show_interface(world, interface)).collect(),
        ebs_optimized: false,
        // Guests have virtio network cards, not Amazon's.
        ena_support: None,
        cpu_options: catalog::find(&row.instance_type).map(|kind| wire::CpuOptions {
            core_count: kind.cores().into(),
            threads_per_core: kind.threads_per_core().into(),
        }),
        capacity_reservation_specification: Some(wire::CapacityReservationSpecification {
            capacity_reservation_preference: "open".into(),
        }),
        hibernation_options: Some(wire::HibernationOptions { configured: row.hibernation }),
        metadata_options: Some(metadata_options(row.metadata)),
        enclave_options: Some(wire::EnclaveOptions { enabled: false }),
        // The monitor loads the kernel itself: neither BIOS nor UEFI.
        boot_mode: None,
        current_instance_boot_mode: None,
        platform_details: Some("Linux/UNIX".into()),
        usage_operation: Some("RunInstances".into()),
        usage_operation_update_time: None,
        private_dns_name_options: Some(private_dns_name_options()),
        maintenance_options: Some(wire::MaintenanceOptions { auto_recovery: "default".into() }),
    }
}

/// The architecture of an instance's type. Types are never taken out of the catalog.
fn architecture(row: &Instance) -> Architecture {
    catalog::find(&row.instance_type).map_or(Architecture::HERE, |kind| kind.architecture)
}

pub(super) fn placement(world: &World, row: &Instance) -> wire::Placement {
    let zone = world.subnets.get(&row.subnet).map(|subnet| subnet.zone.clone()).unwrap_or_default();
    wire::Placement {
        availability_zone_id: Some(world.settings.zone_id(&zone)),
        availability_zone: zone,
        group_name: String::new(),
        tenancy: "default".into(),
    }
}

/// A state with EC2's number for it.
pub(super) fn show_state(state: InstanceState) -> wire::InstanceState {
    use wire::InstanceStateName as Name;
    let name = match state {
        InstanceState::Pending => Name::Pending,
        InstanceState::Running => Name::Running,
        InstanceState::ShuttingDown => Name::ShuttingDown,
        InstanceState::Terminated => Name::Terminated,
        InstanceState::Stopping => Name::Stopping,
        InstanceState::Stopped => Name::Stopped,
    };
    name.into()
}

/// Why an instance is in its state: the sentence of its last change, and the reason of its state.
fn why(world: &World, row: &Instance, state: InstanceState) -> (String, Option<StateReason>) {
    let reason = |code: &str, text: String| Some(StateReason { code: code.into(), message: text });
    match (state, world.over(row).filter(|_| row.goal.aim == Aim::Run)) {
        (InstanceState::Running, _) => (String::new(), None),
        (InstanceState::Pending, _) => (String::new(), reason("pending", "pending".into())),
        (_, None) => {
            let moment = time(row.goal.since).to_string().replace('T', " ").replace(".000Z", " GMT");
            let (code, what, initiated) = match row.goal.aim {
                Aim::Down { hibernate: true, .. } => {
                    ("Client.UserInitiatedHibernate", "hibernate", "User initiated hibernate")
                }
                _ => ("Client.UserInitiatedShutdown", "shutdown", "User initiated"),
            };
            (format!("{initiated} ({moment})"), reason(code, format!("{code}: User initiated {what}")))
        }
        (_, Some(Over { why: WhyOver::PoweredOff, .. })) => {
            let code = "Client.InstanceInitiatedShutdown";
            (String::new(), reason(code, format!("{code}: Instance initiated shutdown")))
        }
        (_, Some(Over { why: WhyOver::GivenUp { reason: ending, message }, .. })) => {
            let code = "Server.InternalError";
            let (what, said) = (given_up(*ending), without_host_paths(message));
            let text = format!("{code}: Internal error on launch: {what}. {said}");
            (code.to_owned(), reason(code, text))
        }
    }
}

/// Why a machine was given up.
fn given_up(ending: Option<EndReason>) -> &'static str {
    match ending {
        Some(EndReason::PoweredOff) => "the guest powered itself off again and again",
        Some(EndReason::Crashed) => "the guest crashed its processor again and again",
        Some(EndReason::Unbuildable) => "no machine can be made of its image and type",
        Some(EndReason::Unrestorable) => "it could not go on from where it was hibernated",
        Some(EndReason::Failed | EndReason::Saved) => "its monitor failed again and again",
        None => "its machine could not be set up, or was killed again and again",
    }
}

/// What was said when a machine was given up, as a user may know it: where the host keeps what is not the user's affair,
/// and a guest's words may be in it. The log has it whole.
fn without_host_paths(message: &str) -> String {
    const LONGEST: usize = 400;
    let is_path = |word: &&str| word.starts_with('/') && word.matches('/').count() > 2;
    let words = message.split(' ').map(|word| Some(word).filter(|word| !is_path(word)).unwrap_or("(a file)"));
    let text: String = words.collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect();
    text.replace(|c: char| !(c.is_ascii_graphic() || c == ' '), "?")
}

/// The devices of an instance: the volumes that are or will be attached.
pub(super) fn block_devices(world: &World, id: InstanceId) -> Vec<wire::InstanceBlockDeviceMapping> {
    let device = |row: &Volume| {
        let at = row.attachment.as_ref().filter(|_| !row.doomed)?;
        Some(wire::InstanceBlockDeviceMapping {
            device_name: at.device.clone(),
            ebs: wire::EbsInstanceBlockDevice {
                volume_id: row.id.to_string(),
                status: attachment_status(world.volume_attachment_state(row, at)),
                attach_time: time(at.since),
                delete_on_termination: at.delete_on_termination,
            },
        })
    };
    world.volumes_of(id).into_iter().filter_map(|row| device(row)).collect()
}

pub(super) fn metadata_options(options: MetadataOptions) -> wire::MetadataOptions {
    let enabled = |yes| if yes { "enabled" } else { "disabled" }.to_owned();
    wire::MetadataOptions {
        state: "applied".into(),
        http_tokens: if options.tokens_required { "required" } else { "optional" }.into(),
        http_put_response_hop_limit: options.hop_limit.into(),
        http_endpoint: enabled(options.enabled),
        http_protocol_ipv6: enabled(false),
        instance_metadata_tags: enabled(options.tags),
    }
}

fn show_interface(world: &World, row: &Interface) -> wire::InstanceNetworkInterface {
    let association = world.public_address(row).map(|address| wire::InstanceNetworkInterfaceAssociation {
        public_ip: address.to_string(),
        public_dns_name: public_name(world, row, address),
        ip_owner_id: "amazon".into(),
    });
    let attachment = row.attachment.as_ref().map(|at| wire::InstanceNetworkInterfaceAttachment {
        attachment_id: at.id.to_string(),
        device_index: at.device_index,
        network_card_index: 0,
        status: attachment_status(world.interface_attachment_state(row.id, at)),
        attach_time: time(at.since),
        delete_on_termination: at.delete_on_termination,
    });
    let private = wire::InstancePrivateIpAddress {
        private_ip_address: row.address.to_string(),
        private_dns_name: Some(private_name(world, row)),
        primary: true,
        association: association.clone(),
    };
    wire::InstanceNetworkInterface {
        network_interface_id: row.id.to_string(),
        subnet_id: row.subnet.to_string(),
        vpc_id: row.vpc.to_string(),
        description: row.description.clone(),
        owner_id: world.settings.account.clone(),
        status: "in-use".into(),
        mac_address: row.mac.to_string(),
        private_ip_address: row.address.to_string(),
        private_dns_name: Some(private_name(world, row)),
        source_dest_check: row.source_dest_check,
        group_set: group_identifiers(world, &row.groups),
        attachment: attachment.unwrap_or_default(),
        association,
        private_ip_addresses_set: vec![private],
        ipv6_addresses_set: Vec::new(),
        interface_type: "interface".into(),
    }
}

impl Handler<wire::StartInstancesRequest> for Api {
    async fn handle(
        &self,
        request: wire::StartInstancesRequest,
    ) -> Result<wire::InstanceStateChanges, Error> {
        let wire::StartInstancesRequest { instance_id } = request;
        let ids = ids(&instance_id)?;
        let (changes, _) = self.change(move |tx| instances::start(tx, &ids)).await?;
        Ok(show_changes(&changes))
    }
}

impl Handler<wire::StopInstancesRequest> for Api {
    async fn handle(&self, request: wire::StopInstancesRequest) -> Result<wire::InstanceStateChanges, Error> {
        let wire::StopInstancesRequest { instance_id, force, hibernate } = request;
        let ids = ids(&instance_id)?;
        let stop = match (force.unwrap_or(false), hibernate.unwrap_or(false)) {
            (false, false) => Stop::Asked,
            (true, false) => Stop::Forced,
            (false, true) => Stop::Hibernated,
            (true, true) => {
                let text =
                    "Force and Hibernate cannot both be given: what is hibernated is not stopped by force";
                return Err(Error::invalid_parameter_combination(text));
            }
        };
        let (changes, _) = self.change(move |tx| instances::stop(tx, &ids, stop)).await?;
        Ok(show_changes(&changes))
    }
}

impl Handler<wire::RebootInstancesRequest> for Api {
    async fn handle(&self, request: wire::RebootInstancesRequest) -> Result<Done, Error> {
        let wire::RebootInstancesRequest { instance_id } = request;
        let ids = ids(&instance_id)?;
        self.change(move |tx| instances::reboot(tx, &ids)).await?;
        Ok(Done::default())
    }
}

impl Handler<wire::TerminateInstancesRequest> for Api {
    async fn handle(
        &self,
        request: wire::TerminateInstancesRequest,
    ) -> Result<wire::InstanceStateChanges, Error> {
        let wire::TerminateInstancesRequest { instance_id } = request;
        let ids = ids(&instance_id)?;
        let (changes, _) = self.change(move |tx| instances::terminate(tx, &ids)).await?;
        Ok(show_changes(&changes))
    }
}

fn show_changes(changes: &[StateChange]) -> wire::InstanceStateChanges {
    let show = |change: &StateChange| wire::InstanceStateChange {
        instance_id: change.instance.to_string(),
        current_state: show_state(change.current),
        previous_state: show_state(change.previous),
    };
    wire::InstanceStateChanges { instances_set: changes.iter().map(show).collect() }
}

impl Handler<wire::GetConsoleOutputRequest> for Api {
    async fn handle(
        &self,
        request: wire::GetConsoleOutputRequest,
    ) -> Result<wire::GetConsoleOutputResponse, Error> {
        let wire::GetConsoleOutputRequest { instance_id } = request;
        let id: InstanceId = id(&instance_id)?;
        self.look(|world| the::<Instance>(world, id).map(|_| ()))?;
        let host = self.host.clone();
        let read = spawn_blocking(move || host.console_output(id)).await;
        let output = match read {
            Ok(Ok(output)) => output,
            Ok(Err(problem)) if problem.kind == host::ErrorKind::NotFound => Vec::new(),
            Ok(Err(problem)) => {
                error!("could not read the console of {id}: {}", problem.chain());
                return Err(Error::internal_error());
            }
            Err(broken) => {
                error!("reading the console of {id} broke off: {broken}");
                return Err(Error::internal_error());
            }
        };
        let timestamp = time(now());
        Ok(wire::GetConsoleOutputResponse { instance_id: id.to_string(), timestamp, output: Blob(output) })
    }
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::Reservation>(&LISTED.fields), [""; 0]);
}
