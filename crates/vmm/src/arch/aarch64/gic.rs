//! The interrupt controller: a GICv3 with its translation service, both KVM's.
//!
//! KVM makes them as devices of their own, which are told where they are and then to begin; they know how
//! many vCPUs there are by then, so it is done after those (KVM API, `devices/arm-vgic-v3.rst` and
//! `arm-vgic-its.rst`). Messages of PCI functions go through the translation service, by the function's
//! requester id.

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_ITS_ADDR_TYPE, KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::memory_map::{GIC_DISTRIBUTOR, GIC_ITS, GIC_REDISTRIBUTORS, INTERRUPTS};

/// A region of redistributors: how many, in the high bits, where, and which region it is.
const COUNT_SHIFT: u32 = 52;

/// Both, with a redistributor for each of so many vCPUs.
pub(crate) struct InterruptController {
    pub(super) gic: DeviceFd,
    pub(super) its: DeviceFd,
    pub(super) vcpus: u8,
}

/// Gives a virtual machine with so many vCPUs its interrupt controller.
pub(crate) fn add_interrupt_controller(
    vm: &VmFd,
    vcpus: u8,
) -> Result<InterruptController, kvm_ioctls::Error> {
    let gic = create(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3)?;
    let address = KVM_DEV_ARM_VGIC_GRP_ADDR;
    set(&gic, address, KVM_VGIC_V3_ADDR_TYPE_DIST.into(), &GIC_DISTRIBUTOR)?;
    let redistributors = u64::from(vcpus) << COUNT_SHIFT | GIC_REDISTRIBUTORS;
    set(&gic, address, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION.into(), &redistributors)?;
    set(&gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &INTERRUPTS)?;
    control(&gic, KVM_DEV_ARM_VGIC_CTRL_INIT)?;

    let its = create(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS)?;
    set(&its, address, KVM_VGIC_ITS_ADDR_TYPE.into(), &GIC_ITS)?;
    control(&its, KVM_DEV_ARM_VGIC_CTRL_INIT)?;
    Ok(InterruptController { gic, its, vcpus })
}

fn create(vm: &VmFd, kind: u32) -> Result<DeviceFd, kvm_ioctls::Error> {
    vm.create_device(&mut kvm_create_device { type_: kind, ..Default::default() })
}

/// Sets one attribute; the kernel reads the value while it is asked.
pub(super) fn set<T>(device: &DeviceFd, group: u32, attr: u64, value: &T) -> Result<(), kvm_ioctls::Error> {
    let addr = std::ptr::from_ref(value).expose_provenance() as u64;
    device.set_device_attr(&kvm_device_attr { group, attr, addr, flags: 0 })
}

/// Has a device do something.
pub(super) fn control(device: &DeviceFd, what: u32) -> Result<(), kvm_ioctls::Error> {
    let (group, attr) = (KVM_DEV_ARM_VGIC_GRP_CTRL, u64::from(what));
    device.set_device_attr(&kvm_device_attr { group, attr, addr: 0, flags: 0 })
}
