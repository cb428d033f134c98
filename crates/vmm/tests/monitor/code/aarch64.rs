//! An Image: a header of 64 bytes, of which the first instruction jumps over the rest.

/// The serial port, and its flags.
const SERIAL: u32 = 0x0100_0000;
const SERIAL_FLAGS: u32 = 0x18;
/// The panic device.
const PANIC: u32 = 0x0100_2000;
/// PCI's configuration space, and the window for its memory.
const ECAM: u32 = 0x3000_0000;
const WINDOW: u32 = 0x1000_0000;
/// PSCI's functions.
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;

/// A kernel with this code.
pub(crate) fn kernel(code: &[u8]) -> Vec<u8> {
    let mut file = 0x1400_0010_u32.to_le_bytes().to_vec(); // b 64
    file.resize(56, 0);
    file[16..24].copy_from_slice(&4096_u64.to_le_bytes());
    file.extend(b"ARM\x64");
    file.resize(64, 0);
    file.extend(code);
    file
}

#[derive(Default)]
pub(crate) struct Code(Vec<u32>);

impl Code {
    /// Puts a number into a register of 32 bits.
    fn set(mut self, register: u32, value: u32) -> Self {
        self.0.push(0x5280_0000 | (value & 0xffff) << 5 | register); // movz
        self.0.push(0x72a0_0000 | (value >> 16) << 5 | register); // movk …, lsl 16
        self
    }

    fn instructions(mut self, instructions: &[u32]) -> Self {
        self.0.extend(instructions);
        self
    }

    pub(crate) fn print(self, text: &str) -> Self {
        // str w0, [x1]
        text.bytes()
            .fold(self.set(1, SERIAL), |code, byte| code.set(0, byte.into()).instructions(&[0xb900_0020]))
    }

    pub(crate) fn print_config_word(self, offset: u32) -> Self {
        let code = self.set(1, SERIAL).set(2, ECAM + offset).instructions(&[0xb940_0040]); // ldr w0, [x2]
        (0..4).fold(code, |code, _| code.instructions(&[0xb900_0020, 0x5308_7c00])) // str w0, [x1]; lsr w0, w0, 8
    }

    pub(crate) fn wait_for_input(self) -> Self {
        // Receiver empty: l: ldr w0, [x1]; tbnz w0, 4, l
        self.set(1, SERIAL + SERIAL_FLAGS).instructions(&[0xb940_0020, 0x3727_ffe0])
    }

    pub(crate) fn panic(self) -> Self {
        self.set(1, PANIC).set(0, 1).instructions(&[0x3900_0020]) // strb w0, [x1]
    }

    fn call(self, function: u32) -> Vec<u8> {
        self.set(0, function).instructions(&[0xd400_0002]).idle() // hvc 0
    }

    /// By PSCI.
    pub(crate) fn power_off(self) -> Vec<u8> {
        self.call(SYSTEM_OFF)
    }

    /// By PSCI.
    pub(crate) fn reset(self) -> Vec<u8> {
        self.call(SYSTEM_RESET)
    }

    /// Reads a device by an instruction of which the processor does not say what it meant.
    pub(crate) fn crash(self) -> Vec<u8> {
        self.set(1, ECAM).instructions(&[0xa940_0c22]).idle() // ldp x2, x3, [x1]
    }

    pub(crate) fn idle(self) -> Vec<u8> {
        self.instructions(&[0xd503_207f, 0x17ff_ffff]).bytes() // wfi; b back
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

pub(crate) fn poke(seed: u32, config: &[(u32, u32)], memory: &[(u32, u32)]) -> Vec<u8> {
    let mut code = Code::default().set(0, seed);
    let begin = code.0.len();
    // eor w0, w0, w0, lsl 13; lsr 17; lsl 5
    code = code.instructions(&[0x4a00_3400, 0x4a40_4400, 0x4a00_1400]);
    let places = config.iter().map(|(mask, at)| (mask, ECAM + at));
    for (&mask, base) in places.chain(memory.iter().map(|(mask, at)| (mask, WINDOW + at))) {
        code = code
            .set(2, mask & !0b11) // without an MMU, only aligned accesses are ones
            .instructions(&[0x5307_7c01, 0x0a02_0021]) // lsr w1, w0, 7; and w1, w1, w2
            .set(2, base)
            .instructions(&[0x0b02_0021]) // add w1, w1, w2
            .instructions(&[0xb900_0020, 0xb940_0023, 0x3900_0023]); // str w0, [x1]; ldr w3, [x1]; strb w3, [x1]
    }
    let back = u32::try_from(code.0.len() - begin).unwrap();
    code = code.instructions(&[0x1800_0000 - back]); // b begin
    code.bytes()
}
