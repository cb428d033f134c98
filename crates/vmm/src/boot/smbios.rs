//! The machine's name plate, as DMI shows it: vendor, uuid, serial and asset tag, by which a guest knows
//! that it is in EC2.
//!
//! cloud-init takes its EC2 data source by itself where the vendor is `Amazon EC2`, and the uuid begins
//! with `ec2` and equals the serial. The instance's id is the board's asset tag, as on Nitro. Tables:
//! DMTF DSP0134, *SMBIOS Reference Specification* 3.x.

use std::fmt;

use spec::ids::InstanceId;
use vm_memory::GuestAddress;

/// What a machine's maker is called.
const VENDOR: &str = "Amazon EC2";
/// What a machine without an instance type is called, one that was started by hand.
const NO_TYPE: &str = "cumulet";

/// Bytes of the 64-bit entry point; the structures come right after it, aligned.
const ENTRY_BYTES: usize = 24;
const STRUCTURES: usize = 32;

/// The uuid of an instance's machine: `ec2`, the 17 digits of its id, and 12 more that follow from those.
/// So it is the same in every life of the instance, and people can recognise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Uuid([u8; 16]);

impl Uuid {
    fn of(instance: InstanceId) -> Self {
        let digits = instance.digits();
        // FNV-1a: any function would do that spreads and never changes.
        let hash = digits.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let text = format!("ec2{digits:0>17}{:012x}", hash >> 16);
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit =
                |at: usize| pair.get(at).and_then(|d| char::from(*d).to_digit(16)).unwrap_or_default();
            *byte = u8::try_from(digit(0) << 4 | digit(1)).unwrap_or_default();
        }
        Self(bytes)
    }

    /// The bytes in the table's order: the first three fields are little-endian (7.2.1).
    fn stored(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Entry point and structures, to lie at `at`. As on Nitro, the product is called by its instance type.
pub(crate) fn tables(instance: InstanceId, instance_type: &str, at: GuestAddress) -> Vec<u8> {
    let uuid = Uuid::of(instance);
    let (serial, tag) = (uuid.to_string(), instance.to_string());
    // A string ends with a zero, and an empty one would end the structure (6.1.3).
    let product: String = instance_type.chars().filter(char::is_ascii_graphic).collect();
    let product = if product.is_empty() { NO_TYPE } else { &product };
    let mut out = Structures::default();

    // Type 0, firmware (7.1): vendor, version, no segment, date, size; "characteristics not supported",
    // then what is: byte 2 bit 4, "a virtual machine".
    let characteristics = 1_u64 << 3;
    let mut firmware = vec![1, 2, 0, 0, 3, 0];
    firmware.extend(characteristics.to_le_bytes());
    firmware.extend([0, 1 << 4, 1, 0, 0xff, 0xff]);
    out.add(0, &firmware, &[VENDOR, "1.0", "01/01/2026"]);

    // Type 1, system (7.2): maker, product, version, serial, uuid, wake-up by power switch, SKU, family.
    let mut system = vec![1, 2, 0, 3];
    system.extend(uuid.stored());
    system.extend([6, 0, 0]);
    out.add(1, &system, &[VENDOR, product, &serial]);

    // Type 2, board (7.3): maker, no product, version and serial; asset tag; hosting, no place; in the
    // chassis; a motherboard.
    out.add(2, &[1, 0, 0, 0, 2, 1, 0, 0, 3, 10, 0], &[VENDOR, &tag]);

    // Type 3, chassis (7.4): maker, "other", no version; serial; asset tag; states "safe"; no height,
    // cords, elements.
    out.add(3, &[1, 1, 0, 2, 3, 3, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[VENDOR, &serial, VENDOR]);

    // Type 32, boot status (7.33): no error.
    out.add(32, &[0, 0, 0, 0, 0, 0, 0], &[]);
    // Type 127, end (7.45).
    out.add(127, &[], &[]);

    let mut bytes = entry_point(at.0 + STRUCTURES as u64, out.bytes.len());
    bytes.resize(STRUCTURES, 0);
    bytes.extend(out.bytes);
    bytes
}

#[derive(Default)]
struct Structures {
    bytes: Vec<u8>,
    handle: u16,
}

impl Structures {
    /// A structure: type, its length, a handle, the fields, and the strings that the fields count from 1,
    /// each with a zero, and one more zero; two where there are none (6.1).
    fn add(&mut self, kind: u8, fields: &[u8], strings: &[&str]) {
        let len = u8::try_from(4 + fields.len()).unwrap_or(u8::MAX);
        self.bytes.extend([kind, len]);
        self.bytes.extend(self.handle.to_le_bytes());
        self.bytes.extend(fields);
        for string in strings {
            self.bytes.extend(string.as_bytes());
            self.bytes.push(0);
        }
        self.bytes.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
        self.handle += 1;
    }
}

/// The 64-bit entry point (5.2.2): anchor, checksum, length, version 3.2, revision, most bytes, address.
fn entry_point(structures: u64, bytes: usize) -> Vec<u8> {
    let mut entry = b"_SM3_\0\x18\x03\x02\x00\x01\x00".to_vec();
    entry.extend(u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes());
    entry.extend(structures.to_le_bytes());
    debug_assert_eq!(entry.len(), ENTRY_BYTES);
    let sum = entry.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    entry[5] = sum.wrapping_neg();
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> InstanceId {
        "i-0123456789abcdef0".parse().unwrap()
    }

    #[test]
    fn the_uuid_follows_from_the_instance() {
        let uuid = Uuid::of(instance());
        assert!(uuid.to_string().starts_with("ec201234-5678-9abc-def0-"), "{uuid}");
        assert_eq!(uuid, Uuid::of(instance()));
        assert_ne!(uuid, Uuid::of("i-0123456789abcdef1".parse().unwrap()));
        assert_eq!(uuid.to_string().len(), 36);
        // Debian's kernel shows the stored bytes swapped back.
        assert_eq!(uuid.stored()[..8], [0x34, 0x12, 0x20, 0xec, 0x78, 0x56, 0xbc, 0x9a]);
        assert!(Uuid::of("i-12345678".parse().unwrap()).to_string().starts_with("ec200000-0000-1234-5678-"));
    }

    /// Walks the structures as a guest's kernel does: type, fields, strings.
    fn walk(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let mut found = Vec::new();
        while let [kind, len, ..] = *bytes {
            let (fields, rest) = bytes.split_at(usize::from(len));
            let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let strings =
                rest[..end].split(|byte| *byte == 0).map(|s| String::from_utf8(s.to_vec()).unwrap());
            found.push((kind, fields.to_vec(), strings.filter(|s| !s.is_empty()).collect()));
            bytes = &rest[end + 2..];
        }
        found
    }

    #[test]
    fn a_guest_reads_its_name_plate() {
        let bytes = tables(instance(), "t3.nano", GuestAddress(0xf_0000));
        assert_eq!(bytes[..ENTRY_BYTES].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        let structures = walk(&bytes[STRUCTURES..]);
        assert_eq!(structures.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1, 2, 3, 32, 127]);
        let system = &structures[1];
        assert_eq!((system.1.len(), &system.2[0][..], &system.2[1][..]), (27, VENDOR, "t3.nano"));
        assert_eq!(system.2[usize::from(system.1[7]) - 1], Uuid::of(instance()).to_string());
        let board = &structures[2];
        assert_eq!(board.2[usize::from(board.1[8]) - 1], "i-0123456789abcdef0");
        assert_eq!(structures.iter().map(|s| s.1.len()).collect::<Vec<_>>(), [24, 27, 15, 22, 11, 4]);
    }

    #[test]
    fn no_name_ends_the_table_early() {
        for (given, shown) in [("", NO_TYPE), ("\0", NO_TYPE), ("t3\0.nano", "t3.nano")] {
            let structures = walk(&tables(instance(), given, GuestAddress(0xf_0000))[STRUCTURES..]);
            assert_eq!((structures.len(), &structures[1].2[1][..]), (6, shown), "{given:?}");
        }
    }
}
