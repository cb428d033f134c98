//! The time of day, as one register: what a PC's guest asks KVM for and an Arm machine's asks EFI, whose
//! function reads it here.
//!
//! Eight bytes, read together: the first half of EFI's `EFI_TIME` (UEFI 2.10, 8.3): year, month, day, hour,
//! minute, second and a zero, in UTC. The second half, fractions of a second and a time zone, is zero.

use crate::bus::BusDevice;

/// Bytes of registers.
pub const LEN: u64 = 8;

const DAY: u64 = 86_400;

/// The clock. Asks what it was made with for the seconds since 1970, on a vCPU's thread.
pub struct Clock<F>(pub F);

impl<F: Fn() -> u64 + Send + Sync> BusDevice for Clock<F> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let bytes = efi_time((self.0)());
        for (at, byte) in (offset..).zip(data) {
            *byte = usize::try_from(at).ok().and_then(|at| bytes.get(at).copied()).unwrap_or(0);
        }
    }

    /// It cannot be set.
    fn write(&self, _offset: u64, _data: &[u8]) {}
}

/// Seconds since 1970 as a date and a time of day; of years after 65535, their last one's.
fn efi_time(seconds: u64) -> [u8; 8] {
    let (mut days, second) = (seconds / DAY, seconds % DAY);
    // Whole periods of 400 years, which are all alike, then years and months one by one.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while days >= days_of_month(year, month) {
        days -= days_of_month(year, month);
        month += 1;
    }
    let [low, high] = u16::try_from(year).unwrap_or(u16::MAX).to_le_bytes();
    let byte = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
    let clock = [second / 3600, second / 60 % 60, second % 60].map(byte);
    [low, high, month, byte(days + 1), clock[0], clock[1], clock[2], 0]
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: u8) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(seconds: u64) -> (u16, [u8; 5]) {
        let [low, high, rest @ .., zero] = efi_time(seconds);
        assert_eq!(zero, 0);
        (u16::from_le_bytes([low, high]), rest)
    }

    #[test]
    fn seconds_are_a_date() {
        for (seconds, year, rest) in [
            (0, 1970, [1, 1, 0, 0, 0]),
            (951_782_399, 2000, [2, 28, 23, 59, 59]),
            (951_782_400, 2000, [2, 29, 0, 0, 0]),
            (1_795_273_496, 2026, [11, 21, 15, 4, 56]),
            (4_107_542_400, 2100, [3, 1, 0, 0, 0]),
            (253_402_300_800, 10_000, [1, 1, 0, 0, 0]),
        ] {
            assert_eq!(parts(seconds), (year, rest), "{seconds}");
        }
        assert_eq!(parts(u64::MAX).0, u16::MAX);
    }

    #[test]
    fn any_access_anywhere() {
        let clock = Clock(|| 951_782_400);
        let mut data = [0xee; 8];
        clock.read(0, &mut data);
        assert_eq!(data, [0xd0, 7, 2, 29, 0, 0, 0, 0]);
        clock.read(3, &mut data);
        assert_eq!(data, [29, 0, 0, 0, 0, 0, 0, 0]);
        crate::testing::poke(&clock, LEN, 1000);
    }
}
