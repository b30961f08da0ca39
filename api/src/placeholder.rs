//! Placeholders, `{{…}}`, in the source's url, query, headers and body.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{Timestamp, tz::TimeZone};

use crate::{DataInterval, RunKind};

const KNOWN: &str = "{{interval.start}}, {{interval.end}} (each also with .date, .epochSeconds or .epochMillis), {{run.id}}, {{run.kind}}, {{cursor}} and {{arguments.NAME}}";

/// Values of the placeholders of a run.
#[derive(Clone, Debug)]
pub struct Values {
    /// Id of the run.
    pub run_id: String,
    /// Why the run happens.
    pub kind: RunKind,
    /// Data interval of the run. Absent if the schedule has none.
    pub interval: Option<DataInterval>,
    /// Time zone of dates.
    pub zone: TimeZone,
    /// `spec.schedule.arguments`, overridden by the run's arguments.
    pub arguments: BTreeMap<String, String>,
    /// The stored cursor, if the source declares one.
    pub cursor: Option<String>,
}

/// What a placeholder names, between `{{` and `}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Placeholder {
    Interval { end: bool, format: Format },
    RunId,
    RunKind,
    Cursor,
    Argument(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Rfc3339,
    Date,
    EpochSeconds,
    EpochMillis,
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

impl Template {
    /// Parses a text. The error does not name the field.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after
                .split_once("}}")
                .ok_or_else(|| format!("`{{{{{after}` has no end: close it with `}}}}`"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Value(placeholder(inside.trim())?));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Names of the arguments in the text.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(Placeholder::Argument(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether the text contains `{{cursor}}`.
    pub fn has_cursor(&self) -> bool {
        self.0.contains(&Part::Value(Placeholder::Cursor))
    }

    /// Whether the text contains a value that an author or the source chooses: an argument, or the cursor.
    pub fn has_chosen_value(&self) -> bool {
        self.has_cursor() || self.arguments().next().is_some()
    }

    /// The text, with each value passed through `encode`.
    pub fn render(&self, values: &Values, encode: impl Fn(&str) -> String) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Value(placeholder) => text.push_str(&encode(&value(placeholder, values)?)),
            }
        }
        Ok(text)
    }
}

fn placeholder(name: &str) -> Result<Placeholder, String> {
    if let Some(argument) = name.strip_prefix("arguments.")
        && !argument.is_empty()
    {
        return Ok(Placeholder::Argument(argument.to_owned()));
    }
    let unknown = || format!("`{{{{{name}}}}}` is not known; there are {KNOWN}");
    let of_interval = |end: bool, rest: &str| {
        let format = match rest {
            "" => Format::Rfc3339,
            ".date" => Format::Date,
            ".epochSeconds" => Format::EpochSeconds,
            ".epochMillis" => Format::EpochMillis,
            _ => return Err(unknown()),
        };
        Ok(Placeholder::Interval { end, format })
    };
    match name {
        "run.id" => Ok(Placeholder::RunId),
        "run.kind" => Ok(Placeholder::RunKind),
        "cursor" => Ok(Placeholder::Cursor),
        _ => {
            if let Some(rest) = name.strip_prefix("interval.start") {
                of_interval(false, rest)
            } else if let Some(rest) = name.strip_prefix("interval.end") {
                of_interval(true, rest)
            } else {
                Err(unknown())
            }
        }
    }
}

fn value(placeholder: &Placeholder, values: &Values) -> Result<String, String> {
    Ok(match placeholder {
        Placeholder::RunId => values.run_id.clone(),
        Placeholder::RunKind => values.kind.to_string(),
        Placeholder::Cursor => values
            .cursor
            .clone()
            .ok_or("`{{cursor}}` has no value; say in spec.source.http.cursor where it comes from")?,
        Placeholder::Argument(name) => values
            .arguments
            .get(name)
            .cloned()
            .ok_or_else(|| format!("`{{{{arguments.{name}}}}}` has no value; give one in spec.schedule.arguments"))?,
        Placeholder::Interval { end, format } => {
            let interval = values
                .interval
                .ok_or("this run has no data interval: the schedule was never due before; give one in spec.runNow.interval")?;
            written(if *end { interval.end } else { interval.start }, *format, &values.zone)
        }
    })
}

fn written(at: Timestamp, format: Format, zone: &TimeZone) -> String {
    match format {
        Format::Rfc3339 => at.to_string(),
        Format::Date => at.to_zoned(zone.clone()).date().to_string(),
        Format::EpochSeconds => at.as_second().to_string(),
        Format::EpochMillis => at.as_millisecond().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values {
            run_id: "2024-03-31T22:00:00Z".into(),
            kind: RunKind::CatchUp,
            interval: Some(DataInterval {
                start: "2024-03-30T23:00:00Z".parse().unwrap(),
                end: "2024-03-31T22:00:00Z".parse().unwrap(),
            }),
            zone: TimeZone::fixed(k8s_openapi::jiff::tz::offset(1)),
            arguments: [("region".to_owned(), "eu west".to_owned())].into(),
            cursor: None,
        }
    }

    #[test]
    fn placeholders_are_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("a}}b", "a}}b"),
            ("{{interval.start}}", "2024-03-30T23:00:00Z"),
            (
                "from {{ interval.start.date }} to {{interval.end.date}}!",
                "from 2024-03-31 to 2024-03-31!",
            ),
            ("{{interval.end.epochSeconds}}", "1711922400"),
            ("{{interval.end.epochMillis}}", "1711922400000"),
            ("{{run.id}} {{run.kind}}", "2024-03-31T22:00:00Z CatchUp"),
            ("{{arguments.region}}", "<eu west>"),
        ] {
            let encode = |value: &str| {
                if value.contains(' ') {
                    format!("<{value}>")
                } else {
                    value.to_owned()
                }
            };
            assert_eq!(
                Template::read(text).unwrap().render(&values(), encode).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for text in [
            "{{interval}}",
            "{{interval.start.day}}",
            "{{cursors}}",
            "{{}}",
            "{{arguments.}}",
            "x {{run.id",
        ] {
            let error = Template::read(text).expect_err(text);
            assert!(error.contains("interval.start}}") || error.contains("close it"), "{error}");
        }
    }

    #[test]
    fn what_a_run_lacks_is_named() {
        let bare = Values {
            interval: None,
            arguments: BTreeMap::new(),
            cursor: None,
            ..values()
        };
        for (text, named) in [("{{interval.end}}", "spec.runNow.interval"), ("{{arguments.x}}", "arguments.x")] {
            let error = Template::read(text).unwrap().render(&bare, str::to_owned).expect_err(text);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn the_arguments_that_a_text_names_are_known() {
        let template = Template::read("{{arguments.a}}{{run.id}}{{arguments.b}}").unwrap();
        assert_eq!(template.arguments().collect::<Vec<_>>(), ["a", "b"]);
    }
}
