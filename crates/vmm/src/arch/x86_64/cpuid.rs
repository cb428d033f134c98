//! What the guest's CPUID says: what KVM supports here, with the few leaves in which a vCPU describes itself.
//!
//! Each vCPU is a core of one socket, without hyper-threads. KVM's answer comes from the host's
//! processors, so the leaves about topology describe the host until they are rewritten. Sources: Intel
//! SDM volume 2, CPUID; AMD APM volume 3, appendix E.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

/// Leaf 1, ECX.
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: the field with the number of logical processors holds.
const HTT: u32 = 1 << 28;

/// What all vCPUs have in common.
pub(crate) struct Template {
    entries: CpuId,
    count: u8,
}

impl Template {
    /// Asks KVM, and corrects what it leaves to us.
    pub(crate) fn new(kvm: &Kvm, count: u8) -> Result<Self, kvm_ioctls::Error> {
        let mut entries = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        for entry in entries.as_mut_slice() {
            if entry.function == 1 {
                // KVM leaves both out of what it "supports": the first because a host's processor does
                // not have it, the second because it depends on the interrupt controller. Without them:
                // no kvm-clock, no timer.
                entry.ecx |= HYPERVISOR | if deadline { TSC_DEADLINE } else { 0 };
            }
        }
        let mut template = Self { entries, count };
        template.describe_cores();
        Ok(template)
    }

    /// The CPUID of the vCPU with this index.
    pub(crate) fn of(&self, index: u8) -> CpuId {
        let mut entries = self.entries.clone();
        for entry in entries.as_mut_slice() {
            identify(entry, index, self.count);
        }
        entries
    }

    /// Bits of a physical address.
    pub(crate) fn physical_bits(&self) -> u32 {
        let leaf = self.entries.as_slice().iter().find(|entry| entry.function == 0x8000_0008);
        leaf.map_or(36, |entry| entry.eax & 0xff)
    }

    /// Sees to it that leaf 0xb has its two levels and an end. Where KVM offers no such leaf, none is
    /// invented.
    fn describe_cores(&mut self) {
        let mut entries: Vec<_> = self.entries.as_slice().to_vec();
        let had = entries.iter().any(|entry| entry.function == 0xb);
        // Leaf 0x1f would say the same in more words.
        entries.retain(|entry| !matches!(entry.function, 0xb | 0x1f));
        for index in (0..3).filter(|_| had) {
            let flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
            entries.push(kvm_cpuid_entry2 { function: 0xb, index, flags, ..Default::default() });
        }
        if let Ok(rewritten) = CpuId::from_entries(&entries) {
            self.entries = rewritten;
        }
    }
}

/// Writes into one leaf what it says of the vCPU itself.
fn identify(entry: &mut kvm_cpuid_entry2, index: u8, count: u8) {
    let (id, cores) = (u32::from(index), u32::from(count));
    // Bits that number the cores.
    let core_bits = u32::BITS - (cores - 1).leading_zeros();
    match (entry.function, entry.index) {
        (1, _) => {
            // Initial APIC id, number of logical processors; the flush size below is the host's.
            entry.ebx = entry.ebx & 0xffff | id << 24 | cores << 16;
            entry.edx = if count > 1 { entry.edx | HTT } else { entry.edx & !HTT };
        }
        // Intel's caches: bits 25:14 threads that share it, less one; 31:26 cores in the package, less one.
        (4, _) if entry.eax & 0x1f != 0 => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { cores - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | sharing << 14 | (cores - 1).min(63) << 26;
        }
        // Level 0: one thread a core. Level 1: the cores of the package. Level 2: none.
        (0xb, 0) => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 1, 1 << 8, id),
        (0xb, 1) => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (core_bits, cores, 2 << 8 | 1, id),
        (0xb, level) => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, level, id),
        // AMD: number of threads less one, and the bits that number them.
        (0x8000_0008, _) => entry.ecx = core_bits << 12 | (cores - 1),
        // AMD's caches, as Intel's leaf 4.
        (0x8000_001d, _) if entry.eax & 0x1f != 0 => {
            let sharing = if entry.eax >> 5 & 7 >= 3 { cores - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | sharing << 14;
        }
        // AMD: extended APIC id; core id, one thread a core; node 0 of one.
        (0x8000_001e, _) => (entry.eax, entry.ebx, entry.ecx) = (id, id & 0xff, 0),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vcpu_says_who_it_is() {
        let leaf = |function, index, number, count| {
            let mut entry = kvm_cpuid_entry2 { function, index, eax: 0x63, ebx: 0x800, ..Default::default() };
            identify(&mut entry, number, count);
            entry
        };
        assert_eq!(leaf(1, 0, 3, 4).ebx, 0x0304_0800);
        assert_eq!(leaf(1, 0, 0, 1).edx & HTT, 0);
        assert_eq!(leaf(1, 0, 0, 2).edx & HTT, HTT);
        let packages = [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (254, 8)];
        for (count, bits) in packages {
            let level = leaf(0xb, 1, count - 1, count);
            assert_eq!((level.eax, level.ebx, level.edx), (bits, u32::from(count), u32::from(count) - 1));
        }
        // A third-level cache is everybody's, a first-level cache its core's own.
        assert_eq!(leaf(4, 0, 0, 4).eax >> 14 & 0xfff, 3);
        assert_eq!(leaf(0x8000_0008, 0, 0, 4).ecx, 0x2003);
    }
}
