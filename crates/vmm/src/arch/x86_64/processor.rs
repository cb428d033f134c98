//! A vCPU as the kernel's entry point wants to find it.
//!
//! Two ways in. PVH (Xen's `docs/misc/pvh.pandoc`): 32-bit protected mode, no paging, flat segments, EBX
//! points at the start information. Linux' 64-bit entry (`Documentation/arch/x86/boot.rst`): long mode,
//! the first 4 GiB mapped to themselves, RSI points at the boot parameters. All vCPUs but the first wait
//! for the guest to start them, and come up in real mode by themselves.

use devices::memory::Memory;
use kvm_bindings::{Msrs, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};

use super::Entry;
use super::cpuid::Template;
use super::memory_map::{GDT, PAGE_TABLES, PVH_START, STACK, ZERO_PAGE};

/// Selectors in the table that [`write_gdt`] writes.
const CODE: u16 = 1;
const DATA: u16 = 2;
const TASK: u16 = 3;

/// CR0: protected mode, x87 as on every processor since the 486, paging.
const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
/// CR4: pages larger than 4 KiB and 64-bit entries.
const CR4_PAE: u64 = 1 << 5;
/// EFER: long mode, allowed and active.
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// RFLAGS: the bit that is always set.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// MSRs: fast string operations as firmware enables them, and memory that is write-back where nothing
/// else is said.
const MSR_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1 << 0;
const MSR_MTRR_DEFAULT: u32 = 0x2ff;
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

/// Local APIC registers: the two pins, and how they deliver.
const APIC_LVT0: usize = 0x350;
const APIC_LVT1: usize = 0x360;
const DELIVER_EXTERNAL: u32 = 0x700;
const DELIVER_NMI: u32 = 0x400;

/// Page table entries: present, writable; and a page of 2 MiB.
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE: u64 = 1 << 7;

/// What a machine's vCPUs look like.
pub(crate) struct Processors(Template);

impl Processors {
    /// So many vCPUs, with what this host's KVM offers.
    pub(crate) fn new(kvm: &Kvm, count: u8) -> Result<Self, kvm_ioctls::Error> {
        Template::new(kvm, count).map(Self)
    }

    /// The end of what a guest can address.
    pub(crate) fn address_end(&self) -> u64 {
        1_u64.checked_shl(self.0.physical_bits()).unwrap_or(u64::MAX)
    }

    /// Makes one, as it is after power-on.
    pub(crate) fn create(&self, vm: &VmFd, index: u8) -> Result<VcpuFd, kvm_ioctls::Error> {
        let vcpu = vm.create_vcpu(u64::from(index))?;
        vcpu.set_cpuid2(&self.0.of(index))?;
        set_msrs(&vcpu)?;
        set_pins(&vcpu)?;
        Ok(vcpu)
    }
}

/// Has the first vCPU begin at a kernel's entry.
pub(crate) fn begin(vcpu: &VcpuFd, entry: &Entry) -> Result<(), kvm_ioctls::Error> {
    set_segments(vcpu, entry)?;
    vcpu.set_regs(&registers(entry))
}

/// The address of the instruction that a vCPU is at.
pub(crate) fn instruction_address(vcpu: &VcpuFd) -> Result<u64, kvm_ioctls::Error> {
    vcpu.get_regs().map(|registers| registers.rip)
}

fn set_msrs(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let set = [(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING), (MSR_MTRR_DEFAULT, MTRR_ENABLED_WRITE_BACK)];
    for (index, data) in set {
        if let Ok(msrs) = Msrs::from_entries(&[kvm_msr_entry { index, data, ..Default::default() }]) {
            // A processor without one of them (MISC_ENABLE is Intel's) is none the worse.
            vcpu.set_msrs(&msrs)?;
        }
    }
    Ok(())
}

/// Pin 0 takes interrupts of a PC's old controller, pin 1 the NMI, as firmware leaves them.
fn set_pins(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut apic = vcpu.get_lapic()?;
    for (register, mode) in [(APIC_LVT0, DELIVER_EXTERNAL), (APIC_LVT1, DELIVER_NMI)] {
        set_delivery(&mut apic, register, mode);
    }
    vcpu.set_lapic(&apic)
}

