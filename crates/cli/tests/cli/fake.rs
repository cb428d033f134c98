//! A small cloud on loopback. It verifies signatures, answers the few actions that `cumulet` asks for out of a world
//! that the test sets up, and plays the daemon's side of tunnels, consoles and uploads.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use ec2::actions::{Action, Request as Asked, write_response};
use ec2::query::Parameters;
use ec2::shapes::common::{Done, GroupIdentifier};
use ec2::shapes::images::{DescribeImagesResponse, Image};
use ec2::shapes::instance_types::{DescribeInstanceTypesResponse, InstanceTypeInfo};
use ec2::shapes::instances::{
    DescribeInstancesResponse, GetConsoleOutputResponse, Instance, InstanceStateChange, InstanceStateChanges,
    InstanceStateName, Reservation, RunInstancesRequest,
};
use ec2::shapes::security_groups::{
    AuthorizeSecurityGroupResponse, CreateSecurityGroupResponse, DescribeSecurityGroupsResponse,
    SecurityGroup,
};
use ec2::shapes::sts::GetCallerIdentityResponse;
use ec2::shapes::volumes::{DescribeVolumesResponse, Volume};
use ec2::sign::{HttpRequest, Payload, Secret, verify};
use ec2::{Blob, Call, Error, Resource, Service, Timestamp, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::import::Upload;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(crate) const KEY: (&str, &str) = ("AKIATEST", "a secret/with+signs");
pub(crate) const REGION: &str = "eu-test-1";

/// What the cloud holds, and how it behaves.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) instances: Vec<Instance>,
    /// How often instances must be described until those that are pending run.
    pub(crate) describes_until_running: u32,
    pub(crate) images: Vec<Image>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) types: Vec<InstanceTypeInfo>,
    pub(crate) groups: Vec<SecurityGroup>,
    pub(crate) keys: HashMap<String, String>,
    /// Every launch that was asked for.
    pub(crate) launches: Vec<RunInstancesRequest>,
    pub(crate) console: Vec<u8>,
    /// Where the ports of guests really are.
    pub(crate) guests: HashMap<(String, u16), SocketAddr>,
    /// How many tunnels are refused before one is opened, as while a guest boots.
    pub(crate) refusals: u32,
    pub(crate) upload: Upload,
}

/// A cloud that lives as long as this.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) world: Shared,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds the world")
    }
}

impl Fake {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"))
    }

    /// At an address that an earlier cloud had, and that may take a moment to become free.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(async {
            for _ in 0..100 {
                match TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
            panic!("{address} does not become free")
        });
        let address = listener.local_addr().expect("its address");
        let world = Shared::default();
        runtime.spawn(serve(listener, world.clone()));
        Self { address, world, _runtime: runtime }
    }

    /// The file by which a client finds this cloud.
    pub(crate) fn write_client(&self, path: &Path, secret: &str) {
        let client = serde_json::json!({
            "endpoint": format!("http://{}", self.address), "region": REGION,
            "access_key_id": KEY.0, "secret_access_key": secret,
        });
        std::fs::write(path, client.to_string()).expect("client.json is written");
    }

    /// An instance in the world, in a group that opens all ports.
    pub(crate) fn instance(&self, id: &str, name: &str, state: InstanceStateName) {
        let mut world = self.world.lock();
        let group = GroupIdentifier { group_id: "sg-00000001".into(), group_name: "open".into() };
        if world.groups.is_empty() {
            let everything = ec2::shapes::security_groups::IpPermission {
                ip_protocol: "-1".into(),
                ip_ranges: vec![ec2::shapes::security_groups::IpRange {
                    cidr_ip: "0.0.0.0/0".into(),
                    description: None,
                }],
                ..Default::default()
            };
            let (group_id, group_name) = (group.group_id.clone(), group.group_name.clone());
            let ip_permissions = vec![everything];
            world.groups.push(SecurityGroup { group_id, group_name, ip_permissions, ..Default::default() });
        }
        let tag = ec2::shapes::common::Tag { key: "Name".into(), value: name.into() };
        world.instances.push(Instance {
            instance_id: id.into(),
            image_id: "ami-00000001".into(),
            instance_type: "t3.nano".into(),
            instance_state: state.into(),
            launch_time: now(),
            private_ip_address: Some("172.31.0.4".into()),
            tag_set: vec![tag],
            group_set: vec![group],
            ..Default::default()
        });
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(since.as_secs())
}

