//! Which of the kernel's calls each kind of thread may make: those that it makes.
//!
//! The supervisor's filter holds for the process; each other thread puts on one of its own before its work, under which it
//! keeps what is in both. The lists were made by running without any and looking what was called, and by reading; a
//! call that is missing ends the machine with its number as the reason ([`super::forbidden`]).
//!
//! Nobody opens a file, makes a socket, a process or memory that can be executed, and only the supervisor asks KVM for
//! more than running a vCPU and sending an interrupt.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use devices::virtio::device::{self, Active, Device, Stop};
use devices::virtio::queue::Broken;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::LockError;
use crate::arch;
use crate::backend::vhost_ioctls;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The first thread: builds the machine, answers requests, makes the others.
    Supervisor,
    /// In KVM_RUN, and in devices' registers.
    Vcpu,
    /// At a device's rings, and what stands behind them.
    Device,
}

impl Kind {
    /// The calling thread's, as it was confined.
    pub(super) fn of_this_thread() -> Self {
        KIND.get()
    }

    /// In a word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Vcpu => "vCPU",
            Self::Device => "device",
        }
    }
}

/// Calls that all of them make: memory, locks, signals, time, events, and the end.
const EVERYBODY: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_pwrite64, // why it ended, should it panic
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill, // stopping vCPUs; abort(3)
    libc::SYS_write,
];

/// Calls of a device's work: waiting, files, TAPs, callers' sockets.
const DEVICE: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_io_uring_enter, // into a ring that can only read; see `crate::backend::Uring`
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_timerfd_settime,
    libc::SYS_writev,
];

/// Calls by which a machine is built and watched over, besides those of the others, whom it brings forth.
const SUPERVISOR: &[libc::c_long] = &[
    libc::SYS_clone3, // see `without_clone3`
    libc::SYS_dup,
    libc::SYS_eventfd2,
    libc::SYS_getsockopt,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_ppoll,
    libc::SYS_recvmsg,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_sched_getaffinity,
    libc::SYS_seccomp,
    libc::SYS_set_robust_list,
    libc::SYS_timerfd_create,
];

/// ioctls (second argument): linux/kvm.h, linux/if_tun.h, asm-generic/ioctls.h.
mod ioctl {
    /// The byte that all of KVM's have.
    pub(super) const KVM: u64 = 0xae << 8;
    pub(super) const KVM_RUN: u64 = 0xae80;
    pub(super) const KVM_SIGNAL_MSI: u64 = 0x4020_aea5;
    pub(super) const KVM_IOEVENTFD: u64 = 0x4040_ae79;
    pub(super) const TUNSETOFFLOAD: u64 = 0x4004_54d0;
    pub(super) const TUNGETIFF: u64 = 0x8004_54d2;
    pub(super) const TUNSETVNETHDRSZ: u64 = 0x4004_54d8;
    pub(super) const FIONBIO: u64 = 0x5421;
    pub(super) const FIOCLEX: u64 = 0x5451;
}

/// Calls with the arguments that they may have; one of a call's rules is enough.
type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// The argument with this index, in its lower 32 bits, which are all that the kernel looks at in these calls.
fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?])
}

fn rules(kind: Kind) -> Result<Rules, BackendError> {
    let own: &[&[libc::c_long]] = match kind {
        Kind::Supervisor => &[EVERYBODY, DEVICE, SUPERVISOR, arch::OWN_CALLS],
        Kind::Device => &[EVERYBODY, DEVICE, arch::OWN_CALLS],
        Kind::Vcpu => &[EVERYBODY],
    };
    let mut rules: Rules = own.iter().copied().flatten().map(|call| (*call, Vec::new())).collect();
    let mut allow = |call, index, operator: SeccompCmpOp, values: &[u64]| {
        let each = values.iter().map(|value| argument(index, operator.clone(), *value));
        rules.entry(call).or_default().extend(each.collect::<Result<Vec<_>, _>>()?);
        Ok::<_, BackendError>(())
    };
    let executable = libc::PROT_EXEC.unsigned_abs().into();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        allow(call, 2, SeccompCmpOp::MaskedEq(executable), &[0])?;
    }
    let device = [ioctl::KVM_SIGNAL_MSI, ioctl::TUNSETOFFLOAD, ioctl::FIONBIO];
    match kind {
        Kind::Vcpu => {
            let ours = [ioctl::KVM_RUN, ioctl::KVM_SIGNAL_MSI, ioctl::KVM_IOEVENTFD, arch::KVM_GET_PLACE];
            allow(libc::SYS_ioctl, 1, SeccompCmpOp::Eq, &ours)?;
        }
        Kind::Device => {
            allow(libc::SYS_ioctl, 1, SeccompCmpOp::Eq, &device)?;
            allow(libc::SYS_ioctl, 1, SeccompCmpOp::Eq, &vhost_ioctls())?;
        }
        Kind::Supervisor => {
            allow(libc::SYS_ioctl, 1, SeccompCmpOp::MaskedEq(0xff00), &[ioctl::KVM])?;
            allow(libc::SYS_ioctl, 1, SeccompCmpOp::Eq, &vhost_ioctls())?;
            let tap = [ioctl::TUNSETOFFLOAD, ioctl::TUNGETIFF, ioctl::TUNSETVNETHDRSZ];
            allow(libc::SYS_ioctl, 1, SeccompCmpOp::Eq, &tap)?;
            allow(libc::SYS_ioctl, 1, SeccompCmpOp::Eq, &[ioctl::FIONBIO, ioctl::FIOCLEX])?;
            let numbers = |numbers: &[libc::c_int]| -> Vec<u64> {
                numbers.iter().map(|number| number.unsigned_abs().into()).collect()
            };
            let descriptors =
                [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];
            allow(libc::SYS_fcntl, 1, SeccompCmpOp::Eq, &numbers(&descriptors))?;
            let locks = [libc::F_OFD_GETLK, libc::F_OFD_SETLK];
            allow(libc::SYS_fcntl, 1, SeccompCmpOp::Eq, &numbers(&locks))?;
            let own = [libc::PR_SET_NAME, libc::PR_SET_NO_NEW_PRIVS];
            allow(libc::SYS_prctl, 0, SeccompCmpOp::Eq, &numbers(&own))?;
            // How long an open file is: those of a volume that comes while the machine runs.
            let of_an_open_file = libc::AT_EMPTY_PATH.unsigned_abs().into();
            allow(libc::SYS_statx, 2, SeccompCmpOp::MaskedEq(of_an_open_file), &[of_an_open_file])?;
            let thread = libc::CLONE_THREAD.unsigned_abs().into();
            allow(libc::SYS_clone, 0, SeccompCmpOp::MaskedEq(thread), &[thread])?;
        }
    }
    Ok(rules)
}

