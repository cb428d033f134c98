//! The API over a store, a loop and a simulated host, where no client gets to: what befalls a machine, and
//! requests that no client would make.
//!
//! What clients see otherwise is tested with real ones, in `tests/clients`.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::sync::Arc;
use std::time::Duration;

use cloud::model::*;
use cloud::{Refusal, Tx};
use cumuletd::api::Api;
use cumuletd::reconcile::Reconciler;
use cumuletd::store::Store;
use ec2::actions::{Visitor, read_response, visit, write_request};
use ec2::query::Parameters;
use ec2::shapes::instances as wire;
use ec2::specimen::{Choices, fill};
use ec2::{Action, Call, Error};
use host::simulated::Simulated;
use host::{Capacity, Host};
use spec::control::EndReason;
use spec::ids::{ImageId, InstanceId};
use tempfile::TempDir;
use tests::small_world::{chance, first_image, settings};

/// A cloud with one image, and its host.
struct Cloud {
    store: Store,
    host: Simulated,
    reconciler: Reconciler,
    image: ImageId,
    _folder: TempDir,
}

impl Cloud {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Simulated::new(Capacity { processors: 4, memory_mib: 8192 });
        let (store, wakes) = Store::open(&folder.path().join("store.sqlite"), settings()).unwrap();
        let reconciler = Reconciler::new(store.clone(), Arc::new(host.clone()) as Arc<dyn Host>, wakes);
        let (image, _) = store.transact(first_image).await.unwrap();
        host.add_image(image);
        Self { store, host, reconciler, image, _folder: folder }
    }

    fn api(&self, dry_run: bool) -> Api {
        Api::new(self.store.clone(), Arc::new(self.host.clone()), "http://127.0.0.1:8773", dry_run)
    }

    /// What a body is answered with.
    async fn answer(&self, body: &str) -> Result<String, Error> {
        let parameters = Parameters::parse(&[body.as_bytes()])?;
        let call = Call::decode(parameters)?;
        let api = self.api(call.dry_run);
        call.answer(&api, "00000000-0000-4000-8000-000000000000").await
    }

    async fn ask<A: Action>(&self, request: A) -> Result<A::Response, Error> {
        let body = write_request(&request, false).unwrap();
        Ok(read_response::<A>(&self.answer(&body).await?).unwrap())
    }

    /// Rounds of the loop until nothing is left to do.
    async fn settle(&mut self) {
        for _ in 0..100 {
            self.reconciler.round().await.unwrap();
            if self.reconciler.is_quiet().await.unwrap() {
                return;
            }
        }
        panic!("no rest after 100 rounds");
    }

    /// Rounds of the loop until an instance is as it should be: a hint takes a moment to arrive.
    async fn until(&mut self, id: InstanceId, holds: impl Fn(&wire::InstanceStatus) -> bool) {
        for _ in 0..2000 {
            self.reconciler.is_quiet().await.unwrap();
            self.reconciler.round().await.unwrap();
            if holds(&self.status(id).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{id} is as before");
    }

    async fn launch(&mut self, behavior: wire::ShutdownBehavior) -> InstanceId {
        let request = wire::RunInstancesRequest {
            image_id: Some(self.image.to_string()),
            instance_type: Some("t3.nano".into()),
            min_count: 1,
            max_count: 1,
            instance_initiated_shutdown_behavior: Some(behavior),
            ..Default::default()
        };
        let launched = self.ask(request).await.unwrap();
        self.settle().await;
        launched.instances_set[0].instance_id.parse().unwrap()
    }

    async fn shown(&self, id: InstanceId) -> wire::Instance {
        let request =
            wire::DescribeInstancesRequest { instance_id: vec![id.to_string()], ..Default::default() };
        self.ask(request).await.unwrap().reservation_set[0].instances_set[0].clone()
    }

    async fn status(&self, id: InstanceId) -> wire::InstanceStatus {
        let request = wire::DescribeInstanceStatusRequest {
            instance_id: vec![id.to_string()],
            include_all_instances: Some(true),
            ..Default::default()
        };
        self.ask(request).await.unwrap().instance_status_set[0].clone()
    }

    /// Writes into a status what the simulated host has no way to bring about.
    async fn note(&self, id: InstanceId, note: impl FnOnce(&mut InstanceStatus) + Send + 'static) {
        let write = move |tx: &mut Tx<'_>| {
            let mut status = (*tx.get::<InstanceStatus>(id).unwrap()).clone();
            note(&mut status);
            tx.put(status);
            Ok::<_, Refusal>(())
        };
        self.store.transact(write).await.unwrap();
    }
}

#[tokio::test]
async fn a_guests_own_power_off_is_told_apart_from_a_users_stop() {
    for (behavior, state) in [
        (wire::ShutdownBehavior::Stop, wire::InstanceStateName::Stopped),
        (wire::ShutdownBehavior::Terminate, wire::InstanceStateName::Terminated),
    ] {
        let mut cloud = Cloud::new().await;
        let id = cloud.launch(behavior).await;
        cloud.host.power_off_inside(id);
        cloud.until(id, |status| status.instance_state.name == state).await;
        let shown = cloud.shown(id).await;
        assert_eq!(shown.reason, "");
        assert_eq!(shown.state_reason.unwrap().code, "Client.InstanceInitiatedShutdown");
    }
}

