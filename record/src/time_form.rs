//! How a source writes the times of a field.

use jiff::{
    Timestamp,
    civil::DateTime,
    fmt::{rfc2822, strtime},
    tz::TimeZone,
};
use serde_json::Value as Json;
use userpipeline_api::{Epoch, FieldSpec, FieldType, zone};

use crate::{
    json_number::{kind, whole},
    time::{ServedTime, check_millis, served_time},
};

/// A smaller number of milliseconds is a time between 1966 and 1973: more likely it has another unit.
const LEAST_MILLIS: u64 = 100_000_000_000;
/// Directives that contain an offset or a time zone, or the time since 1970.
const WITH_ZONE: [&str; 7] = ["%z", "%:z", "%::z", "%:::z", "%Q", "%:Q", "%s"];

/// How a source writes the times of a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimeForm {
    /// The unit of numbers.
    epoch: Option<Epoch>,
    /// The time zone of texts without one.
    zone: Option<TimeZone>,
    format: Format,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Format {
    #[default]
    Rfc3339,
    /// HTTP dates as well.
    Rfc2822,
    /// Directives of strftime.
    Custom(String),
}

impl TimeForm {
    /// The form that a field declares. Errors have the part of the field, such as `.format`.
    pub fn of(spec: &FieldSpec) -> Result<Self, (&'static str, String)> {
        let is_time = spec.field_type == FieldType::Timestamp;
        for (part, is_set) in [
            (".epoch", spec.epoch.is_some()),
            (".timeZone", spec.time_zone.is_some()),
            (".format", spec.format.is_some()),
        ] {
            if is_set && !is_time {
                return Err((part, "is allowed only with type timestamp".to_owned()));
            }
        }
        let zone = spec
            .time_zone
            .as_deref()
            .map(zone)
            .transpose()
            .map_err(|problem| (".timeZone", problem))?;
        let format = match spec.format.as_deref() {
            None | Some("RFC3339") => Format::Rfc3339,
            Some("RFC2822" | "HTTP") => Format::Rfc2822,
            Some(text) => custom(text, zone.is_some()).map_err(|problem| (".format", problem))?,
        };
        Ok(Self {
            epoch: spec.epoch,
            zone,
            format,
        })
    }

    /// Reads a time. `has_unit`: the unit of a number is known to be milliseconds.
    pub fn read(&self, json: &Json, has_unit: bool) -> Result<ServedTime, String> {
        let time = match json {
            Json::Number(_) => self.number(json, has_unit)?,
            Json::String(text) => return self.read_text(text, has_unit),
            other => return Err(format!("expected a time such as 2023-09-03T10:00:00Z, found {}", kind(other))),
        };
        check_millis(time.millis).map(|_| time)
    }

    /// Reads a time that is text.
    pub fn read_text(&self, text: &str, has_unit: bool) -> Result<ServedTime, String> {
        let number = self.epoch.and_then(|_| text.trim().parse::<serde_json::Number>().ok());
        let time = match number {
            Some(number) => self.number(&Json::Number(number), has_unit)?,
            None => self.text(text)?,
        };
        check_millis(time.millis).map(|_| time)
    }

    fn number(&self, json: &Json, has_unit: bool) -> Result<ServedTime, String> {
        let beyond = || "a time outside the years 0001 to 9999, which the stores support".to_owned();
        let number = match (self.epoch, json.as_i64(), json.as_f64()) {
            // Often with a fraction.
            (Some(Epoch::Seconds), None, Some(seconds)) => return rounded(seconds * 1000.0).ok_or_else(beyond),
            (Some(Epoch::Milliseconds), None, Some(milliseconds)) => return rounded(milliseconds).ok_or_else(beyond),
            _ => whole(json)?,
        };
        match self.epoch {
            Some(Epoch::Seconds) => number.checked_mul(1000).map(ServedTime::of_millis).ok_or_else(beyond),
            Some(Epoch::Milliseconds) => Ok(ServedTime::of_millis(number)),
            Some(Epoch::Microseconds) => Ok(ServedTime {
                millis: number.div_euclid(1000),
                nanos: number.saturating_mul(1000),
            }),
            Some(Epoch::Nanoseconds) => Ok(ServedTime {
                millis: number.div_euclid(1_000_000),
                nanos: number,
            }),
            None if has_unit || number.unsigned_abs() >= LEAST_MILLIS => Ok(ServedTime::of_millis(number)),
            None => Err(
                "a number below 100000000000, which is unlikely to be milliseconds since 1970: set epoch of the field, for example to Seconds"
                    .to_owned(),
            ),
        }
    }