async fn serve(listener: TcpListener, world: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let world = world.clone();
        let service = service_fn(move |request| {
            let world = world.clone();
            async move {
                let answer = answer(&world, request).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|error| refuse(&error)))
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
    }
}

fn refuse(error: &Error) -> Response<Body> {
    let mut answer = Response::new(full(error.to_xml(Service::Ec2, "request-1")));
    *answer.status_mut() = StatusCode::from_u16(error.status()).expect("a status");
    answer
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

async fn answer(world: &Shared, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    match (request.method().clone(), request.uri().path()) {
        (Method::POST, "/") => {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            let service = ec2::actions::service_of(&Parameters::parse(&[&body])?);
            check(&head, Payload::Bytes(&body), service)?;
            let call = Call::decode(Parameters::parse(&[&body])?)?;
            carry_out(world, call.request).map(|document| Response::new(full(document)))
        }
        (Method::PUT, "/_cumulet/images") => {
            let (head, body) = request.into_parts();
            check(&head, Payload::Unsigned, Service::Ec2)?;
            crate::import::receive(world, &head, body).await
        }
        (Method::GET, "/_cumulet/connect") => connect(world, request).await,
        (Method::GET, "/_cumulet/console") => {
            check(&copy_of_head(&request), Payload::Bytes(b""), Service::Ec2)?;
            Ok(upgrade(request, |client| Box::pin(play_console(client))))
        }
        (_, path) => Err(Error::new(404, "InvalidAction", format!("nothing at {path}"))),
    }
}

fn check(head: &hyper::http::request::Parts, payload: Payload<'_>, service: Service) -> Result<(), Error> {
    let headers: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
    let request = HttpRequest {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &headers,
        payload,
    };
    let find =
        |id: &str, token: Option<&str>| (id == KEY.0 && token.is_none()).then(|| (Secret::new(KEY.1), ()));
    verify(&request, service, REGION, now(), find).map(|_| ()).map_err(|refusal| refusal.answer(service))
}

fn copy_of_head(request: &Request<Incoming>) -> hyper::http::request::Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.headers = request.headers().clone();
    head
}

fn written<A: Action>(response: A::Response) -> Result<String, Error> {
    let version = if A::ABOUT.service == Service::Sts { Version::STS } else { Version::EC2 };
    Ok(write_response::<A>(&response, version, "request-1").expect("an answer can be written"))
}

fn carry_out(world: &Shared, asked: Asked) -> Result<String, Error> {
    use ec2::shapes as shape;
    let mut world = world.lock();
    match asked {
        Asked::GetCallerIdentity(_) => {
            written::<shape::sts::GetCallerIdentityRequest>(GetCallerIdentityResponse {
                arn: "arn:aws:iam::123456789012:root".into(),
                user_id: "123456789012".into(),
                account: "123456789012".into(),
            })
        }
        Asked::DescribeInstances(asked) => {
            written::<shape::instances::DescribeInstancesRequest>(world.describe_instances(&asked)?)
        }
        Asked::DescribeImages(asked) => {
            let name = asked.filter.first().and_then(|filter| filter.value.first());
            let images =
                world.images.iter().filter(|image| name.is_none_or(|name| *name == image.name)).cloned();
            let images_set = images.collect();
            written::<shape::images::DescribeImagesRequest>(DescribeImagesResponse {
                images_set,
                ..Default::default()
            })
        }
        Asked::DescribeVolumes(_) => {
            let volume_set = world.volumes.clone();
            written::<shape::volumes::DescribeVolumesRequest>(DescribeVolumesResponse {
                volume_set,
                ..Default::default()
            })
        }
        Asked::DescribeInstanceTypes(_) => {
            let instance_type_set = world.types.clone();
            let answer = DescribeInstanceTypesResponse { instance_type_set, ..Default::default() };
            written::<shape::instance_types::DescribeInstanceTypesRequest>(answer)
        }
        Asked::RunInstances(asked) => written::<shape::instances::RunInstancesRequest>(world.launch(*asked)),
        Asked::TerminateInstances(asked) => {
            let changes = world.change(&asked.instance_id, InstanceStateName::ShuttingDown);
            world.instances.retain(|instance| !asked.instance_id.contains(&instance.instance_id));
            written::<shape::instances::TerminateInstancesRequest>(changes)
        }
        Asked::StartInstances(asked) => {
            let changes = world.change(&asked.instance_id, InstanceStateName::Pending);
            written::<shape::instances::StartInstancesRequest>(changes)
        }
        Asked::StopInstances(asked) => {
            let changes = world.change(&asked.instance_id, InstanceStateName::Stopping);
            written::<shape::instances::StopInstancesRequest>(changes)
        }
        Asked::RebootInstances(_) => written::<shape::instances::RebootInstancesRequest>(Done::default()),
        Asked::GetConsoleOutput(asked) => {
            let output = Blob(world.console.clone());
            let answer =
                GetConsoleOutputResponse { instance_id: asked.instance_id, timestamp: now(), output };
            written::<shape::instances::GetConsoleOutputRequest>(answer)
        }
        Asked::DeregisterImage(asked) => {
            world.images.retain(|image| image.image_id != asked.image_id);
            written::<shape::images::DeregisterImageRequest>(Done::default())
        }
        Asked::ImportKeyPair(asked) => {
            let public = String::from_utf8(asked.public_key_material.0).expect("a key is text");
            match world.keys.insert(asked.key_name.clone(), public) {
                Some(_) => Err(Error::already_exists(Resource::KeyPair, &asked.key_name)),
                None => written::<shape::key_pairs::ImportKeyPairRequest>(Default::default()),
            }
        }
        other => world.carry_out_on_groups(other),
    }
}

