//! Real VPCs of the network driver, and guests with Linux's own network stack, from the first DHCP message on.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cloud::model::{Interface, MetadataOptions, SecurityGroup, Subnet, Vpc};
use cloud::plan::Look;
use cloud::rules::launch::Launch;
use cloud::{World, plan};
use cumuletd::guests;
use hickory_proto::op::ResponseCode;
use host::Host;
use host::linux::network::Networks;
use host::linux::sys::netns::Namespace;
use host::linux::sys::tap;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use spec::ids::{GroupId, InstanceId, SubnetId, VpcId};
use spec::names;
use spec::network::Network;
use spec::observed::{Observed, Scope};
use spec::steps::Step;
use tokio::sync::watch;
use tokio::task::{JoinHandle, block_in_place, spawn_blocking};

use crate::cloud::Cloud;
use crate::dhcp::{ACK, DISCOVER, OFFER, REQUEST, message, read};
use crate::dns::{question, start_upstream};
use crate::site::{Answering, METADATA, Opener, PATIENCE, Process, RESOLVER, SECRET, eventually, run, sh};

/// How long to wait for what may or may not come, on a busy machine.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// A cloud whose networks are made by the driver, as the cloud plans them.
pub(crate) struct Real {
    pub(crate) cloud: Cloud,
    networks: Arc<Networks>,
    worlds: watch::Sender<Arc<World>>,
    host: Arc<dyn Host>,
    serving: JoinHandle<()>,
}

impl Real {
    fn new() -> Self {
        Self::with(|_| Answering::default())
    }

    /// One whose guests are answered by that process.
    pub(crate) fn with<P: Process + 'static>(process: impl FnOnce(Arc<Networks>) -> P) -> Self {
        std::fs::create_dir("/run/state").unwrap();
        let networks = Networks::new("/run/state").unwrap_or_else(|error| panic!("{}", error.chain()));
        let networks = Arc::new(networks);
        let (opening, looking) = (Arc::clone(&networks), Arc::clone(&networks));
        let host = Opener {
            sockets: move |network: &Network| opening.guest_sockets(network),
            identity: move |vpc| looking.identity(vpc),
            process: process(Arc::clone(&networks)),
        };
        let cloud = Cloud::new();
        let (worlds, seen) = watch::channel(Arc::new(cloud.world.clone()));
        let host: Arc<dyn Host> = Arc::new(host);
        let serving = tokio::spawn(guests::serve(seen, Arc::clone(&host), SECRET));
        Self { cloud, networks, worlds, host, serving }
    }

    /// Another daemon takes over from one that was killed.
    pub(crate) async fn restart_daemon(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
        self.serving = tokio::spawn(guests::serve(self.worlds.subscribe(), Arc::clone(&self.host), SECRET));
    }

    /// Publishes the world, and makes the networks as it wants them. Machines and volumes are nobody's here.
    async fn converge(&self) {
        self.worlds.send_replace(Arc::new(self.cloud.world.clone()));
        let (networks, world, now) = (Arc::clone(&self.networks), self.cloud.world.clone(), self.cloud.now);
        let converging = spawn_blocking(move || {
            for _ in 0..20 {
                let mut observed = Observed::default();
                networks.observe(&Scope::Everything, &mut observed).unwrap();
                let (scope, busy) = (Scope::Everything, Default::default());
                let look = Look { scope: &scope, observed: &observed, busy: &busy };
                let steps = plan(&world, look, now).steps;
                let done = steps.iter().filter(|step| perform(&networks, step)).count();
                if done == 0 {
                    return;
                }
            }
            panic!("no end to the steps");
        });
        converging.await.unwrap();
    }

    pub(crate) async fn launch(&mut self, metadata: MetadataOptions) -> (InstanceId, RealGuest) {
        let id = self.cloud.launch(Launch { metadata, ..self.cloud.usual() });
        self.converge().await;
        (id, self.plug(id))
    }

    fn plug(&self, id: InstanceId) -> RealGuest {
        RealGuest::new(&self.networks, &self.cloud.interface(id))
    }
}

