//! Ports with a guest that keeps to the protocol, with one that writes junk, and with none.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::bus::BusDevice;
use crate::interrupts::Message;
use crate::pci::ConfigSpace;
use crate::pci::{Identity, command};
use crate::testing::{Random, poke};

const SLOT: u8 = 9;
const BUS: u8 = 2;
const WINDOW: u32 = 0xc010_0000;
/// Where the port's two capabilities are.
const EXPRESS: usize = 0x40;
const LINK_STATUS: usize = EXPRESS + 0x12;
const SLOT_CONTROL: usize = EXPRESS + 0x18;
const SLOT_STATUS: usize = EXPRESS + 0x1a;
const MSI: usize = EXPRESS + 0x24;

/// Bits as a guest's driver names them.
const BUTTON: u16 = 1;
const PRESENCE: u16 = 1 << 3;
const PRESENT: u16 = 1 << 6;
const LINK: u16 = 1 << 8;
/// Button and link interrupt, as Linux asks for.
const LISTEN: u16 = 1 | 1 << 5 | 1 << 12;
const ON: u16 = 1 << 8;
const BLINK: u16 = 2 << 8;
const OFF: u16 = 3 << 8;

#[derive(Default)]
struct Sent(Mutex<Vec<Message>>);

impl Messages for Sent {
    fn send(&self, message: Message) {
        lock(&self.0).push(message);
    }
}

/// Memory of 64 bytes that reads as sevens.
struct Card {
    config: Mutex<ConfigSpace>,
    buses: Mutex<Vec<u8>>,
}

impl Card {
    fn new() -> Arc<Self> {
        let identity = Identity { vendor: 0x1234, device: 1, revision: 0, class: 0, subsystem: (0, 0) };
        let mut config = ConfigSpace::new(identity);
        config.set_memory(64, 0);
        Arc::new(Self { config: Mutex::new(config), buses: Mutex::default() })
    }
}

impl Function for Card {
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        lock(&self.config).read(offset, data);
    }
    fn write_config(&self, offset: usize, data: &[u8]) {
        lock(&self.config).write(offset, data);
    }
    fn claims(&self, address: u64) -> Option<u64> {
        address.checked_sub(lock(&self.config).memory_base()?).filter(|offset| *offset < 64)
    }
    fn read_memory(&self, offset: u64, data: &mut [u8]) {
        assert!(offset < 64);
        data.fill(7);
    }
    fn write_memory(&self, offset: u64, _data: &[u8]) {
        assert!(offset < 64);
    }
    fn set_bus(&self, bus: u8) {
        lock(&self.buses).push(bus);
    }
}

struct Bench {
    port: Port,
    sent: Arc<Sent>,
    turned: Arc<AtomicU32>,
}

impl Bench {
    fn new(card: Option<Arc<dyn Function>>) -> Self {
        let (sent, turned) = (Arc::new(Sent::default()), Arc::new(AtomicU32::new(0)));
        let count = turned.clone();
        let turn = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        Self { port: Port::new(SLOT, BUS, WINDOW, card, sent.clone(), turn), sent, turned }
    }

    fn get(&self, register: usize) -> u16 {
        let mut data = [0; 2];
        self.port.read_config(register, &mut data);
        u16::from_le_bytes(data)
    }

    fn put(&self, register: usize, value: u16) {
        self.port.write_config(register, &value.to_le_bytes());
    }

    /// A driver comes up: its message, and what it wants to hear of.
    fn listen(&self) {
        self.port.write_config(MSI + 4, &0xfee0_1000_u32.to_le_bytes());
        self.put(MSI + 12, 0x51);
        self.put(MSI + 2, 1);
        self.put(SLOT_STATUS, 0xffff);
        self.put(SLOT_CONTROL, self.get(SLOT_CONTROL) | LISTEN);
        self.put(4, command::MEMORY);
    }

    fn messages(&self) -> usize {
        lock(&self.sent.0).len()
    }