impl World {
    /// Puts instances into a state, and says from which.
    fn change(&mut self, ids: &[String], to: InstanceStateName) -> InstanceStateChanges {
        let mut instances_set = Vec::new();
        for instance in self.instances.iter_mut().filter(|instance| ids.contains(&instance.instance_id)) {
            let previous_state = std::mem::replace(&mut instance.instance_state, to.into());
            let current_state = to.into();
            let instance_id = instance.instance_id.clone();
            instances_set.push(InstanceStateChange { instance_id, current_state, previous_state });
        }
        InstanceStateChanges { instances_set }
    }

    /// Two instances a page, so that clients have to ask for more than one.
    fn describe_instances(
        &mut self,
        asked: &ec2::shapes::instances::DescribeInstancesRequest,
    ) -> Result<DescribeInstancesResponse, Error> {
        if self.describes_until_running > 0 {
            self.describes_until_running -= 1;
        } else {
            for instance in &mut self.instances {
                if instance.instance_state.name == InstanceStateName::Pending {
                    instance.instance_state = InstanceStateName::Running.into();
                    instance.ip_address = Some("198.18.0.5".into());
                }
            }
        }
        let named =
            asked.filter.iter().find(|filter| filter.name == "tag:Name").map(|filter| &filter.value[0]);
        let wanted = |instance: &&Instance| {
            (asked.instance_id.is_empty() || asked.instance_id.contains(&instance.instance_id))
                && named.is_none_or(|name| instance.tag_set.iter().any(|tag| tag.value == *name))
        };
        let found: Vec<_> = self.instances.iter().filter(wanted).cloned().collect();
        if found.is_empty() && !asked.instance_id.is_empty() {
            return Err(Error::not_found(Resource::Instance, &asked.instance_id[0]));
        }
        let from: usize = asked.next_token.as_deref().unwrap_or("0").parse().expect("a token of ours");
        let until = found.len().min(from + 2);
        let next_token = (until < found.len()).then(|| until.to_string());
        let reservation = |instance: &Instance| Reservation {
            reservation_id: "r-1".into(),
            instances_set: vec![instance.clone()],
            ..Default::default()
        };
        Ok(DescribeInstancesResponse {
            reservation_set: found[from..until].iter().map(reservation).collect(),
            next_token,
        })
    }

    fn launch(&mut self, asked: RunInstancesRequest) -> Reservation {
        let instance = Instance {
            instance_id: format!("i-0000000000000000{}", self.launches.len() + 1),
            instance_state: InstanceStateName::Pending.into(),
            private_ip_address: Some("172.31.0.9".into()),
            key_name: asked.key_name.clone(),
            tag_set: asked.tag_specification.iter().flat_map(|tags| tags.tag.clone()).collect(),
            launch_time: now(),
            ..Default::default()
        };
        self.launches.push(asked);
        self.instances.push(instance.clone());
        Reservation { instances_set: vec![instance], ..Default::default() }
    }

