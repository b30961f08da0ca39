//! Days and times, including the last day of the year 9999, which jiff's timestamps exclude.

use jiff::civil::Date;

/// The years that every store and Avro reader supports: 0001 to 9999.
pub(crate) const FIRST_MILLIS: i64 = -62_135_596_800_000;
pub(crate) const LAST_MILLIS: i64 = 253_402_300_799_999;
pub(crate) const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// Days since 1970-01-01.
pub(crate) fn days(date: Date) -> i32 {
    // A few millions at most, by jiff's range of years.
    (date - EPOCH).get_days()
}

/// The inverse of [`days`].
pub fn date(days: i32) -> Option<Date> {
    EPOCH.checked_add(jiff::Span::new().try_days(days).ok()?).ok()
}

/// A time in milliseconds since 1970 as text.
pub(crate) fn moment(millis: i64) -> String {
    let since = jiff::Span::new().milliseconds(millis);
    EPOCH
        .to_datetime(jiff::civil::Time::midnight())
        .checked_add(since)
        .map_or_else(|_| String::new(), |time| format!("{time}Z"))
}

/// A time as the stores hold it, and as it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServedTime {
    /// Since 1970.
    pub millis: i64,
    /// Since 1970. Times after 2262 are all the same.
    pub nanos: i64,
}

impl ServedTime {
    pub const fn of_millis(millis: i64) -> Self {
        Self {
            millis,
            nanos: millis.saturating_mul(1_000_000),
        }
    }

    pub fn of(time: jiff::Timestamp) -> Self {
        Self {
            millis: time.as_millisecond(),
            nanos: saturated(time.as_nanosecond()),
        }
    }
}

fn saturated(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// The time of a text such as `2023-09-03T10:00:00+02:00`.
pub(crate) fn served_time(text: &str) -> Result<ServedTime, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(ServedTime::of(time)),
        // 9999-12-31, which many sources use for "never".
        Err(e) => beyond(text).map(ServedTime::of_millis).ok_or_else(|| e.to_string()),
    }
}

fn beyond(text: &str) -> Option<i64> {
    let pieces = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(text).ok()?;
    let offset = match pieces.offset()? {
        jiff::fmt::temporal::PiecesOffset::Numeric(offset) => i64::from(offset.offset().seconds()),
        _ => 0,
    };
    let time = pieces.time()?;
    let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
    Some((i64::from(days(pieces.date())) * 86_400 + seconds - offset) * 1000 + i64::from(time.millisecond()))
}

pub(crate) fn check_millis(millis: i64) -> Result<i64, String> {
    if (FIRST_MILLIS..=LAST_MILLIS).contains(&millis) {
        Ok(millis)
    } else {
        Err("a time outside the years 0001 to 9999, which the stores support".to_owned())
    }
}
