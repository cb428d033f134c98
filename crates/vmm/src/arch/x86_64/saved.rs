//! What KVM knows of a machine that stands still, as plain data, and back.
//!
//! The guest's clocks go on by the time that it was away: the time of day is right at once, and what was to happen
//! meanwhile happens now, all at the same moment. The order in which a vCPU's parts are set is KVM's: a register that
//! another one gives its meaning to comes after it (KVM API, 4.20, 4.35, 4.58, 4.68).
#![allow(unsafe_code, reason = "KVM_SET_XSAVE")]

use std::time::Duration;

use kvm_bindings::{
    CpuId, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_MAX_CPUID_ENTRIES, Msrs,
    kvm_clock_data, kvm_cpuid_entry2, kvm_debugregs, kvm_irqchip, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

use super::InterruptController;

/// MSRs (Intel SDM volume 4) that KVM does not list and knows: memory types, which a guest reads back.
const MORE_MSRS: [u32; 29] = [
    0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e,
    0x20f, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x277, 0x2ff,
];
const MSR_TSC: u32 = 0x10;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// As many as KVM takes at a time, `MAX_IO_MSRS`.
const MSRS_AT_ONCE: usize = 256;

/// The machine, but for its vCPUs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedVm {
    interrupt_controllers: Vec<kvm_irqchip>,
    clock: kvm_clock_data,
}

/// One vCPU.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedVcpu {
    cpuid: Vec<kvm_cpuid_entry2>,
    running: kvm_mp_state,
    registers: kvm_regs,
    special: kvm_sregs,
    extended: kvm_xsave,
    extended_control: kvm_xcrs,
    debug: kvm_debugregs,
    apic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
    tsc_khz: u32,
}

/// Asks for the machine's part; its vCPUs and devices are still.
pub(crate) fn save_vm(vm: &VmFd, _controller: &InterruptController) -> Result<SavedVm, kvm_ioctls::Error> {
    let chips = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];
    let interrupt_controllers = chips.into_iter().map(|chip_id| {
        let mut chip = kvm_irqchip { chip_id, ..Default::default() };
        vm.get_irqchip(&mut chip).map(|()| chip)
    });
    let interrupt_controllers = interrupt_controllers.collect::<Result<_, _>>()?;
    Ok(SavedVm { interrupt_controllers, clock: vm.get_clock()? })
}

/// Sets it, before the vCPUs, of a machine that was away for so long.
pub(crate) fn restore_vm(
    vm: &VmFd,
    _controller: &InterruptController,
    saved: &SavedVm,
    away: Duration,
) -> Result<(), kvm_ioctls::Error> {
    saved.interrupt_controllers.iter().try_for_each(|chip| vm.set_irqchip(chip))?;
    let nanoseconds = u64::try_from(away.as_nanos()).unwrap_or(u64::MAX);
    let clock = saved.clock.clock.saturating_add(nanoseconds);
    vm.set_clock(&kvm_clock_data { clock, ..Default::default() })
}

/// Asks for a vCPU that is still. The first question also settles what the others would answer.
pub(crate) fn save_vcpu(kvm: &Kvm, vcpu: &VcpuFd) -> Result<SavedVcpu, kvm_ioctls::Error> {
    let listed = kvm.get_msr_index_list()?;
    let known = listed.as_slice().iter().chain(&MORE_MSRS).copied();
    Ok(SavedVcpu {
        running: vcpu.get_mp_state()?,
        registers: vcpu.get_regs()?,
        special: vcpu.get_sregs()?,
        extended: vcpu.get_xsave()?,
        extended_control: vcpu.get_xcrs()?,
        debug: vcpu.get_debug_regs()?,
        apic: vcpu.get_lapic()?,
        msrs: get_msrs(vcpu, &known.collect::<Vec<_>>())?,
        events: vcpu.get_vcpu_events()?,
        // A host that does not say has one speed for all.
        tsc_khz: vcpu.get_tsc_khz().unwrap_or(0),
        cpuid: vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES)?.as_slice().to_vec(),
    })
}

