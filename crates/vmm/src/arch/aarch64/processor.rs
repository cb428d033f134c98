//! vCPUs: as the host's own, off until the first one asks for them, which begins at the kernel's entry.
//!
//! They are started and stopped by PSCI, which KVM answers itself; power-off and reset by PSCI come to us as
//! events. The state at the entry is `Documentation/arch/arm64/booting.rst`'s: EL1, all exceptions masked,
//! MMU off, the device tree's address in x0.

use std::mem::offset_of;

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_ARM_VCPU_PTRAUTH_ADDRESS,
    KVM_ARM_VCPU_PTRAUTH_GENERIC, KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U64,
    kvm_regs, kvm_vcpu_init, user_pt_regs,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use super::Entry;
use super::memory_map::DEVICE_TREE;

/// PSTATE: debug exceptions, SErrors, IRQs and FIQs masked; EL1 with its own stack pointer.
const PSTATE_AT_ENTRY: u64 = 0x3c0 | 0b0101;

/// A core register's id: its place in `kvm_regs`, in words of four bytes.
const fn core_register(offset: usize) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | (offset / size_of::<u32>()) as u64
}

const X0: u64 = core_register(offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, regs));
const PC: u64 = core_register(offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, pc));
const PSTATE: u64 = core_register(offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, pstate));
/// MPIDR_EL1: op0 3, op1 0, CRn 0, CRm 0, op2 5.
const MPIDR: u64 = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | 3 << 14 | 5;
/// MPIDR: bit 31 is always set.
const MPIDR_RESERVED: u64 = 1 << 31;

/// A vCPU's affinity, by which interrupts and PSCI name it: 16 of them to a group, the most to which the GIC
/// sends an interrupt at once. KVM begins with the same.
pub(crate) fn affinity(index: u8) -> u64 {
    u64::from(index & 0xf) | u64::from(index >> 4) << 8
}

/// What a machine's vCPUs look like.
pub(crate) struct Processors {
    address_bits: u32,
    /// Of `kvm_vcpu_init`.
    features: u32,
}

impl Processors {
    /// vCPUs with what this host's KVM offers.
    pub(crate) fn new(kvm: &Kvm, _count: u8) -> Result<Self, kvm_ioctls::Error> {
        let mut features = 1 << KVM_ARM_VCPU_PSCI_0_2;
        // Authenticated pointers: both ways or none.
        if [Cap::ArmPtrAuthAddress, Cap::ArmPtrAuthGeneric].iter().all(|cap| kvm.check_extension(*cap)) {
            features |= 1 << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1 << KVM_ARM_VCPU_PTRAUTH_GENERIC;
        }
        // KVM without a say in it means 40.
        let address_bits =
            u32::try_from(kvm.get_host_ipa_limit()).ok().filter(|bits| *bits > 0).unwrap_or(40);
        Ok(Self { address_bits, features })
    }

    /// The end of what a guest can address.
    pub(crate) fn address_end(&self) -> u64 {
        1_u64.checked_shl(self.address_bits).unwrap_or(u64::MAX)
    }

    /// Makes one, as it is after power-on.
    pub(crate) fn create(&self, vm: &VmFd, index: u8) -> Result<VcpuFd, kvm_ioctls::Error> {
        let vcpu = vm.create_vcpu(u64::from(index))?;
        let mut init = kvm_vcpu_init::default();
        vm.get_preferred_target(&mut init)?;
        init.features[0] |= self.features;
        if index > 0 {
            init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
        }
        vcpu.vcpu_init(&init)?;
        // What the tables say of it.
        vcpu.set_one_reg(MPIDR, &(MPIDR_RESERVED | affinity(index)).to_le_bytes())?;
        Ok(vcpu)
    }
}

/// Has the first vCPU begin at a kernel's entry.
pub(crate) fn begin(vcpu: &VcpuFd, entry: &Entry) -> Result<(), kvm_ioctls::Error> {
    for (register, value) in [(PSTATE, PSTATE_AT_ENTRY), (PC, entry.0), (X0, DEVICE_TREE.0)] {
        vcpu.set_one_reg(register, &value.to_le_bytes())?;
    }
    Ok(())
}

/// The address of the instruction that a vCPU is at.
pub(crate) fn instruction_address(vcpu: &VcpuFd) -> Result<u64, kvm_ioctls::Error> {
    let mut bytes = [0; 8];
    vcpu.get_one_reg(PC, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
