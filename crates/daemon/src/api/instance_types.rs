//! Instance types, and where they are offered: what the catalog has for this host's processor.
//!
//! Sizes and bandwidths are EC2's. What EC2 says of Amazon's hardware beyond that (clock speed, NVMe, ENA) is not said.

use cloud::Settings;
use cloud::catalog::{self, InstanceType};
use ec2::shapes::instance_types as wire;
use ec2::{Error, Handler};

use super::Api;
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static TYPES: Listed = Listed {
    fields: Fields {
        paths: &[
            ("auto-recovery-supported", "autoRecoverySupported"),
            ("bare-metal", "bareMetal"),
            ("burstable-performance-supported", "burstablePerformanceSupported"),
            ("current-generation", "currentGeneration"),
            ("dedicated-hosts-supported", "dedicatedHostsSupported"),
            ("ebs-info.attachment-limit-type", "ebsInfo.attachmentLimitType"),
            ("ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps", ""),
            ("ebs-info.ebs-optimized-info.baseline-iops", ""),
            ("ebs-info.ebs-optimized-info.baseline-throughput-in-mbps", ""),
            ("ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps", ""),
            ("ebs-info.ebs-optimized-info.maximum-iops", ""),
            ("ebs-info.ebs-optimized-info.maximum-throughput-in-mbps", ""),
            ("ebs-info.ebs-optimized-support", "ebsInfo.ebsOptimizedSupport"),
            ("ebs-info.encryption-support", "ebsInfo.encryptionSupport"),
            ("ebs-info.maximum-ebs-attachments", "ebsInfo.maximumEbsAttachments"),
            ("ebs-info.nvme-support", "ebsInfo.nvmeSupport"),
            ("free-tier-eligible", "freeTierEligible"),
            ("hibernation-supported", "hibernationSupported"),
            ("hypervisor", "hypervisor"),
            ("instance-storage-info.disk.count", ""),
            ("instance-storage-info.disk.size-in-gb", ""),
            ("instance-storage-info.disk.type", ""),
            ("instance-storage-info.encryption-support", ""),
            ("instance-storage-info.nvme-support", ""),
            ("instance-storage-info.total-size-in-gb", ""),
            ("instance-storage-supported", "instanceStorageSupported"),
            ("instance-type", "instanceType"),
            ("memory-info.size-in-mib", "memoryInfo.sizeInMiB"),
            ("network-info.bandwidth-weightings", ""),
            ("network-info.efa-info.maximum-efa-interfaces", ""),
            ("network-info.efa-supported", "networkInfo.efaSupported"),
            ("network-info.ena-support", "networkInfo.enaSupport"),
            ("network-info.encryption-in-transit-supported", "networkInfo.encryptionInTransitSupported"),
            ("network-info.flexible-ena-queues-support", ""),
            ("network-info.ipv4-addresses-per-interface", "networkInfo.ipv4AddressesPerInterface"),
            ("network-info.ipv6-addresses-per-interface", "networkInfo.ipv6AddressesPerInterface"),
            ("network-info.ipv6-supported", "networkInfo.ipv6Supported"),
            ("network-info.maximum-network-cards", "networkInfo.maximumNetworkCards"),
            ("network-info.maximum-network-interfaces", "networkInfo.maximumNetworkInterfaces"),
            ("network-info.network-performance", "networkInfo.networkPerformance"),
            ("nitro-enclaves-support", ""),
            ("nitro-tpm-info.supported-versions", ""),
            ("nitro-tpm-support", ""),
            ("processor-info.supported-architecture", "processorInfo.supportedArchitectures"),
            ("processor-info.supported-features", ""),
            ("processor-info.sustained-clock-speed-in-ghz", "processorInfo.sustainedClockSpeedInGhz"),
            ("reboot-migration-support", ""),
            ("supported-boot-mode", "supportedBootModes"),
            ("supported-root-device-type", "supportedRootDeviceTypes"),
            ("supported-usage-class", "supportedUsageClasses"),
            ("supported-virtualization-type", "supportedVirtualizationTypes"),
            ("vcpu-info.default-cores", "vCpuInfo.defaultCores"),
            ("vcpu-info.default-threads-per-core", "vCpuInfo.defaultThreadsPerCore"),
            ("vcpu-info.default-vcpus", "vCpuInfo.defaultVCpus"),
            ("vcpu-info.valid-cores", "vCpuInfo.validCores"),
            ("vcpu-info.valid-threads-per-core", "vCpuInfo.validThreadsPerCore"),
        ],
        tags: None,
    },
    results: 5..=100,
    not_with: None,
};

static OFFERINGS: Listed = Listed {
    fields: Fields { paths: &[("instance-type", "instanceType"), ("location", "location")], tags: None },
    results: MAX_RESULTS,
    not_with: None,
};