fn compile(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, others, these, arch)?.try_into()
}

/// A filter's arguments are registers, and `clone3` has its flags in memory: whether it would make a thread or a process
/// cannot be seen. The C library takes `clone` where there is no `clone3`.
fn without_clone3() -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    compile(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs()))
}

/// The filters of the threads to come: compiled once.
struct Programs {
    vcpu: BpfProgram,
    device: BpfProgram,
}

static PROGRAMS: OnceLock<Programs> = OnceLock::new();

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::Supervisor) };
}

/// Confines the calling thread, for good. The supervisor comes first; where it was not confined, nobody is.
pub(crate) fn confine(kind: Kind) -> Result<(), LockError> {
    KIND.set(kind);
    confine_to(kind).map_err(LockError::Filter)
}

fn confine_to(kind: Kind) -> Result<(), Error> {
    let make = |kind| compile(rules(kind)?, SeccompAction::Trap, SeccompAction::Allow);
    match kind {
        Kind::Supervisor => {
            let programs = Programs { vcpu: make(Kind::Vcpu)?, device: make(Kind::Device)? };
            apply_filter(&without_clone3()?)?;
            apply_filter(&make(Kind::Supervisor)?)?;
            // Only a process that is confined twice has them already.
            let _ = PROGRAMS.set(programs);
            Ok(())
        }
        Kind::Vcpu => PROGRAMS.get().map_or(Ok(()), |programs| apply_filter(&programs.vcpu)),
        Kind::Device => PROGRAMS.get().map_or(Ok(()), |programs| apply_filter(&programs.device)),
    }
}

/// A device whose thread confines itself before its first work.
pub(crate) struct Confined {
    device: Box<dyn Device>,
    confined: bool,
}

impl Confined {
    pub(crate) fn new(device: Box<dyn Device>) -> Self {
        Self { device, confined: false }
    }
}

impl Device for Confined {
    fn kind(&self) -> device::Kind {
        self.device.kind()
    }

    fn features(&self) -> u64 {
        self.device.features()
    }

    fn queue_sizes(&self) -> Vec<u16> {
        self.device.queue_sizes()
    }

    fn config(&self) -> Vec<u8> {
        self.device.config()
    }

    fn run(&mut self, active: &mut Active, stop: &Stop) -> Result<(), Broken> {
        if !self.confined {
            confine(Kind::Device).map_err(|_| Broken("the host refused to confine the device's thread"))?;
            self.confined = true;
        }
        self.device.run(active, stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kinds_filter_compiles_and_fits_into_the_kernel() {
        for kind in [Kind::Supervisor, Kind::Vcpu, Kind::Device] {
            let program = compile(rules(kind).unwrap(), SeccompAction::Trap, SeccompAction::Allow).unwrap();
            assert!(program.len() < 4096, "{kind:?}: {}", program.len()); // BPF_MAXINSNS
        }
        without_clone3().unwrap();
    }

    #[test]
    fn nobody_may_what_nobody_needs() {
        let never = [
            libc::SYS_openat,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_kill,
            libc::SYS_mount,
            libc::SYS_process_vm_readv,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_unshare,
            libc::SYS_setns,
        ];
        for kind in [Kind::Supervisor, Kind::Vcpu, Kind::Device] {
            let rules = rules(kind).unwrap();
            assert!(never.iter().all(|call| !rules.contains_key(call)), "{kind:?}");
        }
    }

    #[test]
    fn threads_may_less_than_who_made_them() {
        let all = rules(Kind::Supervisor).unwrap();
        for kind in [Kind::Vcpu, Kind::Device] {
            assert!(rules(kind).unwrap().keys().all(|call| all.contains_key(call)), "{kind:?}");
        }
    }
}
