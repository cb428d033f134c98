//! Packets that the host's kernel carries itself between the driver's rings and the link (Linux: vhost-net), as long as that
//! is possible and nobody counts them.
//!
//! The rings are the host's meanwhile: what was taken off them before is put back, and afterwards they are gone on with
//! where the host left them. So a device that rests, or whose limits change, does not notice. Interrupts come by way of
//! the device's thread, which knows whether they are masked.

use super::Way;
use super::session::{Pair, Session};
use crate::limits::Limits;
use crate::virtio::queue::{Broken, Ring};

impl Session<'_> {
    /// Whether the host carries packets now.
    pub(super) fn is_carried(&self) -> bool {
        self.carried > 0
    }

    /// Whether it should: nothing is to be counted, and the driver uses all pairs, each both ways.
    pub(super) fn should_be_carried(&self) -> bool {
        let complete = |pair: &Pair<'_>| pair.receive.is_some() && pair.transmit.is_some();
        self.can_carry
            && self.in_use == self.net.pairs
            && self.pairs.iter().all(complete)
            && self.net.traffic.limits() == Limits::default()
    }

    /// Has the host carry all packets, if it should. One that cannot is not asked again by this driver.
    pub(super) fn begin_to_carry(&mut self) -> Result<(), Broken> {
        if !self.should_be_carried() {
            return Ok(());
        }
        for (index, pair) in self.pairs.iter_mut().enumerate() {
            pair.leave();
            let (Some(receive), Some(transmit)) = (&mut pair.receive, &mut pair.transmit) else { continue };
            receive.publish(self.memory)?;
            transmit.publish(self.memory)?;
            if self.net.link.carry(index, self.memory, self.features, [receive, transmit]).is_err() {
                self.can_carry = false;
                return self.carry_no_more();
            }
            self.carried += 1;
        }
        Ok(())
    }

    /// Has the host carry nothing any more, and goes on where it was.
    pub(super) fn carry_no_more(&mut self) -> Result<(), Broken> {
        let carried = std::mem::take(&mut self.carried);
        let ends: Vec<_> = (0..carried).map(|index| self.net.link.carry_no_more(index)).collect();
        for (pair, next) in self.pairs.iter_mut().zip(ends) {
            let next = next.map_err(|_| Broken("the host does not say how far it carried packets"))?;
            for (ring, next) in [&mut pair.receive, &mut pair.transmit].into_iter().flatten().zip(next) {
                ring.go_on(self.memory, next)?;
                // What the host did last may not have been passed on.
                ring.tell();
            }
        }
        Ok(())
    }

    /// Passes an interrupt on.
    pub(super) fn tell(&self, pair: usize, way: Way) {
        let rings = self.pairs.get(pair).map(|pair| match way {
            Way::In => &pair.receive,
            Way::Out => &pair.transmit,
        });
        if let Some(Some(ring)) = rings {
            Ring::tell(ring);
        }
    }
}