    fn text(&self, text: &str) -> Result<ServedTime, String> {
        match &self.format {
            Format::Rfc3339 => served_time(text).or_else(|_| self.without_zone(text)),
            Format::Rfc2822 => {
                let read = rfc2822::DateTimeParser::new().parse_timestamp(text.trim());
                read.map(ServedTime::of)
                    .map_err(|_| "not a time such as Sun, 03 Sep 2023 10:00:00 GMT (format)".to_owned())
            }
            Format::Custom(format) => {
                let error = || "does not match the format of the field".to_owned();
                let read = strtime::parse(format, text.trim()).map_err(|_| error())?;
                match (read.to_timestamp(), &self.zone) {
                    (Ok(time), _) => Ok(ServedTime::of(time)),
                    (Err(_), Some(zone)) => {
                        // A format may have no time of day.
                        let time = read.to_datetime().or_else(|_| read.to_date().map(|date| date.at(0, 0, 0, 0)));
                        in_zone(time.map_err(|_| error())?, zone).ok_or_else(error)
                    }
                    (Err(_), None) => Err(error()),
                }
            }
        }
    }

    /// A text such as `2024-01-02T10:11:12`.
    fn without_zone(&self, text: &str) -> Result<ServedTime, String> {
        let error = || "not a time such as 2023-09-03T10:00:00Z".to_owned();
        let time: DateTime = text.trim().parse().map_err(|_| error())?;
        match &self.zone {
            Some(zone) => in_zone(time, zone).ok_or_else(error),
            None => Err("a time without a time zone: set timeZone of the field, for example to Etc/UTC".to_owned()),
        }
    }
}

/// Of a repeated hour, the first; of a skipped one, the time after the gap.
fn in_zone(time: DateTime, zone: &TimeZone) -> Option<ServedTime> {
    let zoned = zone.to_ambiguous_zoned(time).compatible().ok()?;
    Some(ServedTime::of(zoned.timestamp()))
}

/// A number has about microseconds.
#[allow(clippy::cast_possible_truncation)] // The range is checked.
fn rounded(millis: f64) -> Option<ServedTime> {
    (millis.abs() < 1e15).then(|| ServedTime {
        millis: millis.round() as i64,
        nanos: ((millis * 1000.0).round() as i64).saturating_mul(1000),
    })
}

