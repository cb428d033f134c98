//! Does it fit? Memory is never shared among guests, processors up to what the settings say.

use crate::catalog::InstanceType;
use crate::refusal::{Reason, Refusal};
use crate::world::World;

/// How many more instances of a type fit beside those that are up or coming up.
pub fn room_for(world: &World, kind: &InstanceType) -> u64 {
    let taken = world.taken();
    let vcpus = u64::from(world.settings.vcpus).saturating_sub(taken.vcpus);
    let memory = world.settings.memory_mib.saturating_sub(taken.memory_mib);
    (vcpus / u64::from(kind.vcpus)).min(memory / u64::from(kind.memory_mib))
}

/// The refusal where not even `least` fit; otherwise how many of `most` do.
pub fn fit(world: &World, kind: &InstanceType, least: u32, most: u32) -> Result<u32, Refusal> {
    let room = u32::try_from(room_for(world, kind)).unwrap_or(u32::MAX);
    if room < least {
        return Err(Refusal::new(
            Reason::InsufficientCapacity,
            format!(
                "This host has room for {room} more instances of type {} ({} vCPUs, {} MiB each), and {least} were \
                 asked for. Terminate or stop others, choose a smaller type, or raise the limits in the configuration.",
                kind.name, kind.vcpus, kind.memory_mib
            ),
        ));
    }
    Ok(most.min(room))
}

/// The refusal where `gib` more GiB of volumes exceed what the settings allow.
pub fn fit_volumes(world: &World, gib: u64) -> Result<(), Refusal> {
    let used = world.taken().volume_gib;
    if used.saturating_add(gib) > world.settings.volume_gib {
        let limit = world.settings.volume_gib;
        return Err(Refusal::new(
            Reason::LimitExceeded(crate::refusal::Kind::Volume),
            format!(
                "All volumes together may have {limit} GiB, they have {used} GiB, and {gib} GiB more were asked for"
            ),
        ));
    }
    Ok(())
}
