//! This Linux machine: network, storage and machines, on a thin layer over the kernel.
//!
//! ```text
//! STATE/    images, volumes, kernels, logs, what was changed on the host: kept       storage, machines, network
//! RUN/      a directory for each machine that runs: gone with a reboot, as they are  machines
//! cumulet*  control groups, namespaces, links, nftables: made from ids               machines, network
//! ```

pub mod machines;
pub mod network;
pub mod services;
pub mod storage;
pub mod sys;

use std::fs::{self, File};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use spec::ids::{ImageId, InstanceId, VpcId};
use spec::machine::{Nic, descriptors};
use spec::names;
use spec::network::Network;
use spec::observed::{Observed, Scope};
use spec::steps::{Resource, Step};
use spec::storage::ImageFacts;

use self::machines::{Machines, Places};
use self::network::Networks;
use self::services::Services;
use self::storage::Storage;
use self::storage::reader::Processes;
use self::sys::cgroup::Cgroups;
use self::sys::files;
use crate::{Capacity, Error, GuestSockets, Host};

/// The running program's file, also where it has been replaced or removed since.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// What the monitor's program is called.
const MONITOR: &str = "cumulet-vmm";

/// By which the kernel carries packets between rings and a TAP.
const VHOST_NET: &str = "/dev/vhost-net";

/// Where this host keeps its things.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder for what lasts.
    pub state: PathBuf,
    /// The folder for what a reboot empties.
    pub run: PathBuf,
    /// The monitor's program; beside the running one where it is not said.
    pub vmm: Option<PathBuf>,
    /// The user of the process that answers guests.
    pub services_user: u32,
    /// The user of the processes that read guests' disks.
    pub reader_user: u32,
    /// Whether this machine's kernel carries guests' packets itself.
    pub vhost_net: bool,
}

/// This machine.
pub struct Linux {
    networks: Networks,
    storage: Storage,
    machines: Machines,
    services: Services,
    vhost_net: bool,
}

impl Linux {
    /// Proves that this machine can hold instances, and clears what an earlier process left half made. One process at a time.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let machines = Machines::open(places(options)?)?;
        let storage = Storage::open(&options.state, Box::new(readers(options)?))?;
        let services = services(options)?;
        if options.vhost_net {
            open_vhost_net()?;
        }
        let (networks, vhost_net) = (Networks::new(&options.state)?, options.vhost_net);
        Ok(Self { networks, storage, machines, services, vhost_net })
    }

    /// Takes everything away that is not kept in the state folder: machines first, then networks. Nobody else may be at
    /// work. Returns a line for each thing done; where something stays, the error tells the first.
    pub fn teardown(options: &Options) -> (Vec<String>, Result<(), Error>) {
        let machines = match places(options).and_then(Machines::open) {
            Ok(machines) => machines,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let ended = services(options).and_then(|services| {
            let exists = services.exists();
            services.end().map(|()| exists)
        });
        let ended = ended.and_then(|exists| readers(options)?.end().map(|()| exists));
        let (mut done, killed) = machines.teardown();
        if let Ok(true) = ended {
            done.push("Ended the process that answers guests".to_owned());
        }
        let (networks, removed) = Networks::teardown(&options.state);
        done.extend(networks);
        let emptied = || {
            let what = || format!("Could not remove {}", options.run.display());
            files::if_there(fs::remove_dir_all(&options.run)).map_err(|error| Error::passing(what(), error))
        };
        let result = ended.and(killed).and(removed).and_then(|()| emptied()).map(|_| ());
        (done, result)
    }

    /// Opens an interface's TAP, and vhost-net for each of its queues where packets go by that: with their names.
    fn open_tap(&self, nic: &Nic) -> Result<Vec<(String, OwnedFd)>, Error> {
        let mut named = Vec::new();
        for (number, queue) in (0..).zip(self.networks.open_tap(nic.vpc, nic.interface, nic.queues)?) {
            named.push((descriptors::tap(nic.interface, number), queue));
            if self.vhost_net {
                named.push((descriptors::vhost(nic.interface, number), open_vhost_net()?));
            }
        }
        Ok(named)
    }
}

fn open_vhost_net() -> Result<OwnedFd, Error> {
    let opened = File::options().read(true).write(true).open(VHOST_NET);
    let what =
        || format!("Could not open {VHOST_NET}, which the setting vhost_net needs (modprobe vhost_net)");
    opened.map(OwnedFd::from).map_err(|error| Error::passing(what(), error))
}

fn places(options: &Options) -> Result<Places, Error> {
    let beside = || -> std::io::Result<PathBuf> { Ok(std::env::current_exe()?.with_file_name(MONITOR)) };
    let program = options.vmm.clone().map_or_else(beside, Ok);
    Ok(Places {
        machines: options.run.join("machines"),
        logs: options.state.join("logs"),
        program: program.map_err(|error| Error::passing(format!("Could not find {MONITOR}"), error))?,
        kvm: Path::new("/dev/kvm").to_owned(),
        group: names::PREFIX.to_owned(),
    })
}

