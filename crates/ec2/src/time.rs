//! A moment as EC2 writes it, in UTC and whole seconds.
//!
//! The crate reads no clock: whoever answers or verifies hands the time in. Two spellings are needed, ISO 8601
//! extended in XML (`2026-11-21T08:42:00.000Z`) and basic in signatures (`20261121T084200Z`); both parse.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment in UTC, counted in whole seconds since 1970, within the years 1970 to 9999.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// A text that is not one of the two spellings of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Not a time in UTC such as 2026-11-21T08:42:00Z or 20261121T084200Z")]
pub struct NotATimestamp;

const SECONDS_PER_DAY: u64 = 86_400;
/// The last second of the year 9999, the last that four digits of year can name.
const LAST: u64 = 253_402_300_799;

impl Timestamp {
    /// The moment `seconds` after 1970; what lies beyond the year 9999 becomes its last second.
    #[must_use]
    pub const fn from_unix(seconds: u64) -> Self {
        Self(if seconds > LAST { LAST } else { seconds })
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn unix(self) -> u64 {
        self.0
    }

    /// Reads either spelling. A fraction of a second is dropped; any zone but `Z` is refused.
    ///
    /// # Errors
    /// [`NotATimestamp`] for any other text, including days that are in no calendar.
    pub fn parse(text: &str) -> Result<Self, NotATimestamp> {
        let text = text.strip_suffix('Z').ok_or(NotATimestamp)?;
        let text = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() && all_digits(fraction) => whole,
            Some(_) => return Err(NotATimestamp),
            None => text,
        };
        let (date, time) = text.split_once('T').ok_or(NotATimestamp)?;
        let (date, time) = match (date.len(), time.len()) {
            (8, 6) => (date.to_owned(), time.to_owned()),
            (10, 8) => (without(date, '-', [4, 7])?, without(time, ':', [2, 5])?),
            _ => return Err(NotATimestamp),
        };
        if !all_digits(&date) || !all_digits(&time) {
            return Err(NotATimestamp);
        }
        let number = |text: &str| text.parse::<u64>().map_err(|_| NotATimestamp);
        let days = days_since_1970(number(&date[..4])?, number(&date[4..6])?, number(&date[6..])?)?;
        let (hour, minute, second) = (number(&time[..2])?, number(&time[2..4])?, number(&time[4..])?);
        if hour > 23 || minute > 59 || second > 59 {
            return Err(NotATimestamp);
        }
        Ok(Self(days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second))
    }

    /// The spelling of signatures: `20261121T084200Z`.
    #[must_use]
    pub fn basic(self) -> String {
        let [year, month, day, hour, minute, second] = self.fields();
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    /// Year, month, day, hour, minute, second.
    fn fields(self) -> [u64; 6] {
        // Howard Hinnant's civil-from-days, counted from 0000-03-01 so that the leap day ends the year.
        let days = self.0 / SECONDS_PER_DAY + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let seconds = self.0 % SECONDS_PER_DAY;
        [year, month, day, seconds / 3600, seconds / 60 % 60, seconds % 60]
    }
}

/// Days from 1970-01-01 to the given day, if it exists.
fn days_since_1970(year: u64, month: u64, day: u64) -> Result<u64, NotATimestamp> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(NotATimestamp),
    };
    if year < 1970 || day == 0 || day > length {
        return Err(NotATimestamp);
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Ok(year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468)
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `text` without the `separator`s that must stand at `places`.
fn without(text: &str, separator: char, places: [usize; 2]) -> Result<String, NotATimestamp> {
    if places.iter().any(|place| text.as_bytes().get(*place).map(|byte| char::from(*byte)) != Some(separator))
    {
        return Err(NotATimestamp);
    }
    Ok(text.replace(separator, ""))
}

impl fmt::Display for Timestamp {
    /// The spelling of EC2's XML: `2026-11-21T08:42:00.000Z`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [year, month, day, hour, minute, second] = self.fields();
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The name of the newtype tells formats that care (`specimen`) what the text means.
        #[derive(Deserialize)]
        #[serde(rename = "Timestamp")]
        struct Text(String);
        let Text(text) = Text::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_name_the_same_moment() {
        let moment = Timestamp::from_unix(1_440_938_160);
        assert_eq!(moment.basic(), "20150830T123600Z");
        assert_eq!(moment.to_string(), "2015-08-30T12:36:00.000Z");
        for text in ["20150830T123600Z", "2015-08-30T12:36:00Z", "2015-08-30T12:36:00.999Z"] {
            assert_eq!(Timestamp::parse(text), Ok(moment), "{text}");
        }
    }

    #[test]
    fn days_until_9999_come_back() {
        // Steps of 13 days meet every day of the year, leap days included.
        for day in (0..=LAST / SECONDS_PER_DAY).step_by(13) {
            let moment = Timestamp::from_unix(day * SECONDS_PER_DAY + day % SECONDS_PER_DAY);
            assert_eq!(Timestamp::parse(&moment.basic()), Ok(moment));
        }
        assert_eq!(Timestamp::from_unix(u64::MAX).basic(), "99991231T235959Z");
    }

    #[test]
    fn days_and_hours_that_do_not_exist_are_refused() {
        for text in [
            "",
            "Z",
            "T",
            "20150229T000000Z",
            "21000229T000000Z",
            "20151301T000000Z",
            "20150100T000000Z",
            "19691231T235959Z",
            "20150101T240000Z",
            "20150101T000060Z",
            "20150101T000000",
            "20150101T000000.Z",
            "20150101T+00000Z",
            "2015-01-01T00:00:00+01:00",
            "2015/01/01T00:00:00Z",
            "٢٠١٥٠١T000000Z",
        ] {
            assert_eq!(Timestamp::parse(text), Err(NotATimestamp), "{text:?}");
        }
        assert!(Timestamp::parse("20000229T000000Z").is_ok());
    }
}