    fn events(&self) -> u16 {
        self.get(SLOT_STATUS) & (BUTTON | PRESENCE | LINK)
    }
}

#[test]
fn a_card_comes_and_goes_by_button_and_lamp() {
    let bench = Bench::new(None);
    let port = &bench.port;
    bench.listen();
    assert_eq!((port.lamp(), bench.get(LINK_STATUS), bench.messages()), (Lamp::Off, 0, 0));
    let card = Card::new();
    port.insert(card.clone()).unwrap();
    assert_eq!(port.insert(Card::new()), Err(Occupied));
    assert_eq!(*lock(&card.buses), [BUS]);
    assert_eq!(bench.get(SLOT_STATUS), PRESENT | PRESENCE | LINK);
    assert_eq!(bench.get(LINK_STATUS), 1 << 13 | 1 << 4 | 1);
    let message = Message { address: 0xfee0_1000, data: 0x51, requester: 0x48 };
    assert_eq!(*lock(&bench.sent.0), [message]);
    // The guest takes it in.
    bench.put(SLOT_STATUS, PRESENCE | LINK);
    bench.put(SLOT_CONTROL, LISTEN | BLINK);
    assert_eq!(port.lamp(), Lamp::Blinking);
    bench.put(SLOT_CONTROL, LISTEN | ON);
    assert_eq!((port.lamp(), bench.turned.swap(0, Ordering::Relaxed)), (Lamp::On, 2));
    // The button is pressed, once more before the guest has looked.
    port.press();
    port.press();
    assert_eq!((bench.messages(), bench.events(), port.is_button_unheard()), (2, BUTTON, true));
    bench.put(SLOT_STATUS, BUTTON);
    assert!(!port.is_button_unheard());
    bench.put(SLOT_CONTROL, LISTEN | BLINK);
    bench.put(SLOT_CONTROL, LISTEN | OFF);
    assert_eq!((port.lamp(), bench.turned.swap(0, Ordering::Relaxed)), (Lamp::Off, 3));
    assert!(port.pull().is_some() && port.pull().is_none());
    assert_eq!((bench.messages(), bench.get(SLOT_STATUS)), (3, PRESENCE | LINK));
    assert_eq!(bench.get(LINK_STATUS), 0);
}

#[test]
fn what_is_there_from_the_beginning_is_no_news() {
    let card = Card::new();
    let bench = Bench::new(Some(card.clone()));
    assert_eq!((bench.port.lamp(), bench.get(SLOT_STATUS)), (Lamp::On, PRESENT));
    bench.listen();
    assert_eq!((bench.messages(), bench.events()), (0, 0));
    assert_eq!(*lock(&card.buses), [BUS]);
    // Slot number 9, link and port number 9.
    let mut capabilities = [0; 4];
    bench.port.read_config(EXPRESS + 0x14, &mut capabilities);
    assert_eq!(u32::from_le_bytes(capabilities) >> 19, 9);
}

#[test]
fn messages_are_sent_when_there_is_something_new_and_never_twice_for_it() {
    let bench = Bench::new(None);
    bench.port.press(); // nobody listens
    assert_eq!(bench.messages(), 0);
    bench.put(MSI + 2, 1);
    bench.put(SLOT_CONTROL, LISTEN); // it does now
    assert_eq!(bench.messages(), 1);
    bench.port.insert(Card::new()).unwrap(); // not told yet that the events are cleared
    assert_eq!(bench.messages(), 1);
    bench.put(SLOT_STATUS, BUTTON); // a clear that leaves something is no reason for a message
    assert_eq!((bench.messages(), bench.events()), (1, PRESENCE | LINK));
    bench.put(SLOT_STATUS, PRESENCE | LINK);
    bench.port.pull().unwrap();
    assert_eq!(bench.messages(), 2);
    // Presence alone is enough for who asked for it.
    bench.put(SLOT_STATUS, 0xffff);
    bench.put(SLOT_CONTROL, 1 << 3 | 1 << 5);
    bench.port.insert(Card::new()).unwrap();
    assert_eq!(bench.messages(), 3);
}