fn cgroups() -> Result<Cgroups, Error> {
    Cgroups::find(names::PREFIX).map_err(|error| Error::passing("Could not look for control groups", error))
}

fn readers(options: &Options) -> Result<Processes, Error> {
    Ok(Processes { program: THIS_PROGRAM.into(), user: options.reader_user, cgroups: cgroups()? })
}

fn services(options: &Options) -> Result<Services, Error> {
    let cgroups = cgroups()?;
    let (run, state) = (options.run.clone(), options.state.clone());
    Ok(Services::new(run, state, THIS_PROGRAM.into(), options.services_user, cgroups))
}

impl Host for Linux {
    fn observe(&self, scope: &Scope) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        self.networks.observe(scope, &mut observed)?;
        self.storage.observe(scope, &mut observed)?;
        self.machines.observe(scope, &mut observed)?;
        Ok(observed)
    }

    fn perform(&self, step: &Step) -> Result<(), Error> {
        match step {
            Step::EnsureNetwork(network) => self.networks.ensure_network(network),
            Step::RemoveNetwork(vpc) => self.networks.remove_network(*vpc),
            Step::EnsureGroup(group) => self.networks.ensure_group(group),
            Step::RemoveGroup(vpc, group) => self.networks.remove_group(*vpc, *group),
            Step::EnsureInterface(interface) => self.networks.ensure_interface(interface),
            Step::RemoveInterface(vpc, interface) => self.networks.remove_interface(*vpc, *interface),
            Step::CreateVolume(volume) => self.storage.create_volume(volume),
            Step::RemoveVolume(volume) => self.storage.remove_volume(*volume),
            Step::RemoveImage(image) => self.storage.remove_image(*image),
            Step::RemoveMemory(instance) => self.storage.memories.remove(*instance),
            Step::StartMachine(machine) => {
                self.machines.start(machine, &self.storage, &|nic| self.open_tap(nic))
            }
            Step::AttachDevice(instance, device) => {
                self.machines.attach(*instance, device, &self.storage, &|nic| self.open_tap(nic))
            }
            Step::DetachDevice(instance, device, force) => self.machines.detach(*instance, *device, *force),
            Step::GrowDisk(instance, volume, bytes) => self.machines.grow_disk(*instance, *volume, *bytes),
            Step::LimitDevice(instance, device, limits) => self.machines.limit(*instance, *device, *limits),
            Step::PowerOff(instance) => self.machines.power_off(*instance),
            Step::Reboot(instance, count) => self.machines.reboot(*instance, *count),
            Step::SaveMachine(instance) => self.machines.save(*instance, &self.storage.memories),
            Step::KillMachine(instance) => self.machines.kill(*instance),
            Step::RemoveMachine(instance) => self.machines.remove(*instance, &self.storage.memories),
        }
    }

    fn capacity(&self) -> Result<Capacity, Error> {
        let failed = |error| Error::passing("Could not learn how large this machine is", error);
        let processors = thread::available_parallelism().map_err(failed)?.get();
        let memory = fs::read_to_string("/proc/meminfo").map_err(failed)?;
        let memory_mib =
            total_memory(&memory).ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
        Ok(Capacity { processors: u32::try_from(processors).unwrap_or(u32::MAX), memory_mib })
    }

    fn hints(&self) -> Option<Receiver<Resource>> {
        self.machines.hints()
    }

    fn console_output(&self, instance: InstanceId) -> Result<Vec<u8>, Error> {
        self.machines.console_output(instance)
    }

    fn attach_console(&self, instance: InstanceId) -> Result<UnixStream, Error> {
        self.machines.attach_console(instance)
    }

    fn connect(&self, vpc: VpcId, to: SocketAddrV4, patience: Duration) -> Result<TcpStream, Error> {
        self.networks.connect(vpc, to, patience)
    }

    fn guest_sockets(&self, network: &Network) -> Result<GuestSockets, Error> {
        self.networks.guest_sockets(network)
    }

    fn network_identity(&self, vpc: VpcId) -> Option<u64> {
        self.networks.identity(vpc)
    }

    fn guest_services(&self) -> Result<UnixStream, Error> {
        self.services.connect(&self.networks)
    }

    fn guard_guest_services(&self) -> Result<(), Error> {
        self.services.guard(&self.networks)
    }

    fn end_guest_services(&self) -> Result<(), Error> {
        self.services.end()
    }

    fn staging_file(&self) -> Result<File, Error> {
        self.storage.staging_file()
    }

    fn import_image(
        &self,
        image: ImageId,
        disk: File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ImageFacts, Error> {
        self.storage.import_image(image, disk, progress)
    }
}

/// The machine's memory in MiB, out of what the kernel says of it (proc_meminfo(5)).
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_words() {
        let meminfo = "MemTotal:       24677312 kB\nMemFree:        22123456 kB\n";
        assert_eq!(total_memory(meminfo), Some(24098));
        assert_eq!(total_memory("MemFree: 1 kB"), None);
    }
}