    fn carry_out_on_groups(&mut self, asked: Asked) -> Result<String, Error> {
        use ec2::shapes::security_groups as shape;
        match asked {
            Asked::CreateSecurityGroup(asked) => {
                if self.groups.iter().any(|group| group.group_name == asked.group_name) {
                    return Err(Error::already_exists(Resource::SecurityGroup, &asked.group_name));
                }
                let group_id = format!("sg-{:08}", self.groups.len() + 10);
                let (id, group_name) = (group_id.clone(), asked.group_name);
                self.groups.push(SecurityGroup { group_id: id, group_name, ..Default::default() });
                let answer = CreateSecurityGroupResponse { group_id, ..Default::default() };
                written::<shape::CreateSecurityGroupRequest>(answer)
            }
            Asked::AuthorizeSecurityGroupIngress(asked) => {
                let group =
                    self.groups.iter_mut().find(|group| Some(&group.group_id) == asked.group_id.as_ref());
                let group = group.expect("the group exists");
                for permission in asked.ip_permissions {
                    if group.ip_permissions.contains(&permission) {
                        return Err(Error::rule_already_exists("that"));
                    }
                    group.ip_permissions.push(permission);
                }
                let answer = AuthorizeSecurityGroupResponse { done: true, ..Default::default() };
                written::<shape::AuthorizeSecurityGroupIngressRequest>(answer)
            }
            Asked::DescribeSecurityGroups(asked) => {
                let wanted = |group: &&SecurityGroup| {
                    asked.group_id.contains(&group.group_id) || asked.group_name.contains(&group.group_name)
                };
                let security_group_info = self.groups.iter().filter(wanted).cloned().collect();
                let answer = DescribeSecurityGroupsResponse { security_group_info, ..Default::default() };
                written::<shape::DescribeSecurityGroupsRequest>(answer)
            }
            other => Err(Error::invalid_action(other.about().name)),
        }
    }
}

async fn connect(world: &Shared, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    check(&copy_of_head(&request), Payload::Bytes(b""), Service::Ec2)?;
    let query = request.uri().query().unwrap_or_default().to_owned();
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let (instance, port) = (value("instance").expect("an instance"), value("port").expect("a port"));
    let guest = {
        let mut world = world.lock();
        let refused = world.refusals > 0;
        world.refusals = world.refusals.saturating_sub(1);
        let guest = world.guests.get(&(instance.to_owned(), port.parse().expect("a number")));
        guest.copied().filter(|_| !refused)
    };
    let unreachable =
        || Error::new(400, "GuestNotReachable", format!("{instance} does not listen on {port}"));
    let mut guest = TcpStream::connect(guest.ok_or_else(unreachable)?).await.map_err(|_| unreachable())?;
    guest.set_nodelay(true).unwrap();
    Ok(upgrade(request, |mut client| {
        Box::pin(async move {
            let _ = copy_bidirectional(&mut client, &mut guest).await;
        })
    }))
}

type Upgraded = TokioIo<hyper::upgrade::Upgraded>;
type Served = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn upgrade(
    mut request: Request<Incoming>,
    serve: impl FnOnce(Upgraded) -> Served + Send + 'static,
) -> Response<Body> {
    assert_eq!(request.headers()["upgrade"], "cumulet-stream");
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(client) = upgraded.await {
            serve(TokioIo::new(client)).await;
        }
    });
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert("connection", "upgrade".parse().expect("a value"));
    answer.headers_mut().insert("upgrade", "cumulet-stream".parse().expect("a value"));
    answer
}

/// A console that greets, says back in capitals what is typed, and closes after `bye`.
async fn play_console(mut client: Upgraded) {
    let mut typed = Vec::new();
    if client.write_all(b"login: ").await.is_err() {
        return;
    }
    let mut buffer = [0; 256];
    while !typed.ends_with(b"bye") {
        match client.read(&mut buffer).await {
            Ok(length @ 1..) => {
                typed.extend_from_slice(&buffer[..length]);
                let _ = client.write_all(&buffer[..length].to_ascii_uppercase()).await;
            }
            // Like a real serial port, it does not care that nobody types any more.
            _ => tokio::time::sleep(Duration::from_secs(60)).await,
        }
    }
    let _ = client.shutdown().await;
}