fn set_delivery(apic: &mut kvm_lapic_state, register: usize, mode: u32) {
    const DELIVERY: u32 = 0x700;
    let bytes = &mut apic.regs[register..register + 4];
    let mut value = [0; 4];
    for (to, from) in value.iter_mut().zip(&*bytes) {
        *to = from.cast_unsigned();
    }
    let value = (u32::from_le_bytes(value) & !DELIVERY | mode).to_le_bytes();
    for (to, from) in bytes.iter_mut().zip(value) {
        *to = from.cast_signed();
    }
}

fn registers(entry: &Entry) -> kvm_regs {
    let common = kvm_regs { rflags: RFLAGS_RESERVED, rsp: STACK.0, rbp: STACK.0, ..Default::default() };
    match *entry {
        Entry::Pvh(at) => kvm_regs { rip: at, rbx: PVH_START.0, ..common },
        Entry::Linux64(at, _) => kvm_regs { rip: at, rsi: ZERO_PAGE.0, ..common },
    }
}

fn set_segments(vcpu: &VcpuFd, entry: &Entry) -> Result<(), kvm_ioctls::Error> {
    let mut sregs: kvm_sregs = vcpu.get_sregs()?;
    let long = matches!(entry, Entry::Linux64(..));
    let data = segment(DATA, 0x3, false);
    sregs.cs = kvm_segment { l: u8::from(long), db: u8::from(!long), ..segment(CODE, 0xb, false) };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment { limit: 0x67, g: 0, db: 0, ..segment(TASK, 0xb, true) };
    sregs.gdt.base = GDT.0;
    sregs.gdt.limit = 4 * 8 - 1;
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
    sregs.cr0 = CR0_PE | CR0_ET;
    if long {
        sregs.cr0 |= CR0_PG;
        sregs.cr4 |= CR4_PAE;
        sregs.cr3 = PAGE_TABLES.0;
        sregs.efer |= EFER_LME | EFER_LMA;
    }
    vcpu.set_sregs(&sregs)
}

/// A flat segment of 4 GiB.
fn segment(selector: u16, kind: u8, system: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: selector * 8,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 1,
        s: u8::from(!system),
        l: 0,
        g: 1,
        ..Default::default()
    }
}

/// Writes what the first vCPU's registers point at: segment descriptors and, for the 64-bit entry, page
/// tables.
pub(super) fn write_structures(memory: &Memory, entry: &Entry) -> Result<(), vm_memory::GuestMemoryError> {
    let long = matches!(entry, Entry::Linux64(..));
    write_gdt(memory, long)?;
    if long { write_page_tables(memory) } else { Ok(()) }
}

/// Null, code, data, task: the same as in the registers (Intel SDM volume 3, 3.4.5).
fn write_gdt(memory: &Memory, long: bool) -> Result<(), vm_memory::GuestMemoryError> {
    let code: u64 = if long { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff };
    let table = [0, code, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067];
    for (at, descriptor) in (GDT.0..).step_by(8).zip(table) {
        memory.write_obj(descriptor.to_le(), GuestAddress(at))?;
    }
    Ok(())
}

/// Maps 4 GiB to themselves: one page of the first level, one of the second, four of 512 large pages each.
fn write_page_tables(memory: &Memory) -> Result<(), vm_memory::GuestMemoryError> {
    const PAGE: u64 = 0x1000;
    let write = |page: u64, index: u64, entry: u64| {
        memory.write_obj(entry.to_le(), GuestAddress(PAGE_TABLES.0 + page * PAGE + index * 8))
    };
    let table = |page: u64| (PAGE_TABLES.0 + page * PAGE) | PRESENT_WRITABLE;
    write(0, 0, table(1))?;
    for gib in 0..4 {
        write(1, gib, table(2 + gib))?;
        for index in 0..512 {
            write(2 + gib, index, (gib << 30 | index << 21) | PRESENT_WRITABLE | LARGE)?;
        }
    }
    Ok(())
}