#[test]
fn the_window_and_the_bus_decide_what_reaches_the_card() {
    let card = Card::new();
    let bench = Bench::new(Some(card.clone()));
    let port = &bench.port;
    let base = u64::from(WINDOW) + 0x8000;
    card.write_config(0x10, &(WINDOW + 0x8000).to_le_bytes());
    card.write_config(4, &command::MEMORY.to_le_bytes());
    let read = |address: u64| {
        let mut data = [0xee; 2];
        let offset = port.claims(address)?;
        port.read_memory(offset, &mut data);
        Some(data)
    };
    assert_eq!(read(base), None); // the bridge decodes nothing yet
    bench.put(4, command::MEMORY);
    assert_eq!(read(base + 63), Some([7; 2]));
    // Beside the card, and where it was: zeros.
    assert_eq!(read(base + 64), Some([0; 2]));
    assert_eq!(read(u64::from(WINDOW) - 1), None);
    bench.put(0x20, 0xc020);
    assert_eq!(read(base), None);
    bench.put(0x20, 0xc010);

    assert!(port.behind(BUS).is_some() && port.behind(0).is_none() && port.behind(BUS + 1).is_none());
    bench.port.write_config(0x19, &[77]);
    assert!(port.behind(BUS).is_none() && port.behind(77).is_some());
    assert_eq!(*lock(&card.buses), [BUS, 77]);
    port.pull().unwrap();
    assert_eq!(read(base), Some([0; 2]));
    assert!(port.behind(77).is_none());
}

/// The port's configuration space, then its window.
struct Everything<'p>(&'p Port);

impl BusDevice for Everything<'_> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match offset.checked_sub(0x1000) {
            None => self.0.read_config(usize::try_from(offset).unwrap(), data),
            Some(at) => {
                if let Some(at) = self.0.claims(u64::from(WINDOW) + at) {
                    self.0.read_memory(at, data);
                }
            }
        }
    }
    fn write(&self, offset: u64, data: &[u8]) {
        match offset.checked_sub(0x1000) {
            None => self.0.write_config(usize::try_from(offset).unwrap(), data),
            Some(at) => {
                if let Some(at) = self.0.claims(u64::from(WINDOW) + at) {
                    self.0.write_memory(at, data);
                }
            }
        }
    }
}

#[test]
fn whatever_a_guest_writes_the_card_stays_the_operators() {
    for seed in 0..200 {
        let bench = Bench::new(None);
        let (port, mut random) = (&bench.port, Random::new(seed));
        let mut present = false;
        for _ in 0..200 {
            let before = (bench.messages(), bench.events());
            match random.below(8) {
                0 => {
                    assert_eq!(port.insert(Card::new()).is_ok(), !present);
                    present = true;
                }
                1 => {
                    assert_eq!(port.pull().is_some(), present);
                    present = false;
                }
                2 => port.press(),
                _ => {
                    // Mostly at the registers that do something.
                    let offset = [random.below(0x70), 0x58 + random.below(4)][usize::from(random.small(2))];
                    let width = 1 + usize::from(random.small(8));
                    let data = random.bytes::<8>();
                    port.write_config(usize::try_from(offset).unwrap(), &data[..width]);
                    // A guest clears events and makes none.
                    assert_eq!(bench.events() & !before.1, 0);
                }
            }
            assert_eq!(bench.get(SLOT_STATUS) & PRESENT != 0, present);
            assert_eq!(bench.get(LINK_STATUS) != 0, present);
            assert_eq!(bench.get(SLOT_STATUS) & !(BUTTON | PRESENCE | LINK | PRESENT), 0);
            assert!(bench.messages() <= before.0 + 1);
        }
        poke(&Everything(port), 0x1000 + u64::from(Port::WINDOW_BYTES), 500);
    }
}
