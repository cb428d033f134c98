//! What KVM knows of a machine that stands still, as plain data, and back.
//!
//! A vCPU is a list of registers, which KVM numbers. The interrupt controller's registers are read and written as KVM's
//! documents say (`devices/arm-vgic-v3.rst`, `arm-vgic-its.rst`), also in their order; its tables of messages and of what
//! is pending lie in the guest's memory, where KVM puts them first. The guest's counter goes on by the time that it was
//! away.
#![allow(unsafe_code, reason = "reading the counter's speed, and attributes of KVM's devices")]

use std::time::Duration;

use kvm_bindings::{
    KVM_DEV_ARM_ITS_RESTORE_TABLES, KVM_DEV_ARM_ITS_SAVE_TABLES, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
    KVM_DEV_ARM_VGIC_GRP_DIST_REGS, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
    KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U64, RegList,
    kvm_device_attr, kvm_mp_state,
};
use kvm_ioctls::{DeviceFd, Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

use super::gic::{InterruptController, control, set};
use super::memory_map::INTERRUPTS;
use super::processor::affinity;

/// More registers than any vCPU has.
const MOST_REGISTERS: usize = 1024;
/// The virtual counter, by the number that KVM gave it long ago.
const COUNTER: u64 =
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | system_register(3, 14, 3, 2);

/// A system register of op0 3 in KVM's numbering.
const fn system_register(op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    3 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// Registers of the distributor that have some bits for each interrupt (Arm IHI 0069, 12.9): offset and bits. Of those
/// that set and clear, setting is enough for what has just begun.
const DISTRIBUTOR: [(u64, u64); 7] =
    [(0x0080, 1), (0x0c00, 2), (0x6000, 64), (0x0400, 8), (0x0100, 1), (0x0200, 1), (0x0300, 1)];
/// And those that are one: control, status.
const DISTRIBUTOR_ONCE: [u64; 2] = [0x0010, 0x0000];
/// Interrupts that are a vCPU's own, which the redistributors keep.
const PRIVATE: u64 = 32;
/// A redistributor's registers, 32 bits each: status, waker, where its tables are, its own interrupts, control last.
const REDISTRIBUTOR: [u64; 21] = [
    0x0010, 0x0014, 0x0070, 0x0074, 0x0078, 0x007c, 0x1_0080, 0x1_0c00, 0x1_0c04, 0x1_0400, 0x1_0404,
    0x1_0408, 0x1_040c, 0x1_0410, 0x1_0414, 0x1_0418, 0x1_041c, 0x1_0100, 0x1_0200, 0x1_0300, 0x0000,
];
/// A vCPU's interface (12.2): SRE, CTLR, PMR, BPR0, BPR1, IGRPEN0, IGRPEN1, and the active priorities, of which there
/// are as many as the processor has bits of priority.
const INTERFACE: [u64; 15] = [
    system_register(0, 12, 12, 5),
    system_register(0, 12, 12, 4),
    system_register(0, 4, 6, 0),
    system_register(0, 12, 8, 3),
    system_register(0, 12, 12, 3),
    system_register(0, 12, 12, 6),
    system_register(0, 12, 12, 7),
    system_register(0, 12, 8, 4),
    system_register(0, 12, 8, 5),
    system_register(0, 12, 8, 6),
    system_register(0, 12, 8, 7),
    system_register(0, 12, 9, 0),
    system_register(0, 12, 9, 1),
    system_register(0, 12, 9, 2),
    system_register(0, 12, 9, 3),
];
/// The translation service's: its version, where its commands are, how far they are read and written, where its tables
/// are; control, last of all.
const SERVICE: [u64; 12] =
    [0x0004, 0x0080, 0x0090, 0x0088, 0x0100, 0x0108, 0x0110, 0x0118, 0x0120, 0x0128, 0x0130, 0x0138];
const SERVICE_CONTROL: u64 = 0x0000;

/// A register and its value.
type Register = (u64, u64);

/// The machine, but for its vCPUs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedVm {
    distributor: Vec<Register>,
    redistributors: Vec<Register>,
    interfaces: Vec<Register>,
    service: Vec<Register>,
    service_control: u64,
}

/// One vCPU.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedVcpu {
    running: kvm_mp_state,
    registers: Vec<(u64, Vec<u8>)>,
}

/// The distributor's registers for a controller with all its interrupts, in the order in which they are set.
fn distributor() -> impl Iterator<Item = u64> {
    let words = |bits: u64| (PRIVATE * bits / 8..u64::from(INTERRUPTS) * bits / 8).step_by(4);
    let each = DISTRIBUTOR.into_iter().flat_map(move |(start, bits)| words(bits).map(move |at| start + at));
    each.chain(DISTRIBUTOR_ONCE)
}

/// A vCPU's place in the number of one of its registers.
fn of(vcpu: u8, register: u64) -> u64 {
    affinity(vcpu) << 32 | register
}

