//! From a configuration to a running cloud, and back to nothing.
//!
//! The order matters: the state folder is locked before anything in it is read; the host is looked at
//! once before the port answers, so that the first Describe after a restart is true.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloud::rules::images::{self, NewImage};
use cloud::{Refusal, Tx};
use host::linux::{Linux, Options};
use host::simulated::Simulated;
use host::{Capacity, Host};
use spec::storage::{Architecture, ImageFacts};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::config::{Config, ConfigError};
use crate::guests;
use crate::http::Server;
use crate::identity::{Client, FILE, IdentityError};
use crate::reconcile::Reconciler;
use crate::store::{Store, StoreError, TransactError};

/// The store's file in the state folder.
const STORE: &str = "store.sqlite";
/// The file that a daemon holds locked in the state folder.
const LOCK: &str = "daemon.lock";

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store is at fault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The access keys are at fault.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The secret that guests' tokens are made with is at fault.
    #[error(transparent)]
    Secret(#[from] guests::SecretError),
    /// The host is at fault.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The system refused something.
    #[error("Could not {step}")]
    System {
        /// Which step on which object.
        step: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another daemon is there.
    #[error("Another cumuletd uses the state folder {}; stop it first", .0.display())]
    Running(PathBuf),
    /// The port's listener ended.
    #[error("The API's port cannot be served any more")]
    Port(#[source] std::io::Error),
}

/// Runs the cloud on this machine until it is told to end. Guests go on without it.
pub fn serve(config: &Config) -> Result<(), DaemonError> {
    let _lock = lock_state(&config.state)?;
    let host: Arc<dyn Host> = Arc::new(Linux::open(&options(config))?);
    runtime()?.block_on(run(config, host, None))
}

/// Runs a cloud that only pretends: the API is real, the instances are not.
pub fn simulate(mut config: Config, keep_state: bool) -> Result<(), DaemonError> {
    let mut temporary = None;
    if !keep_state {
        config.state = std::env::temp_dir().join(format!("cumulet-simulated-{}", std::process::id()));
        temporary = Some(RemovedAtEnd(config.state.clone()));
    }
    let _lock = lock_state(&config.state)?;
    let host = Simulated::new(Capacity { processors: 64, memory_mib: 1 << 20 });
    let served: Arc<dyn Host> = Arc::new(host.clone());
    eprintln!("This cloud is simulated: the API answers, but no instance runs and nothing lasts.");
    let result = runtime()?.block_on(run(&config, served, Some(&host)));
    drop(temporary);
    result
}

/// Takes away what the daemon made on this machine. No daemon may run, and none is needed.
pub fn teardown(config: &Config, purge: bool) -> Result<(), DaemonError> {
    let _lock = lock_state(&config.state)?;
    let (done, result) = Linux::teardown(&options(config));
    done.iter().for_each(|line| println!("{line}"));
    result?;
    if purge {
        let step = format!("delete the state folder {}", config.state.display());
        fs::remove_dir_all(&config.state).map_err(|source| DaemonError::System { step, source })?;
        println!("deleted {}", config.state.display());
    } else {
        println!("Images, volumes and keys stay in {}; --purge deletes them too.", config.state.display());
    }
    Ok(())
}

fn options(config: &Config) -> Options {
    Options {
        state: config.state.clone(),
        run: config.run.clone(),
        vmm: config.vmm.clone(),
        services_user: config.limits.services_user(),
        reader_user: config.limits.reader_user(),
        vhost_net: config.vhost_net,
    }
}

async fn run(config: &Config, host: Arc<dyn Host>, simulated: Option<&Simulated>) -> Result<(), DaemonError> {
    let settings = config.settings(host.capacity()?);
    let (store, wakes) = Store::open(&config.state.join(STORE), settings)?;
    prepare(&store, simulated).await?;
    let listener = listen(config).await?;
    let client = Arc::new(Client::load_or_make(&config.state, endpoint(&listener)?, config.region.clone())?);
    let secret = guests::load_or_make_secret(&config.state)?;

    let mut reconciler = Reconciler::new(store.clone(), Arc::clone(&host), wakes);
    reconciler.round().await?;
    tokio::spawn(guests::serve(store.worlds(), Arc::clone(&host), secret));
    announce(config, &client);
    let server = Server { store, host, client };
    tokio::select! {
        error = server.serve(listener) => Err(DaemonError::Port(error)),
        error = reconciler.run() => Err(error.into()),
        ended = told_to_end() => ended,
    }
}

/// What must be in the store before anyone asks.
async fn prepare(store: &Store, simulated: Option<&Simulated>) -> Result<(), DaemonError> {
    let pretend = simulated.is_some();
    let prepared = store.transact(move |tx| {
        cloud::first_start::first_start(tx);
        images::abandon_imports(tx);
        if pretend && tx.world().images.is_empty() { pretend_image(tx) } else { Ok(()) }
    });
    let world = match prepared.await {
        Ok(((), world)) => world,
        Err(TransactError::Store(error)) => return Err(error.into()),
        Err(TransactError::Refused(refusal)) => {
            let source = std::io::Error::other(refusal);
            return Err(DaemonError::System { step: "prepare the store".into(), source });
        }
    };
    if let Some(host) = simulated {
        world.images.keys().for_each(|image| host.add_image(*image));
    }
    Ok(())
}

/// An image to launch from on a simulated host.
fn pretend_image(tx: &mut Tx<'_>) -> Result<(), Refusal> {
    let description = "An image without a disk, for trying the API".to_owned();
    let new = NewImage { name: "simulated".into(), description, tags: cloud::model::Tags::new() };
    let id = images::begin_import(tx, new)?;
    let facts = ImageFacts { bytes: 2 << 30, architecture: Architecture::HERE, kernel: None };
    images::finish_import(tx, id, &facts)
}

async fn listen(config: &Config) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(config.listen)
        .await
        .map_err(|source| DaemonError::System { step: format!("listen on {}", config.listen), source })
}

/// Where clients on this machine reach the port.
fn endpoint(listener: &TcpListener) -> Result<String, DaemonError> {
    let mut address = listener
        .local_addr()
        .map_err(|source| DaemonError::System { step: "read the port's address".into(), source })?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    Ok(format!("http://{address}"))
}

fn announce(config: &Config, client: &Client) {
    info!("cumuletd answers EC2 at {} in region {}", client.endpoint, client.region);
    let usual = Config::default().state.join(FILE);
    let file = config.state.join(FILE);
    if file == usual {
        info!("try: eval \"$(cumulet env)\" && aws ec2 describe-images --owners self");
    } else {
        info!(
            "try: export CUMULET_CLIENT={} && eval \"$(cumulet env)\" && aws ec2 describe-images --owners self",
            file.display()
        );
    }
    // Not run by systemd, or not as a notifying service: nobody waits for the word.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

async fn told_to_end() -> Result<(), DaemonError> {
    let failed = |source| DaemonError::System { step: "listen for signals".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("ending; running instances go on without the daemon");
    Ok(())
}

/// Makes the state folder, and locks it for as long as the file is open.
fn lock_state(state: &Path) -> Result<File, DaemonError> {
    let failed = |step: &str| {
        let step = format!("{step} the state folder {}", state.display());
        move |source| DaemonError::System { step, source }
    };
    DirBuilder::new().recursive(true).create(state).map_err(failed("make"))?;
    // Whoever made it: user-data and keys are in it, which are nobody else's business.
    fs::set_permissions(state, Permissions::from_mode(0o750)).map_err(failed("close to others"))?;
    let path = state.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DaemonError::Running(state.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, DaemonError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| DaemonError::System { step: "start the runtime".into(), source })
}

/// A folder that goes when this does.
struct RemovedAtEnd(PathBuf);

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        // What is left of it in the temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
