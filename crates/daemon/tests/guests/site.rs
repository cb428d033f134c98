//! A place for one test: a mount and a network namespace of its own, in which loopback holds the VPC's addresses and
//! those of its guests, so that a socket bound to a guest's address speaks as that guest. It ends with the test's
//! thread; the machine's own network is never touched.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

use cloud::World;
use cumuletd::guests::{self, process};
use host::{Capacity, Error, ErrorKind, GuestSockets, Host, SubnetSockets};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use spec::ids::{ImageId, InstanceId, VpcId};
use spec::network::{Network, Subnet};
use spec::observed::{Observed, Scope};
use spec::steps::{Resource, Step};
use spec::storage::ImageFacts;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::cloud::Cloud;

pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// In the default VPC's first subnet.
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
pub(crate) const SECRET: [u8; 32] = [7; 32];
/// How long to wait for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for what must not come.
pub(crate) const IMPATIENCE: Duration = Duration::from_millis(300);

/// A cloud whose guests are served on loopback.
pub(crate) struct Site {
    pub(crate) cloud: Cloud,
    loopback: Arc<Mutex<Loopback>>,
    worlds: watch::Sender<Arc<World>>,
    host: Arc<dyn Host>,
    serving: JoinHandle<()>,
}

/// Runs a test in namespaces of its own. Runtimes' threads are where the thread is that made them.
pub(crate) fn run(test: impl AsyncFnOnce()) {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect(
        "these tests make namespaces: run them as root, or as `unshare --user --map-root-user cargo test -p daemon`",
    );
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    std::fs::write("/run/resolv.conf", "nameserver 127.0.0.1\n").unwrap();
    mount(Some("/run/resolv.conf"), "/etc/resolv.conf", none, MsFlags::MS_BIND, none).unwrap();
    sh("ip link set lo up");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test());
}

/// Runs a script in the calling thread's namespaces.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}{err}");
    out.into_owned()
}

impl Site {
    /// A site whose cloud has no instances yet.
    pub(crate) fn new() -> Self {
        // On loopback a whole prefix is local.
        sh(&format!("ip address add {ROUTER}/16 dev lo; ip address add {METADATA}/32 dev lo"));
        let cloud = Cloud::new();
        let loopback = Arc::new(Mutex::new(Loopback::default()));
        let (opening, looking) = (Arc::clone(&loopback), Arc::clone(&loopback));
        let host = Opener {
            sockets: move |network: &Network| opening.lock().unwrap().open(network),
            identity: move |_| Some(looking.lock().unwrap().identity),
            process: Answering::default(),
        };
        let (worlds, seen) = watch::channel(Arc::new(cloud.world.clone()));
        let host: Arc<dyn Host> = Arc::new(host);
        let serving = tokio::spawn(guests::serve(seen, Arc::clone(&host), SECRET));
        Self { cloud, loopback, worlds, host, serving }
    }

    /// Ends the daemon's half, in the middle of whatever it does.
    pub(crate) async fn kill_daemon(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }

    /// Begins another daemon's half.
    pub(crate) fn begin_daemon(&mut self) {
        let seen = self.worlds.subscribe();
        self.serving = tokio::spawn(guests::serve(seen, Arc::clone(&self.host), SECRET));
    }

