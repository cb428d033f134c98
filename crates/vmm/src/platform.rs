//! The devices at fixed addresses: serial port, panic device, power registers.
//!
//! Which serial port, and where all of them are, is the architecture's affair.

use std::sync::Arc;

use devices::bus::BadRange;
use devices::interrupts::Line;
use devices::power::{self, PowerRegisters, Wish};
use devices::pvpanic::PanicDevice;
use devices::saved::Unfit;
use serde::{Deserialize, Serialize};

use crate::arch;
use crate::arch::memory_map::{PANIC, POWER, POWER_GSI, SERIAL, SERIAL_GSI};
use crate::console::Output;
use crate::events::{Event, Events, Guest};
use crate::interrupts::line;
use crate::vcpu::Buses;

/// The handles that the monitor keeps on them.
pub(crate) struct Platform {
    /// The serial console.
    pub(crate) serial: Arc<arch::Serial<Output>>,
    /// The power button.
    pub(crate) power: Arc<PowerRegisters<Wished>>,
}

/// Called when the guest wishes to be off or to begin anew.
type Wished = Box<dyn Fn(Wish) + Send + Sync>;

/// Why the platform could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlatformError {
    #[error("Cannot connect an interrupt line")]
    Line(#[source] std::io::Error),
    #[error("Two devices share an address")]
    Overlap(#[from] BadRange),
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// What there is to save of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedPlatform {
    serial: arch::SavedSerial,
    power_events: u8,
}

impl Platform {
    /// Makes the devices, as they were when they were saved where they go on, and puts them on the bus.
    pub(crate) fn new(
        vm: &kvm_ioctls::VmFd,
        buses: &mut Buses,
        output: Output,
        events: &Arc<Events>,
        saved: Option<&SavedPlatform>,
    ) -> Result<Self, PlatformError> {
        let bus = arch::platform_bus(buses);
        let connect = |gsi| line(vm, gsi).map_err(PlatformError::Line);
        let tell = |event: fn() -> Event| {
            let events = events.clone();
            move || events.push(event())
        };
        let drained = Box::new(tell(|| Event::ConsoleDrained));
        let serial_line = Line(connect(SERIAL_GSI)?);
        let serial = Arc::new(match saved {
            None => arch::Serial::new(serial_line, output, drained),
            Some(saved) => arch::Serial::restored(serial_line, output, drained, &saved.serial)?,
        });
        bus.insert(u64::from(SERIAL), arch::SERIAL_BYTES, serial.clone())?;

        let (off, reset) = (tell(|| Event::Guest(Guest::Off)), tell(|| Event::Guest(Guest::Reset)));
        let wished: Wished = Box::new(move |wish| match wish {
            Wish::Off => off(),
            Wish::Reset => reset(),
        });
        let power = Arc::new(PowerRegisters::new(Line(connect(POWER_GSI)?), wished));
        if let Some(saved) = saved {
            power.set_events(saved.power_events);
        }
        bus.insert(u64::from(POWER), power::LEN, power.clone())?;

        let panic = PanicDevice(tell(|| Event::Guest(Guest::Panicked)));
        bus.insert(u64::from(PANIC), 1, Arc::new(panic))?;
        Ok(Self { serial, power })
    }

    /// What there is to save; the vCPUs are still.
    pub(crate) fn save(&self) -> SavedPlatform {
        SavedPlatform { serial: self.serial.save(), power_events: self.power.events() }
    }
}
