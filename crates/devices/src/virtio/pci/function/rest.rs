//! A function at rest: stopped for a while, saved, gone on with, here or in another process.
//!
//! Whoever asks has stopped all vCPUs: nobody programs the function meanwhile. A device keeps nothing from one request to
//! the next that its rings and registers do not say. So it is stopped as for a reset, and started as if its driver had
//! just said DRIVER_OK, but at the positions where it left its rings.

use serde::{Deserialize, Serialize};

use super::{Common, Function};
use crate::lock;
use crate::saved::Unfit;
use crate::virtio::device::Left;
use crate::virtio::pci::notifier;
use crate::virtio::queue::Broken;

/// What there is to save of a function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedFunction {
    config: Vec<u8>,
    common: Common,
    notifier: notifier::Saved,
    left: Left,
    device_config: Vec<u8>,
}

impl Function {
    /// Tells the device to stop for a while. Does not wait for that: see [`Self::is_still`].
    pub fn pause(&self) {
        lock(&self.state).worker.stop();
    }

    /// Whether the device has stopped. Only then may it be saved, or go on.
    pub fn is_still(&self) -> bool {
        let mut state = lock(&self.state);
        self.finish_reset(&mut state);
        let is_still = state.worker.is_idle();
        if let Some(left) = state.worker.left().filter(|_| is_still) {
            state.left = left;
        }
        is_still
    }

    /// The device goes on where it left its rings.
    pub fn resume(&self) {
        let state = lock(&self.state);
        if state.common.is_running() && !self.notifier.is_broken() && !state.retired {
            match self.activate(&state.common, &state.left) {
                Ok(active) => state.worker.start(active),
                Err(Broken(_)) => self.notifier.needs_reset(),
            }
        }
    }

    /// What there is to save of a device that is still.
    pub fn save(&self) -> SavedFunction {
        let state = lock(&self.state);
        SavedFunction {
            config: state.config.bytes().to_vec(),
            common: state.common.clone(),
            notifier: self.notifier.save(),
            left: state.left.clone(),
            device_config: state.device_config.clone(),
        }
    }

    /// As it was when it was saved, and still: [`Self::resume`] comes next. A driver hears of it where the device says
    /// something else of itself than it did then: a disk may have grown meanwhile.
    pub fn restore(&self, saved: &SavedFunction) -> Result<(), Unfit> {
        let mut state = lock(&self.state);
        if saved.device_config.len() != state.device_config.len() {
            return Err(Unfit("the device is of another kind"));
        }
        state.common.restore(&saved.common)?;
        self.notifier.restore(&saved.notifier)?;
        // Only what the guest could have written itself.
        state.config.write(0, &saved.config);
        state.left.clone_from(&saved.left);
        self.settle(&state);
        if saved.device_config != state.device_config {
            self.notifier.config_changed();
        }
        Ok(())
    }
}
