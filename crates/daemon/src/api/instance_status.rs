//! DescribeInstanceStatus: two checks for each running instance.
//!
//! On EC2 the system check asks the hardware, the instance check sends the guest an ARP request. Here:
//!
//! ```text
//!                              system      instance
//!   its process runs           ok          ok, or impaired since its guest's kernel panicked
//!   its process was lost and
//!   is brought up again        impaired    insufficient-data
//!   not running                not-applicable for both, and shown only when asked for
//! ```
//!
//! A guest that hangs without a panic is therefore not noticed yet; nothing is claimed of its network.

use cloud::World;
use cloud::model::Instance;
use cloud::state::InstanceState;
use ec2::shapes::instances as wire;
use ec2::{Error, Handler, Timestamp};

use super::Api;
use super::common::time;
use super::ids::{chosen, ids};
use super::instances::{placement, show_state};
use crate::filters::Fields;
use crate::pages::{Listed, MAX_RESULTS};

static LISTED: Listed = Listed {
    fields: Fields {
        paths: &[
            ("application-status.status", ""),
            ("attached-ebs-status.status", "attachedEbsStatus.status"),
            ("availability-zone", "availabilityZone"),
            ("availability-zone-id", "availabilityZoneId"),
            ("event.code", ""),
            ("event.description", ""),
            ("event.instance-event-id", ""),
            ("event.not-after", ""),
            ("event.not-before", ""),
            ("event.not-before-deadline", ""),
            ("instance-state-code", "instanceState.code"),
            ("instance-state-name", "instanceState.name"),
            ("instance-status.reachability", "instanceStatus.details.status"),
            ("instance-status.status", "instanceStatus.status"),
            ("operator.managed", ""),
            ("operator.principal", ""),
            ("system-status.reachability", "systemStatus.details.status"),
            ("system-status.status", "systemStatus.status"),
        ],
        tags: None,
    },
    results: MAX_RESULTS,
    not_with: Some("instancesSet"),
};

impl Handler<wire::DescribeInstanceStatusRequest> for Api {
    async fn handle(
        &self,
        request: wire::DescribeInstanceStatusRequest,
    ) -> Result<wire::DescribeInstanceStatusResponse, Error> {
        let wire::DescribeInstanceStatusRequest {
            instance_id,
            filter,
            include_all_instances,
            max_results,
            next_token,
        } = request;
        let ids = ids(&instance_id)?;
        let listing = LISTED.read(ids.len(), &filter, max_results, next_token)?;
        self.look(|world| {
            let mut rows = chosen::<Instance>(world, &ids)?;
            let all = include_all_instances.unwrap_or(false);
            rows.retain(|(_, row)| all || world.instance_state(row) == InstanceState::Running);
            let (instance_status_set, next_token) =
                listing.of(rows, |(id, _)| id.to_string(), |(_, row)| show(world, row));
            Ok(wire::DescribeInstanceStatusResponse { instance_status_set, next_token })
        })
    }
}

fn show(world: &World, row: &Instance) -> wire::InstanceStatus {
    let state = world.instance_state(row);
    let wire::Placement { availability_zone, availability_zone_id, .. } = placement(world, row);
    let status = world.instance_statuses.get(&row.id);
    let (system_status, instance_status) = match status.filter(|_| state == InstanceState::Running) {
        None => (wire::StatusSummary::default(), wire::StatusSummary::default()),
        Some(status) if !world.is_up(row.id) => {
            (impaired(time(status.since)), summary(wire::SummaryStatus::InsufficientData))
        }
        Some(status) if status.panicked => (summary(wire::SummaryStatus::Ok), impaired(time(status.since))),
        Some(_) => (summary(wire::SummaryStatus::Ok), summary(wire::SummaryStatus::Ok)),
    };
    wire::InstanceStatus {
        instance_id: row.id.to_string(),
        availability_zone,
        availability_zone_id,
        instance_state: show_state(state),
        system_status,
        instance_status,
        // What happens to a volume's requests is the guest's to see.
        attached_ebs_status: None,
    }
}

fn summary(status: wire::SummaryStatus) -> wire::StatusSummary {
    let reachability = match status {
        wire::SummaryStatus::Ok => wire::CheckStatus::Passed,
        wire::SummaryStatus::Impaired => wire::CheckStatus::Failed,
        wire::SummaryStatus::Initializing => wire::CheckStatus::Initializing,
        wire::SummaryStatus::InsufficientData | wire::SummaryStatus::NotApplicable => {
            wire::CheckStatus::InsufficientData
        }
    };
    let check =
        wire::StatusDetails { name: "reachability".into(), status: reachability, impaired_since: None };
    wire::StatusSummary { status, details: vec![check] }
}

fn impaired(since: Timestamp) -> wire::StatusSummary {
    let mut impaired = summary(wire::SummaryStatus::Impaired);
    impaired.details.iter_mut().for_each(|check| check.impaired_since = Some(since));
    impaired
}

#[cfg(test)]
#[test]
fn filters_find_their_elements() {
    assert_eq!(crate::filters::lost_paths::<wire::InstanceStatus>(&LISTED.fields), [""; 0]);
}