/// Does a step on a network; false for the others.
fn perform(networks: &Networks, step: &Step) -> bool {
    let done = match step {
        Step::EnsureNetwork(network) => networks.ensure_network(network),
        Step::RemoveNetwork(vpc) => networks.remove_network(*vpc),
        Step::EnsureGroup(group) => networks.ensure_group(group),
        Step::RemoveGroup(vpc, group) => networks.remove_group(*vpc, *group),
        Step::EnsureInterface(interface) => networks.ensure_interface(interface),
        Step::RemoveInterface(vpc, interface) => networks.remove_interface(*vpc, *interface),
        _ => return false,
    };
    done.unwrap_or_else(|error| panic!("{step}: {}", error.chain()));
    true
}

pub(crate) fn metadata_options(hop_limit: u8) -> MetadataOptions {
    MetadataOptions { enabled: true, tokens_required: false, hop_limit, tags: false }
}

/// A guest: a namespace with a TAP whose frames are carried by hand to and from the interface's TAP. It has no
/// address until it was told one.
pub(crate) struct RealGuest {
    mac: [u8; 6],
    namespace: Namespace,
}

impl RealGuest {
    fn new(networks: &Networks, interface: &Interface) -> Self {
        let namespace = Namespace::unnamed().unwrap();
        let outer = blocking(networks.open_tap(interface.vpc, interface.id, 1).unwrap().remove(0));
        let inner = namespace.run(|| {
            tap::create("eth0", false).unwrap();
            sh(&format!(
                "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
                 ip link set lo up; ip link set eth0 address {}; ip link set eth0 up",
                interface.mac
            ));
            tap::open("eth0", 1).unwrap().remove(0)
        });
        let inner = blocking(inner.unwrap());
        carry(inner.try_clone().unwrap(), outer.try_clone().unwrap());
        carry(outer, inner);
        Self { mac: interface.mac.0, namespace }
    }

    /// Does something inside the guest.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).unwrap()
    }

    /// Asks DHCP as a client does that knows nothing, and configures itself. None where nobody answers.
    pub(crate) fn configure(&self) -> Option<Ipv4Addr> {
        self.run(|| {
            let client = DhcpClient::new();
            let (kind, address) = client.exchange(&message(DISCOVER, self.mac, None))?;
            assert_eq!(kind, OFFER);
            let accepted = client.exchange(&message(REQUEST, self.mac, Some(address)))?;
            assert_eq!(accepted, (ACK, address));
            sh(&format!("ip address replace {address}/20 dev eth0; ip route replace default via 172.31.0.1"));
            Some(address)
        })
    }

    pub(crate) fn http(&self, request: &str) -> Option<String> {
        self.run(|| http(request))
    }

    pub(crate) fn instance_id(&self) -> Option<String> {
        self.http("GET /latest/meta-data/instance-id")
    }

    pub(crate) fn resolve(&self, name: &str) -> Option<(ResponseCode, Option<Ipv4Addr>)> {
        self.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect((RESOLVER, 53)).unwrap();
            socket.send(&question(1, name)).unwrap();
            let mut answer = [0; 1500];
            let length = socket.recv(&mut answer).ok()?;
            Some(crate::dns::read(&answer[..length]))
        })
    }
}

impl Drop for RealGuest {
    fn drop(&mut self) {
        self.run(|| sh("ip link del eth0")); // ends the carriers
    }
}