#[tokio::test]
async fn a_lost_machine_is_running_and_impaired_until_it_is_up_again() {
    let mut cloud = Cloud::new().await;
    let id = cloud.launch(wire::ShutdownBehavior::Stop).await;
    cloud.host.kill_outside(id);
    // One round sees it and starts the next attempt; only the next one sees that it is up again.
    cloud.until(id, |status| status.system_status.status == wire::SummaryStatus::Impaired).await;
    let status = cloud.status(id).await;
    assert_eq!(status.instance_state.name, wire::InstanceStateName::Running);
    assert_eq!(status.system_status.details[0].status, wire::CheckStatus::Failed);
    assert!(status.system_status.details[0].impaired_since.is_some());
    assert_eq!(status.instance_status.status, wire::SummaryStatus::InsufficientData);
    cloud.settle().await;
    let status = cloud.status(id).await;
    assert_eq!(status.system_status.status, wire::SummaryStatus::Ok);
    assert_eq!(status.instance_status.status, wire::SummaryStatus::Ok);
}

#[tokio::test]
async fn a_panicked_guest_is_impaired_on_a_sound_host() {
    let mut cloud = Cloud::new().await;
    let id = cloud.launch(wire::ShutdownBehavior::Stop).await;
    cloud.note(id, |status| status.panicked = true).await;
    let status = cloud.status(id).await;
    assert_eq!(status.system_status.status, wire::SummaryStatus::Ok);
    assert_eq!(status.instance_status.status, wire::SummaryStatus::Impaired);
}

#[tokio::test]
async fn a_machine_that_was_given_up_says_why_without_telling_of_the_host() {
    let mut cloud = Cloud::new().await;
    let id = cloud.launch(wire::ShutdownBehavior::Stop).await;
    let message = "Volume vol-1 cannot be booted: Could not open /var/lib/cumulet/volumes/vol-1/data: \"\u{7}\" has no kernel in /boot";
    let message = message.to_owned();
    let why = WhyOver::GivenUp { reason: Some(EndReason::Unbuildable), message };
    cloud
        .note(id, |status| {
            status.over = Some(Over { incarnation: 1, why, at: status.since });
            status.seen = Seen::Nothing;
        })
        .await;
    let shown = cloud.shown(id).await;
    let reason = shown.state_reason.unwrap();
    assert_eq!(
        (shown.reason.as_str(), reason.code.as_str()),
        ("Server.InternalError", "Server.InternalError")
    );
    assert!(reason.message.contains("no machine can be made"), "{}", reason.message);
    let said = "Volume vol-1 cannot be booted: Could not open (a file) \"?\" has no kernel in /boot";
    assert!(reason.message.ends_with(said), "{}", reason.message);
}

/// Random requests out of words that mean something and words that do not.
struct Noise {
    seed: u64,
    words: Vec<String>,
}

impl Noise {
    fn next(&mut self) -> u64 {
        chance(&mut self.seed)()
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

impl Choices for Noise {
    fn number(&mut self, most: u64) -> u64 {
        match self.next() % 4 {
            0 => most,
            1 => self.next() % most.saturating_add(1).max(1),
            small => small.min(most),
        }
    }

    fn text(&mut self, _path: &str) -> String {
        let at = self.below(self.words.len());
        self.words[at].clone()
    }

    fn present(&mut self) -> bool {
        self.next().is_multiple_of(3)
    }

    fn members(&mut self) -> usize {
        [0, 0, 1, 3][self.below(4)]
    }
}

/// A body for every action of the table.
struct Bodies<'a>(&'a mut Noise, Vec<(&'static str, String)>);

impl Visitor for Bodies<'_> {
    fn visit<A: Action>(&mut self) {
        let Self(noise, bodies) = self;
        let request: A = fill(*noise).expect("a shape can be filled");
        let dry_run = noise.next().is_multiple_of(4);
        bodies.push((A::ABOUT.name, write_request(&request, dry_run).expect("a request can be written")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_is_answered_or_refused_and_never_fails() {
    let mut cloud = Cloud::new().await;
    let instance = cloud.launch(wire::ShutdownBehavior::Stop).await.to_string();
    let world = cloud.store.world();
    let ids = world.rows().map(|row| row.key().text().rsplit('/').next().unwrap().to_owned());
    let mut words: Vec<String> = ids.collect();
    let plain = [
        "",
        "*",
        "default",
        "self",
        "t3.nano",
        "us-east-1a",
        "instance",
        "volume",
        "key-pair",
        "tcp",
        "-1",
        "0.0.0.0/0",
        "10.0.0.1",
        "::/0",
        "/dev/sdf",
        "/dev/xvda",
        "instance-state-name",
        "tag:a",
        "vpc-id",
        "i-0123456789abcdef0",
        "snap-0123456789abcdef0",
        "nonsense",
        "é\u{0}\u{1f980}",
        "a\\*?",
    ];
    words.extend(plain.map(str::to_owned));
    words.push("x".repeat(2000));
    words.push(instance);
    let mut noise = Noise { seed: 20_261_121, words };
    let mut done = 0;
    for round in 0..60 {
        let mut bodies = Bodies(&mut noise, Vec::new());
        visit(&mut bodies);
        // A key is made even to rehearse its keeping, and takes a while.
        let affordable = |name: &str| name != "CreateKeyPair" || round % 20 == 0;
        for (name, body) in bodies.1.into_iter().filter(|(name, _)| affordable(name)) {
            match cloud.answer(&body).await {
                Ok(_) => done += 1,
                Err(error) => {
                    let full = error.code().starts_with("Insufficient");
                    assert!(error.status() < 500 || full, "{name}: {error}: {body}");
                }
            }
        }
    }
    assert!(done > 200, "only {done} requests meant something");
    cloud.settle().await;
}
