//! vCPUs: one thread each, in KVM_RUN until the guest needs a device, and then again.
//!
//! A vCPU in the guest can only be fetched out by a signal, and a signal that comes just before KVM_RUN
//! would be lost. So whoever stops a vCPU first sets `immediate_exit` in the page it shares with KVM,
//! with which KVM_RUN returns at once, and then signals: whichever way the race goes, the thread comes
//! out (KVM API, 5, `immediate_exit`). It also finishes what the guest was in the middle of asking a device, so a
//! vCPU that stands still is between two instructions.
#![allow(unsafe_code, reason = "kvm_run is shared with the kernel and with the thread that stops vCPUs")]

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;

use devices::bus::Bus;
use kvm_bindings::{KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use crate::arch;
use crate::events::{Event, Events, Guest};
use crate::exit::chain;
use crate::sandbox::{Kind, confine};

/// What vCPUs' accesses end at.
pub(crate) struct Buses {
    /// I/O ports; architectures without them leave it empty.
    pub(crate) ports: Bus,
    /// Memory that is not RAM.
    pub(crate) memory: Bus,
}

/// All vCPUs of a machine: each in its thread, or here and still.
pub(crate) struct Vcpus {
    buses: Arc<Buses>,
    events: Arc<Events>,
    still: Vec<VcpuFd>,
    threads: Vec<Thread>,
    stop: Arc<AtomicBool>,
}

struct Thread {
    handle: JoinHandle<VcpuFd>,
    immediate_exit: ImmediateExit,
}

/// The byte of a vCPU's shared page that makes KVM_RUN return at once.
struct ImmediateExit(NonNull<u8>);

impl ImmediateExit {
    fn of(vcpu: &mut VcpuFd) -> Self {
        Self(NonNull::from(&mut vcpu.get_kvm_run().immediate_exit))
    }

    /// # Safety
    /// The vCPU that this came from must not have been dropped.
    unsafe fn set(&self) {
        // SAFETY: the byte lies in the vCPU's mapping, which the caller says is there; its other users
        // are the kernel, which reads it, and nobody else in this process while the vCPU's thread runs.
        let byte = unsafe { AtomicU8::from_ptr(self.0.as_ptr()) };
        byte.store(1, Ordering::Release);
    }
}

/// Only interrupts whatever system call the thread is in.
extern "C" fn interrupt(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

impl Vcpus {
    /// These, still.
    pub(crate) fn new(still: Vec<VcpuFd>, buses: Arc<Buses>, events: &Arc<Events>) -> Self {
        Self { buses, events: events.clone(), still, threads: Vec::new(), stop: Arc::default() }
    }

    /// Those that are still: all before [`Self::start`] and after [`Self::stop`].
    pub(crate) fn still(&self) -> &[VcpuFd] {
        &self.still
    }

    /// Sets them going. Each event that ends one is pushed.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        register_signal_handler(SIGRTMIN(), interrupt).map_err(io::Error::from)?;
        self.stop.store(false, Ordering::Release);
        for (index, mut vcpu) in std::mem::take(&mut self.still).into_iter().enumerate() {
            vcpu.set_kvm_immediate_exit(0);
            let immediate_exit = ImmediateExit::of(&mut vcpu);
            let (buses, events, stop) = (self.buses.clone(), self.events.clone(), self.stop.clone());
            let handle = std::thread::Builder::new().name(format!("vcpu-{index}")).spawn(move || {
                let end = match confine(Kind::Vcpu) {
                    Ok(()) => run(&mut vcpu, index, &buses, &stop),
                    Err(error) => Some(Guest::Failed(format!("vCPU {index}: {}", chain(&error)))),
                };
                if let Some(guest) = end {
                    events.push(Event::Guest(guest));
                }
                // Given back, so that the mapping lives until the thread is joined.
                vcpu
            })?;
            self.threads.push(Thread { handle, immediate_exit });
        }
        Ok(())
    }

    /// Stops them all, wherever they are, and has them here.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in &self.threads {
            // SAFETY: the vCPU is in its thread or in the thread's result, and we have not joined it yet.
            unsafe { thread.immediate_exit.set() };
            // SAFETY: the handle has not been joined, so its thread id is still its own; the signal has a
            // handler.
            unsafe { libc::pthread_kill(thread.handle.as_pthread_t(), SIGRTMIN()) };
        }
        for thread in self.threads.drain(..) {
            // A vCPU's thread that panicked has told so already, and ended the process.
            self.still.extend(thread.handle.join());
        }
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs until told to stop, or the guest did something that ends this vCPU. The word to stop is obeyed on coming out
/// of the guest for it alone: after any other exit KVM has yet to finish the instruction.
fn run(vcpu: &mut VcpuFd, index: usize, buses: &Buses, stop: &AtomicBool) -> Option<Guest> {
    loop {
        match vcpu.run() {
            Ok(exit) => {
                if let Some(end) = answer(exit, buses) {
                    return Some(end.explain(vcpu, index));
                }
            }
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                if stop.load(Ordering::Acquire) {
                    return None;
                }
            }
            // Arm's processors do not say what an instruction meant that moves two registers, or a vector.
            Err(error) if error.errno() == libc::ENOSYS => {
                let what = "the guest reached for a device by an instruction that KVM cannot take apart";
                return Some(End::Crash(what.to_owned()).explain(vcpu, index));
            }
            Err(error) => return Some(Guest::Failed(format!("vCPU {index} cannot run: {error}"))),
        }
    }
}