fn get<T: Default>(device: &DeviceFd, group: u32, attr: u64) -> Result<T, kvm_ioctls::Error> {
    let mut value = T::default();
    let addr = std::ptr::from_mut(&mut value).expose_provenance() as u64;
    // SAFETY: for these groups the kernel writes a number of this size to the place, which is ours.
    unsafe { device.get_device_attr(&mut kvm_device_attr { group, attr, addr, flags: 0 }) }?;
    Ok(value)
}

fn get_all<T: Default + Into<u64>>(
    device: &DeviceFd,
    group: u32,
    registers: impl Iterator<Item = u64>,
) -> Result<Vec<Register>, kvm_ioctls::Error> {
    registers.map(|register| Ok((register, get::<T>(device, group, register)?.into()))).collect()
}

/// Sets registers of 32 bits.
fn set_words(device: &DeviceFd, group: u32, saved: &[Register]) -> Result<(), kvm_ioctls::Error> {
    saved.iter().try_for_each(|(register, value)| {
        set(device, group, *register, &u32::try_from(*value).unwrap_or_default())
    })
}

/// Asks for the machine's part; its vCPUs and devices are still. Puts tables into its memory.
pub(crate) fn save_vm(
    _vm: &VmFd,
    InterruptController { gic, its, vcpus }: &InterruptController,
) -> Result<SavedVm, kvm_ioctls::Error> {
    control(gic, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES)?;
    control(its, KVM_DEV_ARM_ITS_SAVE_TABLES)?;
    let of_all = |registers: &'static [u64]| {
        (0..*vcpus).flat_map(move |vcpu| registers.iter().map(move |register| of(vcpu, *register)))
    };
    // Not every processor has all active priorities.
    let interfaces = of_all(&INTERFACE).filter_map(|register| {
        let value = get::<u64>(gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, register).ok()?;
        Some((register, value))
    });
    Ok(SavedVm {
        distributor: get_all::<u32>(gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, distributor())?,
        redistributors: get_all::<u32>(gic, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, of_all(&REDISTRIBUTOR))?,
        interfaces: interfaces.collect(),
        service: get_all::<u64>(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, SERVICE.into_iter())?,
        service_control: get(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, SERVICE_CONTROL)?,
    })
}

/// Sets it, before the vCPUs. Its memory is there.
pub(crate) fn restore_vm(
    _vm: &VmFd,
    InterruptController { gic, its, .. }: &InterruptController,
    saved: &SavedVm,
    _away: Duration,
) -> Result<(), kvm_ioctls::Error> {
    set_words(gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, &saved.distributor)?;
    set_words(gic, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, &saved.redistributors)?;
    let set_long = |device, group, (register, value): &Register| set(device, group, *register, value);
    let mut interfaces = saved.interfaces.iter();
    interfaces.try_for_each(|one| set_long(gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, one))?;
    let mut service = saved.service.iter();
    service.try_for_each(|one| set_long(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, one))?;
    control(its, KVM_DEV_ARM_ITS_RESTORE_TABLES)?;
    set(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, SERVICE_CONTROL, &saved.service_control)
}

/// Asks for a vCPU that is still.
pub(crate) fn save_vcpu(_kvm: &Kvm, vcpu: &VcpuFd) -> Result<SavedVcpu, kvm_ioctls::Error> {
    let mut list = RegList::new(MOST_REGISTERS).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
    vcpu.get_reg_list(&mut list)?;
    let register = |id: &u64| {
        // A register's number says how long it is.
        let mut bytes = vec![0; 1 << (id >> 52 & 0xf)];
        vcpu.get_one_reg(*id, &mut bytes).map(|_| (*id, bytes))
    };
    let registers = list.as_slice().iter().map(register).collect::<Result<_, _>>()?;
    Ok(SavedVcpu { running: vcpu.get_mp_state()?, registers })
}

/// Sets one that has never run, of a machine that was away for so long.
pub(crate) fn restore_vcpu(
    vcpu: &VcpuFd,
    saved: &SavedVcpu,
    away: Duration,
) -> Result<(), kvm_ioctls::Error> {
    vcpu.set_mp_state(saved.running)?;
    for (id, bytes) in &saved.registers {
        if bytes.len() != 1 << (id >> 52 & 0xf) {
            return Err(kvm_ioctls::Error::new(libc::EINVAL));
        }
        match <[u8; 8]>::try_from(bytes.as_slice()) {
            Ok(counter) if *id == COUNTER => {
                let counter = u64::from_le_bytes(counter).wrapping_add(ticks(away));
                vcpu.set_one_reg(*id, &counter.to_le_bytes())?;
            }
            _ => drop(vcpu.set_one_reg(*id, bytes)?),
        }
    }
    Ok(())
}

/// What the counter counts in that time.
fn ticks(time: Duration) -> u64 {
    let frequency: u64;
    // SAFETY: the register may be read by everybody, and reading it changes nothing.
    unsafe {
        std::arch::asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, preserves_flags))
    };
    u64::try_from(u128::from(frequency) * time.as_nanos() / 1_000_000_000).unwrap_or(0)
}

/// A guest here learns from its counter that it stood still.
pub(crate) fn was_away(_vcpu: &VcpuFd) {}
