//! The windows of an aggregate: their lengths, and where they begin and end, as expressions of PostgreSQL.

use crate::postgres::{literal, quote};

const DAY: u64 = 86_400;
/// Windows that a record can be in.
const MAX_OVERLAPPING: u64 = 24;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// A column of the sink table that is never null.
    pub on: String,
    pub length: Length,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Length {
    /// Parts of a day, in seconds, counted from the midnight of a time zone.
    PartOfDay { seconds: u64, time_zone: String },
    /// Calendar days of a time zone, counted from a Monday.
    Days { days: u64, time_zone: String },
    /// Windows of `seconds` that start every `hop` seconds since 1970.
    Overlapping { seconds: u64, hop: u64 },
}

impl Length {
    /// The windows of `every`, if they divide days or consist of whole days.
    pub fn calendar(every: std::time::Duration, time_zone: &str) -> Result<Self, String> {
        let (seconds, time_zone) = (whole_seconds(every)?, time_zone.to_owned());
        if seconds < DAY && DAY.is_multiple_of(seconds) {
            return Ok(Self::PartOfDay { seconds, time_zone });
        }
        if seconds.is_multiple_of(DAY) {
            let days = seconds / DAY;
            return Ok(Self::Days { days, time_zone });
        }
        Err("neither divides 24h nor is a multiple of it: windows would begin at another time of each day".to_owned())
    }

    pub fn overlapping(every: std::time::Duration, hop: std::time::Duration) -> Result<Self, String> {
        let (seconds, hop) = (whole_seconds(every)?, whole_seconds(hop)?);
        if !seconds.is_multiple_of(hop) {
            return Err("does not divide `every`".to_owned());
        }
        if seconds / hop > MAX_OVERLAPPING {
            return Err(format!(
                "puts each record into {} windows; at most {MAX_OVERLAPPING} are allowed",
                seconds / hop
            ));
        }
        Ok(Self::Overlapping { seconds, hop })
    }
}

fn whole_seconds(duration: std::time::Duration) -> Result<u64, String> {
    if duration.subsec_nanos() > 0 || duration.is_zero() {
        return Err("must be a whole number of seconds".to_owned());
    }
    Ok(duration.as_secs())
}

impl Window {
    /// The start of the latest window that has the row `r`.
    pub fn latest_start(&self) -> String {
        let on = format!("r.{}", quote(&self.on));
        match &self.length {
            Length::PartOfDay { seconds, time_zone } => format!(
                "date_bin('{seconds} seconds', {on}, date_trunc('day', {on}, {}))",
                literal(time_zone)
            ),
            Length::Days { days, time_zone } => {
                let zone = literal(time_zone);
                format!("date_bin('{days} days', {on} AT TIME ZONE {zone}, timestamp '1970-01-05') AT TIME ZONE {zone}")
            }
            Length::Overlapping { hop, .. } => format!("date_bin('{hop} seconds', {on}, timestamptz '1970-01-01 00:00:00Z')"),
        }
    }

    /// Number of windows that a row is in.
    pub const fn overlapping(&self) -> u64 {
        match self.length {
            Length::Overlapping { seconds, hop } => seconds / hop,
            Length::PartOfDay { .. } | Length::Days { .. } => 1,
        }
    }

    /// The start of the window before the latest by the number in column `_hop`.
    pub fn start(&self) -> String {
        match self.length {
            Length::Overlapping { hop, seconds } if seconds > hop => format!("{} - _hop * interval '{hop} seconds'", self.latest_start()),
            Length::Overlapping { .. } | Length::PartOfDay { .. } | Length::Days { .. } => self.latest_start(),
        }
    }

    /// The end of the window that begins at `start`.
    pub fn end(&self, start: &str) -> String {
        let midnight = |days: u64, zone: &str| {
            let zone = literal(zone);
            // A day may begin later than at midnight, where the clocks change then.
            format!("((date_trunc('day', {start} AT TIME ZONE {zone}) + interval '{days} days') AT TIME ZONE {zone})")
        };
        match &self.length {
            Length::PartOfDay { seconds, time_zone } => {
                format!("least({start} + interval '{seconds} seconds', {})", midnight(1, time_zone))
            }
            Length::Days { days, time_zone } => midnight(*days, time_zone),
            Length::Overlapping { seconds, .. } => format!("({start} + interval '{seconds} seconds')"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn windows_divide_a_day_or_consist_of_whole_days() {
        let zone = || "Etc/UTC".to_owned();
        for (seconds, expected) in [
            (
                60,
                Ok(Length::PartOfDay {
                    seconds: 60,
                    time_zone: zone(),
                }),
            ),
            (
                21_600,
                Ok(Length::PartOfDay {
                    seconds: 21_600,
                    time_zone: zone(),
                }),
            ),
            (
                DAY,
                Ok(Length::Days {
                    days: 1,
                    time_zone: zone(),
                }),
            ),
            (
                7 * DAY,
                Ok(Length::Days {
                    days: 7,
                    time_zone: zone(),
                }),
            ),
            (7 * 3600, Err("neither divides 24h")),
            (36 * 3600, Err("neither divides 24h")),
            (0, Err("whole number of seconds")),
        ] {
            match (Length::calendar(Duration::from_secs(seconds), "Etc/UTC"), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(says)) => assert!(found.contains(says), "{seconds}: {found}"),
                (found, expected) => panic!("{seconds}: {found:?}, not {expected:?}"),
            }
        }
        assert!(Length::calendar(Duration::from_millis(1500), "Etc/UTC").is_err());
    }

    #[test]
    fn overlapping_windows_are_a_multiple_of_their_hop_and_at_most_24() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(
            Length::overlapping(hours(24), hours(1)),
            Ok(Length::Overlapping { seconds: DAY, hop: 3600 })
        );
        assert!(Length::overlapping(hours(5), hours(2)).unwrap_err().contains("does not divide"));
        assert!(Length::overlapping(hours(25), hours(1)).unwrap_err().contains("25 windows"));
    }
}
