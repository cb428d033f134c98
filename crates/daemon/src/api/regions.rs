//! The region, its zones, and what the account may do in them.

use cloud::rules::launch::MAX_GROUPS;
use cloud::{Settings, World};
use ec2::shapes::regions as wire;
use ec2::{Error, Handler};

use super::Api;
use crate::filters::{Fields, Filters};

const REGIONS: Fields = Fields {
    paths: &[("endpoint", "regionEndpoint"), ("opt-in-status", "optInStatus"), ("region-name", "regionName")],
    tags: None,
};

const ZONES: Fields = Fields {
    paths: &[
        ("group-long-name", ""),
        ("group-name", "groupName"),
        ("message", "messageSet.message"),
        ("opt-in-status", "optInStatus"),
        ("parent-zone-id", ""),
        ("parent-zone-name", ""),
        ("region-name", "regionName"),
        ("state", "zoneState"),
        ("zone-id", "zoneId"),
        ("zone-name", "zoneName"),
        ("zone-type", "zoneType"),
    ],
    tags: None,
};

impl Handler<wire::DescribeRegionsRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeRegionsRequest,
    ) -> Result<wire::DescribeRegionsResponse, Error> {
        let wire::DescribeRegionsRequest { region_name, filter } = request;
        let filters = Filters::read(&REGIONS, &filter)?;
        self.look(|world| {
            let region = &world.settings.region;
            if let Some(other) = region_name.iter().find(|name| *name != region) {
                return Err(invalid("region", other));
            }
            let here = wire::Region {
                region_name: region.clone(),
                region_endpoint: self.endpoint.split("://").last().unwrap_or_default().into(),
                opt_in_status: "opt-in-not-required".into(),
            };
            let region_info = [here].into_iter().filter(|region| filters.pass(region)).collect();
            Ok(wire::DescribeRegionsResponse { region_info })
        })
    }
}

impl Handler<wire::DescribeAvailabilityZonesRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeAvailabilityZonesRequest,
    ) -> Result<wire::DescribeAvailabilityZonesResponse, Error> {
        let wire::DescribeAvailabilityZonesRequest { zone_name, zone_id, filter } = request;
        let filters = Filters::read(&ZONES, &filter)?;
        self.look(|world| {
            let mut zones = zones(&world.settings);
            if let Some(other) =
                zone_name.iter().find(|name| zones.iter().all(|zone| zone.zone_name != **name))
            {
                return Err(invalid("availability zone", other));
            }
            if let Some(other) = zone_id.iter().find(|id| zones.iter().all(|zone| zone.zone_id != **id)) {
                return Err(invalid("availability zone-id", other));
            }
            let named = |zone: &wire::AvailabilityZone| {
                (zone_name.is_empty() || zone_name.contains(&zone.zone_name))
                    && (zone_id.is_empty() || zone_id.contains(&zone.zone_id))
            };
            zones.retain(|zone| named(zone) && filters.pass(zone));
            Ok(wire::DescribeAvailabilityZonesResponse { availability_zone_info: zones })
        })
    }
}

fn zones(settings: &Settings) -> Vec<wire::AvailabilityZone> {
    let Settings { region, .. } = settings;
    let zone = |zone_name: String| wire::AvailabilityZone {
        zone_id: settings.zone_id(&zone_name),
        zone_name,
        zone_state: "available".into(),
        zone_type: "availability-zone".into(),
        region_name: region.clone(),
        group_name: format!("{region}-zg-1"),
        network_border_group: region.clone(),
        opt_in_status: "opt-in-not-required".into(),
        message_set: Vec::new(),
    };
    settings.zone_names().map(zone).collect()
}

fn invalid(what: &str, name: &str) -> Error {
    let name: String = name.chars().take(64).collect();
    Error::new(400, "InvalidParameterValue", format!("Invalid {what}: [{name}]"))
}

impl Handler<wire::DescribeAccountAttributesRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeAccountAttributesRequest,
    ) -> Result<wire::DescribeAccountAttributesResponse, Error> {
        let wire::DescribeAccountAttributesRequest { attribute_name } = request;
        self.look(|world| {
            let mut attributes = attributes(world);
            let known = |name: &&String| attributes.iter().any(|(known, _)| known == name);
            if let Some(other) = attribute_name.iter().find(|name| !known(name)) {
                return Err(invalid("attribute name", other));
            }
            attributes.retain(|(name, _)| {
                attribute_name.is_empty() || attribute_name.iter().any(|asked| asked == name)
            });
            let shown = attributes.into_iter().map(|(name, value)| wire::AccountAttribute {
                attribute_name: name.into(),
                attribute_value_set: vec![wire::AccountAttributeValue { attribute_value: value }],
            });
            Ok(wire::DescribeAccountAttributesResponse { account_attribute_set: shown.collect() })
        })
    }
}

/// Elastic addresses cannot be had yet, hence their two noughts.
fn attributes(world: &World) -> Vec<(&'static str, String)> {
    let default_vpc = world.default_vpc().map_or_else(|| "none".to_owned(), |vpc| vpc.id.to_string());
    vec![
        ("supported-platforms", "VPC".into()),
        ("default-vpc", default_vpc),
        ("max-instances", world.settings.users.len().to_string()),
        ("vpc-max-security-groups-per-interface", MAX_GROUPS.to_string()),
        ("max-elastic-ips", "0".into()),
        ("vpc-max-elastic-ips", "0".into()),
    ]
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::Region>(&REGIONS), [""; 0]);
    assert_eq!(crate::filters::lost_paths::<wire::AvailabilityZone>(&ZONES), [""; 0]);
}
