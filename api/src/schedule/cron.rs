//! A schedule as Kubernetes reads it: five fields, or a macro. It refuses what a CronJob refuses, with a
//! message that helps.

use std::str::FromStr;

const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    name: &'static str,
    first: u8,
    last: u8,
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

/// Values of a field, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set {
    bits: u64,
    /// The field is `*`, which for the two fields of the day differs from listing all values.
    any: bool,
}

impl Set {
    fn has(self, value: i8) -> bool {
        u8::try_from(value).is_ok_and(|value| self.bits >> value & 1 == 1)
    }
}

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

impl Cron {
    /// Parses a CronJob's schedule. The error describes how to fix it.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = if text.starts_with('@') {
            let known = MACROS.iter().find(|(name, _)| *name == text).ok_or_else(|| {
                let names: Vec<&str> = MACROS.iter().map(|(name, _)| *name).collect();
                format!(
                    "`{text}` is not a macro of Kubernetes; use one of {}, or five fields",
                    names.join(", ")
                )
            })?;
            known.1
        } else {
            text
        };
        let texts: Vec<&str> = text.split_whitespace().collect();
        if texts.len() != FIELDS.len() {
            return Err(format!(
                "`{text}` has {} fields; give five: minute, hour, day of month, month, day of week",
                texts.len()
            ));
        }
        let mut sets = [Set::default(); 5];
        for ((field, text), set) in FIELDS.iter().zip(texts).zip(&mut sets) {
            for item in text.split(',') {
                let read = field.read(item)?;
                set.bits |= read.bits;
                set.any |= read.any;
            }
        }
        let [minutes, hours, days, months, weekdays] = sets;
        Ok(Self {
            minutes,
            hours,
            days,
            months,
            weekdays,
        })
    }

    pub(super) fn has_minute(&self, minute: i8) -> bool {
        self.minutes.has(minute)
    }

    pub(super) fn has_hour(&self, hour: i8) -> bool {
        self.hours.has(hour)
    }

    /// If both fields of the day are restricted, one match suffices.
    pub(super) fn has_day(&self, month: i8, day: i8, weekday: i8) -> bool {
        let (in_month, in_week) = (self.days.has(day), self.weekdays.has(weekday));
        let day = if self.days.any || self.weekdays.any {
            in_month && in_week
        } else {
            in_month || in_week
        };
        day && self.months.has(month)
    }
}

impl Field {
    fn read(&self, item: &str) -> Result<Set, String> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, text)) => match u8::from_str(text) {
                Ok(step) if step > 0 => (range, Some(step)),
                _ => {
                    return Err(format!(
                        "`{item}` in the field {} needs a step above 0, and not above 255",
                        self.name
                    ));
                }
            },
        };
        let any = matches!(range, "*" | "?");
        let (from, to) = if any {
            (self.first, self.last)
        } else if let Some((from, to)) = range.split_once('-') {
            (self.value(from)?, self.value(to)?)
        } else {
            let value = self.value(range)?;
            // `5/15` is `5-59/15`.
            (value, if step.is_some() { self.last } else { value })
        };
        if from > to {
            return Err(format!(
                "`{range}` in the field {} begins beyond its end; write it as two ranges",
                self.name
            ));
        }
        let values = (from..=to).step_by(usize::from(step.unwrap_or(1)));
        Ok(Set {
            bits: values.fold(0, |bits, value| bits | 1 << value),
            any: any && step.unwrap_or(1) == 1,
        })
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        if let Some(word) = (self.first..).zip(self.words).find(|(_, word)| word.eq_ignore_ascii_case(text)) {
            return Ok(word.0);
        }
        match u8::from_str(text) {
            Ok(7) if self.last == 6 => Err("`7` in the field day of week is not known to Kubernetes; Sunday is 0".to_owned()),
            Ok(value) if (self.first..=self.last).contains(&value) && text.bytes().all(|b| b.is_ascii_digit()) => Ok(value),
            _ => Err(format!(
                "`{text}` in the field {} must be between {} and {}",
                self.name, self.first, self.last
            )),
        }
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
            assert_eq!(Cron::read(text).err(), None, "{text}");
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
            let error = Cron::read(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
