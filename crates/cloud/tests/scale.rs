//! What a command and the looks after it cost among many instances: as much as among few.
//!
//! Counted are allocations: whoever writes a row or gathers some allocates, whatever the processor. What time it took is
//! only printed, `cargo test -p cloud --test scale -- --nocapture`: it shows a walk that allocates nothing.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

#[allow(dead_code, reason = "this test needs only a part of it")]
mod common;

use std::time::{Duration, Instant};

use allocation_counter::measure;
use cloud::Settings;
use cloud::model::*;
use cloud::rules::launch::{Launch, run_instances};
use cloud::rules::{instances as rules, security_groups};
use common::Cloud;
use spec::ids::*;
use spec::network::{Peer, Traffic};
use spec::observed::Scope;
use tests::small_world::{launch, settings};

const FEW: u32 = 1_000;
const MANY: u32 = 10_000;
/// A tree of ten times as many leaves is a little higher.
const MORE_AT_MOST: f64 = 1.5;

/// What something cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    allocations: u64,
    time: Duration,
}

impl Cost {
    /// Does it, and adds what it cost.
    fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (mut answer, begin) = (None, Instant::now());
        self.allocations += measure(|| answer = Some(work())).count_total;
        self.time += begin.elapsed();
        answer.unwrap()
    }
}

/// A cloud on a host without bounds, with so many instances, and what launching them in one call cost.
fn cloud_of(instances: u32) -> (Cloud, ImageId, Cost) {
    let settings = Settings {
        vcpus: u32::MAX,
        memory_mib: u64::from(u32::MAX),
        volume_gib: u64::from(u32::MAX),
        public_pool: "198.18.0.0/15".parse().unwrap(),
        ..settings()
    };
    let (mut cloud, image) = Cloud::with(settings);
    let mut cost = Cost::default();
    // A subnet has room for four thousand.
    for (zone, share) in
        ["a", "b", "c"].into_iter().zip([instances / 3, instances / 3, instances.div_ceil(3)])
    {
        let (least, most, zone) = (share, share, Some(format!("us-east-1{zone}")));
        let command = Launch { least, most, zone, ..launch(image) };
        cost.of(|| cloud.command(|tx| run_instances(tx, &command)).unwrap());
    }
    cloud.converge();
    (cloud, image, cost)
}

/// The looks that a change of this row calls for, until nothing is left to do.
fn looks_at(cloud: &mut Cloud, key: Key, cost: &mut Cost) {
    for _ in 0..20 {
        let (settled, steps) = cost.of(|| {
            let resources = cloud.world.resources_of([key]);
            cloud.look(&Scope::Resources(resources))
        });
        if !settled && steps.is_empty() {
            return;
        }
        steps.iter().for_each(|step| cloud.perform(step));
    }
    panic!("no end to the steps for {key:?}");
}

/// One instance's life beside the others, part by part.
fn life(cloud: &mut Cloud, image: ImageId) -> Vec<(&'static str, Cost)> {
    let mut parts = Vec::new();
    let mut id = InstanceId::from_random(0);
    let mut part = |name, cloud: &mut Cloud, command: &dyn Fn(&mut Cloud, InstanceId) -> InstanceId| {
        let mut cost = Cost::default();
        id = cost.of(|| command(cloud, id));
        looks_at(cloud, Key::Instance(id), &mut cost);
        parts.push((name, cost));
        id
    };
    part("launch", cloud, &|cloud, _| {
        let command = Launch { client_token: Some("once".into()), ..launch(image) };
        let reservation = cloud.command(|tx| run_instances(tx, &command)).unwrap();
        cloud.world.launched(reservation).next().unwrap().id
    });
    part("launch again", cloud, &|cloud, id| {
        let command = Launch { client_token: Some("once".into()), ..launch(image) };
        cloud.command(|tx| run_instances(tx, &command)).unwrap();
        id
    });
    part("stop", cloud, &|cloud, id| {
        cloud.command(|tx| rules::stop(tx, &[id], rules::Stop::Asked)).unwrap();
        id
    });
    part("start", cloud, &|cloud, id| {
        cloud.command(|tx| rules::start(tx, &[id])).unwrap();
        id
    });
    part("terminate", cloud, &|cloud, id| {
        cloud.command(|tx| rules::terminate(tx, &[id])).unwrap();
        id
    });
    parts
}

/// A new rule for the group that everyone is in.
fn authorize(cloud: &mut Cloud) -> Cost {
    let group = *cloud.world.security_groups.keys().next().unwrap();
    let rule = GroupRule {
        direction: Direction::Ingress,
        traffic: Traffic::Tcp(22, 22),
        peer: Peer::Ipv4("10.0.0.0/8".parse().unwrap()),
        description: None,
        tags: Tags::new(),
    };
    let mut cost = Cost::default();
    cost.of(|| cloud.command(|tx| security_groups::authorize(tx, group, vec![rule.clone()]))).unwrap();
    looks_at(cloud, Key::SecurityGroup(group), &mut cost);
    cost
}

#[test]
fn a_command_among_many_costs_what_it_costs_among_few() {
    let ((mut few, image, launched_few), (mut many, image_of_many, launched_many)) =
        (cloud_of(FEW), cloud_of(MANY));
    let mut parts = life(&mut few, image);
    parts.push(("authorize", authorize(&mut few)));
    let mut parts_of_many = life(&mut many, image_of_many);
    parts_of_many.push(("authorize", authorize(&mut many)));
    println!("among {FEW:>6}                 {MANY:>6}");
    for ((name, few), (_, many)) in parts.into_iter().zip(parts_of_many) {
        let more = compare(name, few, many);
        assert!(more < MORE_AT_MOST, "{name}: {more} times the allocations");
    }
    let more = compare("all at once", launched_few, launched_many);
    assert!(more < 10.0 * MORE_AT_MOST, "ten times as many cost {more} times as much");
}

/// Prints both, and returns how many times the allocations it took among many.
fn compare(name: &str, few: Cost, many: Cost) -> f64 {
    let ratio = |many: f64, few: f64| many / few;
    let allocations = ratio(many.allocations as f64, few.allocations as f64);
    let time = ratio(many.time.as_secs_f64(), few.time.as_secs_f64());
    println!(
        "{name:12} {:>9} allocations {:>9} ({allocations:.2}x), {:>8.1?} {:>8.1?} ({time:.1}x)",
        few.allocations, many.allocations, few.time, many.time
    );
    allocations
}
