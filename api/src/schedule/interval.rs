//! Data interval of a run: from the previous tick up to the tick at which the run is due.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Ticks;

/// A data interval: from `start`, inclusive, to `end`, exclusive.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// Start, inclusive.
    pub start: Time,
    /// End, exclusive.
    pub end: Time,
}

/// From `start`, inclusive, to `end`, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataInterval {
    /// Start, inclusive.
    pub start: Timestamp,
    /// End, exclusive.
    pub end: Timestamp,
}

impl DataInterval {
    /// The interval that ends with `tick`. None if no tick precedes it.
    pub fn ending(tick: Timestamp, ticks: &Ticks) -> Option<Self> {
        Some(Self {
            start: ticks.before(tick)?,
            end: tick,
        })
    }

    /// The last interval that is complete at `now`.
    pub fn complete_at(now: Timestamp, ticks: &Ticks) -> Option<Self> {
        Self::ending(ticks.before(now.checked_add(std::time::Duration::from_nanos(1)).ok()?)?, ticks)
    }
}

impl From<&Interval> for DataInterval {
    fn from(interval: &Interval) -> Self {
        Self {
            start: interval.start.0,
            end: interval.end.0,
        }
    }
}

impl From<DataInterval> for Interval {
    fn from(interval: DataInterval) -> Self {
        Self {
            start: Time(interval.start),
            end: Time(interval.end),
        }
    }
}

/// The first tick at which a run is due: the end of the first interval that begins at or after `start`.
pub fn first_after_start(start: Timestamp, ticks: &Ticks) -> Option<Timestamp> {
    let begins = ticks.after(start.checked_sub(std::time::Duration::from_nanos(1)).ok()?)?;
    ticks.after(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_interval_lies_between_two_ticks() {
        let table = [
            ("@daily", "Etc/UTC", "2024-03-02T00:00:00Z", "2024-03-01T00:00:00Z"),
            // A day of 23 hours, and one of 25.
            ("0 0 * * *", "Europe/Berlin", "2024-03-31T22:00:00Z", "2024-03-30T23:00:00Z"),
            ("0 0 * * *", "Europe/Berlin", "2024-10-27T23:00:00Z", "2024-10-26T22:00:00Z"),
            ("0 9 * * mon-fri", "Etc/UTC", "2024-03-04T09:00:00Z", "2024-03-01T09:00:00Z"),
        ];
        for (cron, zone, end, start) in table {
            let interval = DataInterval::ending(at(end), &Ticks::read(cron, zone).unwrap()).unwrap();
            assert_eq!((interval.start, interval.end), (at(start), at(end)), "{cron} in {zone}");
        }
    }

    #[test]
    fn the_interval_that_is_complete_ends_at_the_latest_now() {
        let hourly = Ticks::read("@hourly", "Etc/UTC").unwrap();
        for (now, end) in [
            ("2024-03-02T10:00:00Z", "2024-03-02T10:00:00Z"),
            ("2024-03-02T10:59:59.5Z", "2024-03-02T10:00:00Z"),
            ("2024-03-02T09:59:59.999999999Z", "2024-03-02T09:00:00Z"),
        ] {
            assert_eq!(DataInterval::complete_at(at(now), &hourly).unwrap().end, at(end), "{now}");
        }
    }

    #[test]
    fn the_first_interval_begins_at_the_start_or_at_the_tick_that_follows() {
        let daily = Ticks::read("0 10 * * *", "Etc/UTC").unwrap();
        for (start, due) in [
            ("2023-09-03T10:00:00Z", "2023-09-04T10:00:00Z"),
            ("2023-09-03T10:00:01Z", "2023-09-05T10:00:00Z"),
            ("2023-09-03T09:00:00Z", "2023-09-04T10:00:00Z"),
        ] {
            assert_eq!(first_after_start(at(start), &daily), Some(at(due)), "{start}");
        }
    }
}
