//! An ELF file that is entered by PVH: 32-bit code, flat, no paging. It runs wherever KVM runs anything,
//! emulated hosts that could not boot Linux included.

/// Where the guest's code is loaded and entered.
const LOAD: u32 = 0x10_0000;
/// PCI's configuration space, and the window for its memory.
const ECAM: u32 = 0xe000_0000;
const WINDOW: u32 = 0xc000_0000;

/// A kernel with this code.
pub(crate) fn kernel(code: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..20].copy_from_slice(&[2, 0, 62, 0]);
    file[24..28].copy_from_slice(&LOAD.to_le_bytes());
    file[32] = 64; // program headers follow
    file[52..58].copy_from_slice(&[64, 0, 56, 0, 2, 0]);
    let header = |kind: u32, offset: u64, address: u32, bytes: usize| {
        let bytes = bytes as u64;
        let words = [offset, u64::from(address), u64::from(address), bytes, bytes, 4096];
        [&kind.to_le_bytes()[..], &[7, 0, 0, 0], words.map(u64::to_le_bytes).as_flattened()].concat()
    };
    file.extend(header(4, 256, 0, 20));
    file.extend(header(1, 512, LOAD, code.len()));
    file.resize(256, 0);
    file.extend([4_u32, 4, 18].map(u32::to_le_bytes).as_flattened());
    file.extend(b"Xen\0");
    file.extend(LOAD.to_le_bytes());
    file.resize(512, 0);
    file.extend(code);
    file
}

#[derive(Default)]
pub(crate) struct Code(Vec<u8>);

impl Code {
    fn out(mut self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.0.extend([0xb0, value, 0x66, 0xba, low, high, 0xee]); // mov al, value; mov dx, port; out dx, al
        self
    }

    pub(crate) fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |code, byte| code.out(0x3f8, byte))
    }

    pub(crate) fn print_config_word(mut self, offset: u32) -> Self {
        self.0.push(0xa1); // mov eax, [address]
        self.0.extend((ECAM + offset).to_le_bytes());
        self.0.extend([0x66, 0xba, 0xf8, 0x03]); // mov dx, 0x3f8
        for _ in 0..4 {
            self.0.extend([0xee, 0xc1, 0xe8, 0x08]); // out dx, al; shr eax, 8
        }
        self
    }

    pub(crate) fn wait_for_input(mut self) -> Self {
        // Line status, data ready: mov dx, 0x3fd; l: in al, dx; test al, 1; jz l
        self.0.extend([0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb]);
        self
    }

    pub(crate) fn panic(self) -> Self {
        self.out(0x505, 1)
    }

    /// By ACPI's sleep register.
    pub(crate) fn power_off(self) -> Vec<u8> {
        self.out(0x600, 0x20 | 5 << 2).idle()
    }

    /// By the reset register.
    pub(crate) fn reset(self) -> Vec<u8> {
        self.out(0x602, 1).idle()
    }

    /// Goes on in a device: no instruction can be fetched from there.
    pub(crate) fn crash(mut self) -> Vec<u8> {
        self.0.push(0xb8); // mov eax, address
        self.0.extend(ECAM.to_le_bytes());
        self.0.extend([0xff, 0xe0]); // jmp eax
        self.0
    }

    pub(crate) fn idle(mut self) -> Vec<u8> {
        self.0.extend([0xf4, 0xeb, 0xfd]); // hlt; jmp back
        self.0
    }
}

pub(crate) fn poke(seed: u32, config: &[(u32, u32)], memory: &[(u32, u32)]) -> Vec<u8> {
    let mut code = vec![0xbe]; // mov esi, seed
    code.extend(seed.to_le_bytes());
    let begin = code.len();
    for (shift, count) in [(0xe0, 13), (0xe8, 17), (0xe0, 5)] {
        code.extend([0x89, 0xf0, 0xc1, shift, count, 0x31, 0xc6]); // mov eax, esi; sh? eax, count; xor esi, eax
    }
    let places = config.iter().map(|(mask, at)| (mask, ECAM + at));
    for (mask, base) in places.chain(memory.iter().map(|(mask, at)| (mask, WINDOW + at))) {
        code.extend([0x89, 0xf3, 0xc1, 0xeb, 7, 0x81, 0xe3]); // mov ebx, esi; shr ebx, 7; and ebx, mask
        code.extend(mask.to_le_bytes());
        code.extend([0x81, 0xc3]); // add ebx, base
        code.extend(base.to_le_bytes());
        code.extend([0x89, 0x33, 0x8b, 0x03, 0x88, 0x03]); // mov [ebx], esi; mov eax, [ebx]; mov [ebx], al
    }
    let back = i32::try_from(begin).unwrap() - i32::try_from(code.len() + 5).unwrap();
    code.push(0xe9); // jmp begin
    code.extend(back.to_le_bytes());
    code
}