fn blocking(tap: OwnedFd) -> File {
    fcntl(&tap, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    File::from(tap)
}

/// Carries frames, with their headers, until one side is gone.
fn carry(mut from: File, mut to: File) {
    thread::spawn(move || {
        let mut buffer = [0; 65600];
        while let Ok(length) = from.read(&mut buffer) {
            let _ = to.write_all(&buffer[..length]); // a link that is down loses frames, like any cable
        }
    });
}

/// Speaks from 0.0.0.0, and listens to frames: answers go to an address that the link does not have yet.
struct DhcpClient {
    mouth: UdpSocket,
    ears: OwnedFd,
}

impl DhcpClient {
    fn new() -> Self {
        let mouth = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
        mouth.set_broadcast(true).unwrap();
        setsockopt(&mouth, sockopt::BindToDevice, &"eth0".into()).unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let ears = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        setsockopt(&ears, sockopt::ReceiveTimeout, &TimeVal::new(0, 500_000)).unwrap();
        Self { mouth, ears }
    }

    /// Sends a message until it is answered.
    fn exchange(&self, message: &[u8]) -> Option<(u8, Ipv4Addr)> {
        (0..10).find_map(|_| {
            self.mouth.send_to(message, (Ipv4Addr::BROADCAST, 67)).unwrap();
            self.hear()
        })
    }

    /// The next message to a client: after 14 bytes of Ethernet's header, 20 of IP's and 8 of UDP's.
    fn hear(&self) -> Option<(u8, Ipv4Addr)> {
        let mut frame = [0; 2000];
        while let Ok(length) = recv(self.ears.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            let frame = &frame[..length];
            if frame.get(12..14) == Some(&[8, 0]) && frame.get(36..38) == Some(&[0, 68]) {
                return Some(read(&frame[42..]));
            }
        }
        None
    }
}

/// A request to the metadata service from the calling thread's namespace, "GET /path" and headers; the body of a good answer.
fn http(request: &str) -> Option<String> {
    let to = SocketAddr::from((METADATA, 80));
    let mut stream = TcpStream::connect_timeout(&to, LONG_ENOUGH).ok()?;
    stream.set_read_timeout(Some(LONG_ENOUGH)).unwrap();
    let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
    write!(stream, "{line} HTTP/1.0\r\n{headers}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

pub(crate) const GET_TOKEN: &str = "PUT /latest/api/token\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";

#[test]
fn a_guest_finds_all_its_services_with_nothing_but_its_link_address() {
    run(async || {
        start_upstream().await;
        let mut real = Real::new();
        let (id, guest) = real.launch(metadata_options(1)).await;
        let (other, neighbour) = real.launch(metadata_options(1)).await;
        let (address, others) = (real.cloud.interface(id).address, real.cloud.interface(other).address);
        block_in_place(|| {
            assert_eq!(guest.configure(), Some(address));
            assert_eq!(neighbour.configure(), Some(others));
            assert_eq!(guest.instance_id(), Some(id.to_string()));
            assert_eq!(neighbour.instance_id(), Some(other.to_string()));
            assert!(guest.http(GET_TOKEN).is_some());
            let name = format!("ip-{}.ec2.internal.", others.to_string().replace('.', "-"));
            assert_eq!(guest.resolve(&name), Some((ResponseCode::NoError, Some(others))));
            let outside = guest.resolve("example.com.").expect("an answer");
            assert_eq!(outside, (ResponseCode::NoError, Some(Ipv4Addr::new(192, 0, 2, 1))));
            // The address of a neighbour does not open what is the neighbour's.
            guest.run(|| {
                sh(&format!(
                    "ip address flush dev eth0; ip address add {others}/20 dev eth0
                                      ip route replace default via 172.31.0.1"
                ))
            });
            assert_eq!(guest.instance_id(), None);
        });
    });
}

/// A container in a guest: one hop further, behind the guest's address.
fn container_in(guest: &RealGuest, name: &str) -> Namespace {
    let container = Namespace::ensure(name).unwrap();
    guest.run(|| {
        sh(&format!(
            "ip link add c0 type veth peer name eth0 netns {name}; ip address add 10.1.0.1/24 dev c0
             ip link set c0 up; echo 1 > /proc/sys/net/ipv4/ip_forward; nft add table ip nat
             nft 'add chain ip nat out {{ type nat hook postrouting priority 100; }}'
             nft add rule ip nat out oifname eth0 masquerade"
        ));
    });
    let configure =
        || sh("ip address add 10.1.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.1.0.1");
    container.run(configure).unwrap();
    container
}

#[test]
fn a_token_travels_as_far_as_its_guest_allows() {
    run(async || {
        let mut real = Real::new();
        for (hop_limit, arrives) in [(1, false), (2, true)] {
            let (_, guest) = real.launch(metadata_options(hop_limit)).await;
            block_in_place(|| {
                guest.configure().unwrap();
                let container = container_in(&guest, &format!("container-{hop_limit}"));
                let (page, token) =
                    container.run(|| (http("GET /latest/meta-data/"), http(GET_TOKEN))).unwrap();
                assert!(page.is_some());
                assert_eq!(token.is_some(), arrives, "hop limit {hop_limit}");
                assert!(guest.http(GET_TOKEN).is_some());
            });
        }
    });
}

/// Moves an instance into a second VPC, with its address, into a copy of its subnet and group.
fn move_to_second_vpc(cloud: &mut Cloud, id: InstanceId, address: Ipv4Addr) {
    let interface = cloud.interface(id);
    let (vpc, subnet) = (VpcId::from_random(5), SubnetId::from_random(5));
    let first = Vpc::clone(&cloud.world.vpcs[&interface.vpc]);
    let first_subnet = Subnet::clone(&cloud.world.subnets[&interface.subnet]);
    let group = interface.groups.iter().next().unwrap();
    let first_group = SecurityGroup::clone(&cloud.world.security_groups[group]);
    let group = GroupId::from_random(5);
    cloud.world.put(Vpc { id: vpc, is_default: false, number: 1, ..first }.into());
    cloud.world.put(Subnet { id: subnet, vpc, ..first_subnet }.into());
    cloud.world.put(SecurityGroup { id: group, vpc, rules: Default::default(), ..first_group }.into());
    let groups = [group].into();
    cloud.world.put(Interface { vpc, subnet, groups, address, auto_public: None, ..interface }.into());
}

#[test]
fn one_address_in_two_vpcs_is_two_guests() {
    run(async || {
        let mut real = Real::new();
        let (id, guest) = real.launch(metadata_options(1)).await;
        let address = real.cloud.interface(id).address;
        let twin = real.cloud.launch_usual();
        move_to_second_vpc(&mut real.cloud, twin, address);
        real.converge().await;
        let other = real.plug(twin);
        block_in_place(|| {
            assert_eq!((guest.configure(), other.configure()), (Some(address), Some(address)));
            assert_eq!(guest.instance_id(), Some(id.to_string()));
            assert_eq!(other.instance_id(), Some(twin.to_string()));
        });
    });
}

#[test]
fn what_somebody_deleted_is_served_again_after_its_repair() {
    run(async || {
        let mut real = Real::new();
        let (id, guest) = real.launch(metadata_options(1)).await;
        let interface = real.cloud.interface(id);
        let (namespace, bridge) = (names::namespace(interface.vpc), names::bridge(interface.subnet));
        block_in_place(|| assert!(guest.configure().is_some()));
        drop(guest);

        sh(&format!("ip netns del {namespace}"));
        real.converge().await;
        let guest = real.plug(id);
        let served = async || block_in_place(|| guest.configure().is_some() && guest.instance_id().is_some());
        eventually("served in another namespace", served).await;

        // Its TAP stays, and is put onto the new bridge.
        sh(&format!("ip -n {namespace} link del {bridge}"));
        real.converge().await;
        eventually("served on another bridge", served).await;
    });
}

#[test]
fn a_network_goes_with_its_last_guest_and_comes_again() {
    run(async || {
        let mut real = Real::new();
        for _ in 0..3 {
            let (id, guest) = real.launch(metadata_options(1)).await;
            let vpc = real.cloud.interface(id).vpc;
            block_in_place(|| {
                assert!(guest.configure().is_some());
                assert_eq!(guest.instance_id(), Some(id.to_string()));
            });
            drop(guest);
            real.cloud.terminate(id);
            real.converge().await;
            assert_eq!(real.networks.identity(vpc), None);
        }
    });
}