fn custom(text: &str, has_zone: bool) -> Result<Format, String> {
    let names = "RFC3339, RFC2822, HTTP, or directives of strftime such as %d.%m.%Y %H:%M";
    if !text.contains('%') {
        return Err(format!("`{text}` is not a format; use {names}"));
    }
    let example = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    strtime::format(text, &example).map_err(|_| format!("`{text}` has an unknown directive; use {names}"))?;
    if !has_zone && !WITH_ZONE.iter().any(|directive| text.contains(directive)) {
        return Err(format!("`{text}` has no time zone: set timeZone as well"));
    }
    Ok(Format::Custom(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(more: &Json) -> Result<TimeForm, (&'static str, String)> {
        let mut field = json!({"name": "at", "type": "timestamp", "from": "/at"});
        field.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        TimeForm::of(&serde_json::from_value(field).unwrap())
    }

    fn read(more: &Json, value: &Json) -> Result<String, String> {
        let read = form(more).unwrap().read(value, false)?;
        Ok(Timestamp::from_millisecond(read.millis).unwrap().to_string())
    }

    #[test]
    fn a_time_is_read_in_the_form_that_the_field_declares() {
        let berlin = "Europe/Berlin";
        for (form, value, expected) in [
            (json!({}), json!("2024-01-02T10:11:12+01:00"), "2024-01-02T09:11:12Z"),
            (json!({}), json!(1_704_190_272_123_i64), "2024-01-02T10:11:12.123Z"),
            (json!({"epoch": "Seconds"}), json!(1_704_190_272), "2024-01-02T10:11:12Z"),
            (json!({"epoch": "Seconds"}), json!(1_704_190_272.25), "2024-01-02T10:11:12.25Z"),
            (json!({"epoch": "Seconds"}), json!("1704190272"), "2024-01-02T10:11:12Z"),
            (json!({"epoch": "Seconds"}), json!(-1), "1969-12-31T23:59:59Z"),
            (json!({"epoch": "Seconds"}), json!("2024-01-02T10:11:12Z"), "2024-01-02T10:11:12Z"),
            (json!({"epoch": "Milliseconds"}), json!(5), "1970-01-01T00:00:00.005Z"),
            (
                json!({"epoch": "Microseconds"}),
                json!(1_704_190_272_123_456_i64),
                "2024-01-02T10:11:12.123Z",
            ),
            (json!({"epoch": "Nanoseconds"}), json!(-1), "1969-12-31T23:59:59.999Z"),
            (json!({"timeZone": berlin}), json!("2024-07-02T10:11:12"), "2024-07-02T08:11:12Z"),
            (json!({"timeZone": berlin}), json!("2024-07-02 10:11:12"), "2024-07-02T08:11:12Z"),
            (json!({"timeZone": berlin}), json!("2024-07-02"), "2024-07-01T22:00:00Z"),
            (json!({"timeZone": berlin}), json!("2024-07-02T10:11:12Z"), "2024-07-02T10:11:12Z"),
            // Twice, and never.
            (json!({"timeZone": berlin}), json!("2024-10-27T02:30:00"), "2024-10-27T00:30:00Z"),
            (json!({"timeZone": berlin}), json!("2024-03-31T02:30:00"), "2024-03-31T01:30:00Z"),
            (json!({"format": "RFC3339"}), json!("2024-01-02T10:11:12Z"), "2024-01-02T10:11:12Z"),
            (
                json!({"format": "RFC2822"}),
                json!("Tue, 2 Jan 2024 10:11:12 +0100"),
                "2024-01-02T09:11:12Z",
            ),
            (
                json!({"format": "HTTP"}),
                json!("Tue, 02 Jan 2024 10:11:12 GMT"),
                "2024-01-02T10:11:12Z",
            ),
            (
                json!({"format": "%d.%m.%Y %H:%M", "timeZone": berlin}),
                json!("02.07.2024 10:11"),
                "2024-07-02T08:11:00Z",
            ),
            (
                json!({"format": "%d/%m/%Y", "timeZone": "Etc/UTC"}),
                json!("02/07/2024"),
                "2024-07-02T00:00:00Z",
            ),
            (
                json!({"format": "%Y%m%dT%H%M%S%z"}),
                json!("20240702T101112+0200"),
                "2024-07-02T08:11:12Z",
            ),
        ] {
            assert_eq!(read(&form, &value).as_deref(), Ok(expected), "{form} {value}");
        }
    }

    #[test]
    fn a_time_that_is_not_certain_is_refused_with_the_field_to_set() {
        for (form, value, expected) in [
            (json!({}), json!(1_704_190_272), "set epoch of the field"),
            (json!({}), json!(-99_999_999_999_i64), "set epoch of the field"),
            (json!({}), json!(0), "set epoch of the field"),
            (json!({}), json!("2024-01-02T10:11:12"), "without a time zone: set timeZone"),
            (json!({}), json!("2024-01-02"), "without a time zone: set timeZone"),
            (json!({}), json!("1704190272"), "not a time such as"),
            (json!({}), json!("soon"), "not a time such as"),
            (json!({}), json!(true), "found a boolean"),
            (json!({"epoch": "Nanoseconds"}), json!(0.5), "whole number"),
            (json!({"epoch": "Seconds"}), json!(1e18), "outside the years"),
            (json!({"epoch": "Seconds"}), json!(1_704_190_272_123_i64), "outside the years"),
            (
                json!({"format": "RFC2822"}),
                json!("2024-01-02T10:11:12Z"),
                "not a time such as Sun",
            ),
            (
                json!({"format": "%d.%m.%Y", "timeZone": "Etc/UTC"}),
                json!("2024-01-02"),
                "does not match the format",
            ),
        ] {
            let error = read(&form, &value).unwrap_err();
            assert!(error.contains(expected), "{form} {value}: {error}");
        }
        // The unit of a time in Avro is known.
        assert_eq!(form(&json!({})).unwrap().read(&json!(5), true), Ok(ServedTime::of_millis(5)));
    }

    #[test]
    fn a_time_keeps_the_precision_at_which_it_was_served() {
        for (more, value, nanos) in [
            (json!({}), json!("2024-01-02T10:11:12.123456789Z"), 1_704_190_272_123_456_789),
            (json!({}), json!(1_704_190_272_123_i64), 1_704_190_272_123_000_000),
            (json!({}), json!("1960-01-01T00:00:00.000001Z"), -315_619_199_999_999_000),
            (json!({}), json!("2263-01-01T00:00:00Z"), i64::MAX),
            (json!({}), json!("9999-12-31T23:59:59.999Z"), i64::MAX),
            (json!({}), json!("0001-01-01T00:00:00Z"), i64::MIN),
            (json!({"epoch": "Seconds"}), json!(1_704_190_272), 1_704_190_272_000_000_000),
            (json!({"epoch": "Seconds"}), json!(1_704_190_272.123_456), 1_704_190_272_123_456_000),
            (
                json!({"epoch": "Milliseconds"}),
                json!(1_704_190_272_123.5),
                1_704_190_272_123_500_000,
            ),
            (
                json!({"epoch": "Microseconds"}),
                json!(1_704_190_272_123_456_i64),
                1_704_190_272_123_456_000,
            ),
            (
                json!({"epoch": "Nanoseconds"}),
                json!(1_704_190_272_123_456_789_i64),
                1_704_190_272_123_456_789,
            ),
            (
                json!({"timeZone": "Europe/Berlin"}),
                json!("2024-01-02T11:11:12.000001"),
                1_704_190_272_000_001_000,
            ),
        ] {
            let read = form(&more).unwrap().read(&value, false).unwrap();
            assert_eq!(read.nanos, nanos, "{more} {value}");
        }
    }

    #[test]
    fn a_form_that_cannot_be_read_is_refused() {
        for (more, part, expected) in [
            (json!({"type": "long", "epoch": "Seconds"}), ".epoch", "only with type timestamp"),
            (json!({"type": "date", "format": "%Y"}), ".format", "only with type timestamp"),
            (json!({"timeZone": "Mars/Olympus"}), ".timeZone", "not a zone of the IANA database"),
            (json!({"format": "ISO"}), ".format", "`ISO` is not a format"),
            (json!({"format": "%d %!"}), ".format", "unknown directive"),
            (json!({"format": "%d.%m.%Y"}), ".format", "set timeZone"),
        ] {
            let (at, problem) = form(&more).unwrap_err();
            assert!(at == part && problem.contains(expected), "{more}: {at} {problem}");
        }
    }
}