impl Handler<wire::DescribeInstanceTypesRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeInstanceTypesRequest,
    ) -> Result<wire::DescribeInstanceTypesResponse, Error> {
        let wire::DescribeInstanceTypesRequest { instance_type, filter, max_results, next_token } = request;
        let listing = TYPES.read(instance_type.len(), &filter, max_results, next_token)?;
        self.look(|world| {
            let types: Vec<&InstanceType> = catalog::types(world.settings.architecture).collect();
            let unknown: Vec<String> = instance_type
                .iter()
                .filter(|name| types.iter().all(|kind| kind.name != **name))
                .map(|name| name.chars().take(64).collect())
                .collect();
            if !unknown.is_empty() {
                let text =
                    format!("The following supplied instance types do not exist: [{}]", unknown.join(", "));
                return Err(Error::new(400, "InvalidInstanceType", text));
            }
            let asked = |kind: &&InstanceType| {
                instance_type.is_empty() || instance_type.iter().any(|name| name == kind.name)
            };
            let (instance_type_set, next_token) =
                listing.of(types.into_iter().filter(asked), |kind| kind.name.to_owned(), |kind| show(kind));
            Ok(wire::DescribeInstanceTypesResponse { instance_type_set, next_token })
        })
    }
}

fn show(kind: &InstanceType) -> wire::InstanceTypeInfo {
    let (cores, threads) = (u32::from(kind.cores()), u32::from(kind.threads_per_core()));
    wire::InstanceTypeInfo {
        instance_type: kind.name.into(),
        current_generation: true,
        free_tier_eligible: false,
        supported_usage_classes: vec!["on-demand".into()],
        supported_root_device_types: vec!["ebs".into()],
        supported_virtualization_types: vec!["hvm".into()],
        bare_metal: false,
        hypervisor: Some(if kind.family() == "t2" { "xen" } else { "nitro" }.into()),
        processor_info: wire::ProcessorInfo {
            supported_architectures: vec![kind.architecture.name().into()],
            sustained_clock_speed_in_ghz: None,
            manufacturer: None,
        },
        v_cpu_info: wire::VCpuInfo {
            default_v_cpus: kind.vcpus.into(),
            default_cores: cores,
            default_threads_per_core: threads,
            valid_cores: vec![cores],
            valid_threads_per_core: vec![threads],
        },
        memory_info: wire::MemoryInfo { size_in_mib: kind.memory_mib.into() },
        instance_storage_supported: false,
        ebs_info: wire::EbsInfo {
            ebs_optimized_support: "unsupported".into(),
            encryption_support: "unsupported".into(),
            nvme_support: "unsupported".into(),
            maximum_ebs_attachments: u32::try_from(catalog::MAX_VOLUMES).ok(),
            attachment_limit_type: Some("shared".into()),
        },
        network_info: show_network(kind),
        placement_group_info: wire::PlacementGroupInfo { supported_strategies: Vec::new() },
        hibernation_supported: true,
        burstable_performance_supported: kind.burstable(),
        dedicated_hosts_supported: false,
        auto_recovery_supported: true,
        supported_boot_modes: Vec::new(),
    }
}

fn show_network(kind: &InstanceType) -> wire::NetworkInfo {
    let [baseline, peak] = [kind.network_mbit, kind.network_peak_mbit()].map(|mbit| f64::from(mbit) / 1000.0);
    let network_performance = format!("Up to {peak} Gigabit");
    wire::NetworkInfo {
        network_performance: network_performance.clone(),
        maximum_network_interfaces: kind.max_interfaces,
        maximum_network_cards: 1,
        default_network_card_index: 0,
        network_cards: vec![wire::NetworkCardInfo {
            network_card_index: 0,
            network_performance,
            maximum_network_interfaces: kind.max_interfaces,
            baseline_bandwidth_in_gbps: Some(baseline),
            peak_bandwidth_in_gbps: Some(peak),
        }],
        ipv4_addresses_per_interface: kind.addresses_per_interface,
        ipv6_addresses_per_interface: 0,
        ipv6_supported: false,
        ena_support: "unsupported".into(),
        efa_supported: false,
        encryption_in_transit_supported: false,
        ena_srd_supported: false,
    }
}

impl Handler<wire::DescribeInstanceTypeOfferingsRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeInstanceTypeOfferingsRequest,
    ) -> Result<wire::DescribeInstanceTypeOfferingsResponse, Error> {
        let wire::DescribeInstanceTypeOfferingsRequest { location_type, filter, max_results, next_token } =
            request;
        let listing = OFFERINGS.read(0, &filter, max_results, next_token)?;
        let location_type = location_type.unwrap_or_default();
        self.look(|world| {
            let locations = locations(&world.settings, location_type);
            let offered = catalog::types(world.settings.architecture)
                .flat_map(|kind| locations.iter().map(|location| (kind.name, location.clone())));
            let (instance_type_offering_set, next_token) = listing.of(
                offered,
                |(kind, location)| format!("{kind} {location}"),
                |(kind, location)| wire::InstanceTypeOffering {
                    instance_type: (*kind).into(),
                    location_type,
                    location: location.clone(),
                },
            );
            Ok(wire::DescribeInstanceTypeOfferingsResponse { instance_type_offering_set, next_token })
        })
    }
}

/// The places of a kind, in the order of their names.
fn locations(settings: &Settings, kind: wire::LocationType) -> Vec<String> {
    let mut places: Vec<String> = match kind {
        wire::LocationType::Region => vec![settings.region.clone()],
        wire::LocationType::AvailabilityZone => settings.zone_names().collect(),
        wire::LocationType::AvailabilityZoneId => {
            settings.zone_names().map(|zone| settings.zone_id(&zone)).collect()
        }
        wire::LocationType::Outpost => Vec::new(),
    };
    places.sort();
    places
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::InstanceTypeInfo>(&TYPES.fields), [""; 0]);
    assert_eq!(crate::filters::lost_paths::<wire::InstanceTypeOffering>(&OFFERINGS.fields), [""; 0]);
}