    pub(crate) fn loopback(&self) -> MutexGuard<'_, Loopback> {
        self.loopback.lock().unwrap()
    }

    /// Shows everybody the cloud as it is now.
    pub(crate) fn publish(&self) {
        self.worlds.send_replace(Arc::new(self.cloud.world.clone()));
    }

    /// Launches an instance and publishes it; its id and address.
    pub(crate) fn launch(&mut self) -> (InstanceId, Ipv4Addr) {
        let id = self.cloud.launch_usual();
        self.publish();
        (id, self.cloud.interface(id).address)
    }

    /// Launches an instance and waits until its VPC is served.
    pub(crate) async fn launch_and_serve(&mut self) -> (InstanceId, Ipv4Addr) {
        let launched = self.launch();
        eventually("sockets are open", async || self.loopback().opened > 0).await;
        launched
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

/// What the test does with the opening of sockets on loopback, and what it sees of it.
#[derive(Default)]
pub(crate) struct Loopback {
    /// What opening says instead of sockets.
    pub(crate) trouble: Option<ErrorKind>,
    pub(crate) identity: u64,
    pub(crate) tried: u32,
    pub(crate) opened: u32,
    /// The subnets of the last opening.
    pub(crate) subnets: usize,
}

impl Loopback {
    fn open(&mut self, network: &Network) -> Result<GuestSockets, Error> {
        self.tried += 1;
        if let Some(kind) = self.trouble {
            return Err(Error::new(kind, "The test says no"));
        }
        let sockets =
            open(network).map_err(|error| Error::passing("Could not open sockets on loopback", error))?;
        self.opened += 1;
        self.subnets = sockets.subnets.len();
        Ok(sockets)
    }
}

fn open(network: &Network) -> io::Result<GuestSockets> {
    let udp = |address: Ipv4Addr, port: u16| {
        let socket = UdpSocket::bind((address, port))?;
        socket.set_nonblocking(true)?;
        Ok::<_, io::Error>(socket)
    };
    let tcp = |address: Ipv4Addr, port: u16| {
        let listener = TcpListener::bind((address, port))?;
        listener.set_nonblocking(true)?;
        Ok::<_, io::Error>(listener)
    };
    let subnet = |subnet: &Subnet| {
        Ok(SubnetSockets {
            subnet: subnet.id,
            dhcp: udp(subnet.router(), 67)?,
            dns: udp(subnet.resolver(), 53)?,
            dns_tcp: tcp(subnet.resolver(), 53)?,
        })
    };
    let subnets = network.subnets.iter().map(subnet).collect::<io::Result<_>>()?;
    Ok(GuestSockets { metadata: tcp(METADATA, 80)?, subnets })
}

/// A host that can open sockets, the way the two functions do, and have them answered, and nothing else.
pub(crate) struct Opener<S, I, P = Answering> {
    pub(crate) sockets: S,
    pub(crate) identity: I,
    pub(crate) process: P,
}

/// The process that answers guests.
pub(crate) trait Process: Send + Sync {
    /// Finds or starts it.
    fn connect(&self) -> Result<UnixStream, Error>;
    /// Bounds it from outside.
    fn guard(&self) -> Result<(), Error>;
    /// Ends it.
    fn end(&self) -> Result<(), Error>;
}

/// It as a thread of the test's, which nobody can end.
#[derive(Default)]
pub(crate) struct Answering(OnceLock<()>);

impl Process for Answering {
    fn connect(&self) -> Result<UnixStream, Error> {
        const SOCKET: &str = "/run/guests.socket";
        self.0.get_or_init(|| {
            let listener = UnixListener::bind(SOCKET).unwrap();
            thread::spawn(move || process::serve(listener, || Ok(())));
        });
        UnixStream::connect(SOCKET).map_err(|error| Error::passing("Could not connect to the thread", error))
    }

    fn guard(&self) -> Result<(), Error> {
        Ok(())
    }

    fn end(&self) -> Result<(), Error> {
        cannot()
    }
}

fn cannot<T>() -> Result<T, Error> {
    Err(Error::new(ErrorKind::Unsupported, "This host can only open sockets"))
}

impl<S, I, P> Host for Opener<S, I, P>
where
    P: Process,
    S: Fn(&Network) -> Result<GuestSockets, Error> + Send + Sync,
    I: Fn(VpcId) -> Option<u64> + Send + Sync,
{
    fn guest_sockets(&self, network: &Network) -> Result<GuestSockets, Error> {
        (self.sockets)(network)
    }

    fn network_identity(&self, vpc: VpcId) -> Option<u64> {
        (self.identity)(vpc)
    }

    fn guest_services(&self) -> Result<UnixStream, Error> {
        self.process.connect()
    }

    fn guard_guest_services(&self) -> Result<(), Error> {
        self.process.guard()
    }

    fn end_guest_services(&self) -> Result<(), Error> {
        self.process.end()
    }

    fn observe(&self, _: &Scope) -> Result<Observed, Error> {
        cannot()
    }

    fn perform(&self, _: &Step) -> Result<(), Error> {
        cannot()
    }

    fn capacity(&self) -> Result<Capacity, Error> {
        cannot()
    }

    fn hints(&self) -> Option<Receiver<Resource>> {
        None
    }

    fn console_output(&self, _: InstanceId) -> Result<Vec<u8>, Error> {
        cannot()
    }

    fn attach_console(&self, _: InstanceId) -> Result<UnixStream, Error> {
        cannot()
    }

    fn connect(&self, _: VpcId, _: SocketAddrV4, _: Duration) -> Result<TcpStream, Error> {
        cannot()
    }

    fn staging_file(&self) -> Result<File, Error> {
        cannot()
    }

    fn import_image(&self, _: ImageId, _: File, _: &mut dyn FnMut(u64, u64)) -> Result<ImageFacts, Error> {
        cannot()
    }
}
