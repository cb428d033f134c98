//! EFI's runtime services, of which there is one: the time of day.
//!
//! A guest with ACPI knows no other clock, and would live in 1970 until somebody told it better. The service
//! is a few instructions in the guest's memory, called by its kernel, that read [`devices::clock`]. The table
//! of services and the code share a page that nobody writes (UEFI 2.10, 4.5 and 8.3; calls by the procedure
//! call standard, 2.3.6).

use super::memory_map::{CLOCK, EFI_RUNTIME};

/// Which services a kernel should call: `GetTime`, and `SetTime`, without which Linux looks at neither.
pub(crate) const SUPPORTED: u32 = 1 << 0 | 1 << 1;

const SIGNATURE: u64 = u64::from_le_bytes(*b"RUNTSERV");
const TABLE_BYTES: u32 = 24 + SERVICES as u32 * 8;
/// Functions that the table has, in its order the time's first.
const SERVICES: usize = 14;
/// Offsets of the two functions that there are.
const GET_TIME: u64 = 0x100;
const UNSUPPORTED: u64 = 0x140;

/// `GetTime(time, capabilities)`: x0 and x1 in, the status in x0.
const GET_TIME_CODE: [u32; 11] = [
    0xd2a0_0002 | (CLOCK >> 16) << 5, // mov  x2, CLOCK
    0xf940_0043,                      // ldr  x3, [x2]          one access: a date that was never torn
    0xf900_0003,                      // str  x3, [x0]
    0xf900_041f,                      // str  xzr, [x0, 8]      no fraction, UTC
    0xb400_00a1,                      // cbz  x1, end
    0x5280_0023,                      // mov  w3, 1
    0xb900_0023,                      // str  w3, [x1]          1 Hz
    0xb900_043f,                      // str  wzr, [x1, 4]      no error that we know of
    0x3900_203f,                      // strb wzr, [x1, 8]
    0xaa1f_03e0,                      // end: mov x0, xzr       EFI_SUCCESS
    0xd65f_03c0,                      // ret
];
/// All others.
const UNSUPPORTED_CODE: [u32; 3] = [
    0xd280_0060, // mov  x0, 3
    0xf2f0_0000, // movk x0, 0x8000, lsl 48                     EFI_UNSUPPORTED
    0xd65f_03c0, // ret
];
const _: () = assert!(CLOCK & 0xffff == 0, "one instruction holds 16 bits of an address");

/// Table and code, to lie at [`EFI_RUNTIME`], the table first.
pub(crate) fn services() -> Vec<u8> {
    let mut functions = [EFI_RUNTIME.0 + UNSUPPORTED; SERVICES];
    functions[0] = EFI_RUNTIME.0 + GET_TIME;
    let mut page = super::efi::header(SIGNATURE, TABLE_BYTES);
    page.extend(functions.map(u64::to_le_bytes).as_flattened());
    super::efi::seal(&mut page);
    for (at, code) in [(GET_TIME, &GET_TIME_CODE[..]), (UNSUPPORTED, &UNSUPPORTED_CODE)] {
        page.resize(usize::try_from(at).unwrap_or_default(), 0);
        page.extend(code.iter().flat_map(|instruction| instruction.to_le_bytes()));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_code_that_ends() {
        let page = services();
        let function = |index: usize| {
            let at = 24 + index * 8;
            let at = u64::from_le_bytes(page[at..at + 8].try_into().unwrap()) - EFI_RUNTIME.0;
            &page[usize::try_from(at).unwrap()..]
        };
        for index in 0..SERVICES {
            let code = if index == 0 { &GET_TIME_CODE[..] } else { &UNSUPPORTED_CODE };
            let bytes: Vec<_> = code.iter().flat_map(|instruction| instruction.to_le_bytes()).collect();
            assert!(function(index).starts_with(&bytes));
            assert_eq!(code.last(), Some(&0xd65f_03c0));
        }
    }
}