/// Why a vCPU does not go on.
enum End {
    Off,
    Reset,
    Crash(String),
    InternalError,
}

/// Does what the guest needs; `Some` when it does not go on.
fn answer(exit: VcpuExit<'_>, buses: &Buses) -> Option<End> {
    match exit {
        VcpuExit::IoIn(port, data) => buses.ports.read(u64::from(port), data),
        VcpuExit::IoOut(port, data) => buses.ports.write(u64::from(port), data),
        VcpuExit::MmioRead(address, data) => buses.memory.read(address, data),
        VcpuExit::MmioWrite(address, data) => buses.memory.write(address, data),
        // A signal that was not for us, or the first exit after a stop was taken back.
        VcpuExit::Intr | VcpuExit::IrqWindowOpen => {}
        // A triple fault: a processor resets the machine.
        VcpuExit::Shutdown => return Some(End::Reset),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => return Some(End::Reset),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => return Some(End::Off),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _) => {
            return Some(End::Crash("the guest reported a crash to KVM".to_owned()));
        }
        VcpuExit::InternalError => return Some(End::InternalError),
        VcpuExit::FailEntry(reason, _) => {
            return Some(End::Crash(format!("the processor refused to enter the guest, reason {reason:#x}")));
        }
        other => {
            return Some(End::Crash(format!("KVM left the guest for a reason we do not handle: {other:?}")));
        }
    }
    None
}

impl End {
    fn explain(self, vcpu: &mut VcpuFd, index: usize) -> Guest {
        match self {
            Self::Off => Guest::Off,
            Self::Reset => Guest::Reset,
            Self::Crash(what) => Guest::Crashed(format!("On vCPU {index} {what}{}", place(vcpu))),
            Self::InternalError => {
                let what = match suberror(vcpu) {
                    1 => "KVM met an instruction that it cannot emulate".to_owned(),
                    2 => "the guest's exceptions nested in a way the processor cannot deliver".to_owned(),
                    3 => "KVM could not deliver an event".to_owned(),
                    other => format!("KVM had an internal error, number {other}"),
                };
                Guest::Crashed(format!("On vCPU {index} {what}{}", place(vcpu)))
            }
        }
    }
}

/// Which of KVM's internal errors the last exit was.
fn suberror(vcpu: &mut VcpuFd) -> u32 {
    let run = vcpu.get_kvm_run();
    // SAFETY: all of the union's members are plain numbers, so any bytes are a value; the exit reason
    // says that it is this one.
    unsafe { run.__bindgen_anon_1.internal.suberror }
}

/// Where in its code a vCPU is, for a sentence about it.
fn place(vcpu: &VcpuFd) -> String {
    arch::instruction_address(vcpu).map_or_else(|_| String::new(), |at| format!(", at address {at:#x}"))
}
