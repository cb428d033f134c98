//! A PC's devices at fixed addresses: serial port, panic device, power registers.

use std::sync::Arc;

use devices::bus::{BadRange, Bus};
use devices::interrupts::Line;
use devices::pci::{ConfigPorts, Ecam};
use devices::power::{self, PowerRegisters, Wish};
use devices::pvpanic::PanicDevice;
use devices::serial::{self, Serial};

use super::memory_map::{PANIC_PORT, POWER_GSI, POWER_PORT, SERIAL_GSI, SERIAL_PORT};
use crate::console::Output;
use crate::events::{Event, Events, Guest};
use crate::interrupts::line;

/// The handles that the monitor keeps on them.
pub(crate) struct Platform {
    /// The serial console.
    pub(crate) serial: Arc<Serial<Output>>,
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
}

impl Platform {
    /// Makes the devices and puts them on the bus of I/O ports.
    pub(crate) fn new(
        vm: &kvm_ioctls::VmFd,
        ports: &mut Bus,
        output: Output,
        events: &Arc<Events>,
    ) -> Result<Self, PlatformError> {
        let connect = |gsi| line(vm, gsi).map_err(PlatformError::Line);
        let tell = |event: fn() -> Event| {
            let events = events.clone();
            move || events.push(event())
        };
        let drained = Box::new(tell(|| Event::ConsoleDrained));
        let serial = Arc::new(Serial::new(Line(connect(SERIAL_GSI)?), output, drained));
        ports.insert(u64::from(SERIAL_PORT), serial::LEN, serial.clone())?;

        let (off, reset) = (tell(|| Event::Guest(Guest::Off)), tell(|| Event::Guest(Guest::Reset)));
        let wished: Wished = Box::new(move |wish| match wish {
            Wish::Off => off(),
            Wish::Reset => reset(),
        });
        let power = Arc::new(PowerRegisters::new(Line(connect(POWER_GSI)?), wished));
        ports.insert(u64::from(POWER_PORT), power::LEN, power.clone())?;

        let panic = PanicDevice(tell(|| Event::Guest(Guest::Panicked)));
        ports.insert(u64::from(PANIC_PORT), 1, Arc::new(panic))?;
        Ok(Self { serial, power })
    }
}

/// A PC's older way to PCI's configuration space.
pub(crate) fn add_config_ports(ports: &mut Bus, ecam: &Arc<Ecam>) -> Result<(), BadRange> {
    ports.insert(ConfigPorts::FIRST, ConfigPorts::LEN, Arc::new(ConfigPorts::new(ecam.clone())))
}