/// Sets one that has never run, of a machine that was away for so long.
pub(crate) fn restore_vcpu(
    vcpu: &VcpuFd,
    saved: &SavedVcpu,
    away: Duration,
) -> Result<(), kvm_ioctls::Error> {
    let too_many = |_| kvm_ioctls::Error::new(libc::E2BIG);
    vcpu.set_cpuid2(&CpuId::from_entries(&saved.cpuid).map_err(too_many)?)?;
    vcpu.set_mp_state(saved.running)?;
    vcpu.set_regs(&saved.registers)?;
    vcpu.set_sregs(&saved.special)?;
    // SAFETY: the structure is as large as KVM reads where no feature is enabled that needs more, and none is: that
    // takes a permission which this process never asks for (arch_prctl(2), ARCH_REQ_XCOMP_GUEST_PERM).
    unsafe { vcpu.set_xsave(&saved.extended) }?;
    vcpu.set_xcrs(&saved.extended_control)?;
    vcpu.set_debug_regs(&saved.debug)?;
    vcpu.set_lapic(&saved.apic)?;
    set_msrs(vcpu, &moved_on(saved, away))?;
    vcpu.set_vcpu_events(&saved.events)?;
    was_away(vcpu);
    Ok(())
}

/// Tells a guest that has KVM's clock that it stood still, so that it does not take a vCPU for hung.
pub(crate) fn was_away(vcpu: &VcpuFd) {
    // One without that clock is refused, and has to see for itself.
    let _ = vcpu.kvmclock_ctrl();
}

/// The MSRs with the cycle counter moved on, and the timer that compares with it last: it needs both the counter and the
/// APIC. A deadline that passed while it was saved reads as none; set to the present, it strikes once more.
fn moved_on(saved: &SavedVcpu, away: Duration) -> Vec<kvm_msr_entry> {
    let cycles = u128::from(saved.tsc_khz) * away.as_nanos() / 1_000_000;
    let cycles = u64::try_from(cycles).unwrap_or(0);
    let counter = saved.msrs.iter().find(|msr| msr.index == MSR_TSC).map_or(0, |msr| msr.data);
    let mut msrs = saved.msrs.clone();
    for msr in &mut msrs {
        match msr.index {
            MSR_TSC => msr.data = msr.data.wrapping_add(cycles),
            MSR_TSC_DEADLINE if msr.data == 0 => msr.data = counter,
            _ => {}
        }
    }
    msrs.sort_by_key(|msr| msr.index == MSR_TSC_DEADLINE);
    msrs
}

fn get_msrs(vcpu: &VcpuFd, mut indices: &[u32]) -> Result<Vec<kvm_msr_entry>, kvm_ioctls::Error> {
    let mut read = Vec::with_capacity(indices.len());
    while !indices.is_empty() {
        let some = &indices[..indices.len().min(MSRS_AT_ONCE)];
        let asked: Vec<_> = some.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
        let mut msrs = Msrs::from_entries(&asked).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
        let count = vcpu.get_msrs(&mut msrs)?;
        read.extend(&msrs.as_slice()[..count]);
        // KVM ends at one that this processor has not.
        indices = &indices[(count + 1).min(some.len())..];
    }
    Ok(read)
}

/// Sets all. What can only be read must say the same here as there.
fn set_msrs(vcpu: &VcpuFd, mut msrs: &[kvm_msr_entry]) -> Result<(), kvm_ioctls::Error> {
    while !msrs.is_empty() {
        let some = &msrs[..msrs.len().min(MSRS_AT_ONCE)];
        let entries = Msrs::from_entries(some).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
        let count = vcpu.set_msrs(&entries)?;
        if let Some(refused) = some.get(count) {
            let here = get_msrs(vcpu, &[refused.index])?;
            if here.first().map(|msr| msr.data) != Some(refused.data) {
                return Err(kvm_ioctls::Error::new(libc::EINVAL));
            }
        }
        msrs = &msrs[(count + 1).min(some.len())..];
    }
    Ok(())
}
