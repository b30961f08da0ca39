//! The query of a request. As in the real API a bad value is never an error: it counts as absent.

use form_urlencoded::Serializer;

use crate::nations::{self, Nation};

pub(crate) const MAX_RESULTS: u32 = 5_000;
pub(crate) const MAX_PAGE: u32 = 10_000;

/// The parameters of a raw query string, in order.
pub(crate) fn pairs(raw: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(raw.as_bytes()).into_owned().collect()
}

/// The value of a parameter: the last one of several.
pub(crate) fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut named = pairs.iter().rev().filter(|(key, _)| key == name);
    named.next().map(|(_, value)| value.as_str())
}

/// Every value is in its range.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// `None`: the server chooses one.
    pub(crate) seed: Option<String>,
    pub(crate) page: u32,
    pub(crate) results: u32,
    pub(crate) gender: Option<Gender>,
    /// Empty: all.
    pub(crate) nations: Vec<&'static Nation>,
    pub(crate) fields: Fields,
    pub(crate) format: Format,
    pub(crate) info: bool,
}

impl Query {
    /// Parses the query of a client. With a seed, `gender` is ignored.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Self {
        let query = Self::replay(pairs);
        let gender = query.gender.filter(|_| query.seed.is_none());
        Self { gender, ..query }
    }

    /// Parses the query of the admin API, which generates again what a request without a seed received: `gender` counts.
    pub(crate) fn replay(pairs: &[(String, String)]) -> Self {
        let present = |name| value(pairs, name).filter(|value| !value.is_empty());
        Self {
            seed: present("seed").map(str::to_owned),
            page: whole(present("page"), MAX_PAGE),
            results: whole(present("results"), MAX_RESULTS),
            gender: present("gender").and_then(Gender::parse),
            nations: nations(present("nat").or(present("nationality"))),
            fields: Fields::parse(present("inc"), present("exc")),
            format: Format::parse(present("format").or(present("fmt"))),
            info: value(pairs, "noinfo").is_none(),
        }
    }

    /// The query that yields the same users again, without the parameters that only change their format.
    pub(crate) fn canonical(&self, seed: &str) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("seed", seed);
        query.append_pair("page", &self.page.to_string());
        query.append_pair("results", &self.results.to_string());
        if let Some(gender) = self.gender {
            query.append_pair("gender", gender.as_str());
        }
        if !self.nations.is_empty() {
            let codes: Vec<_> = self.nations.iter().map(|nation| nation.code.as_str()).collect();
            query.append_pair("nat", &codes.join(","));
        }
        if let Some(excluded) = self.fields.excluded() {
            query.append_pair("exc", &excluded);
        }
        query.finish()
    }
}

/// A whole number from 1 to `max`; anything else is 1. As in JavaScript, `1e3` and `10.0` are whole numbers.
fn whole(value: Option<&str>, max: u32) -> u32 {
    let Some(number) = value.and_then(|value| value.trim().parse::<f64>().ok()) else {
        return 1;
    };
    if number.fract() != 0.0 || !(1.0..=f64::from(max)).contains(&number) {
        return 1;
    }
    // The number is whole and in range, so the cast loses nothing.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = number as u32;
    whole
}

/// One unknown code voids the list.
fn nations(list: Option<&str>) -> Vec<&'static Nation> {
    let codes = list.unwrap_or_default().split(',');
    let found: Option<Vec<_>> = codes.filter(|code| !code.is_empty()).map(nations::find).collect();
    found.unwrap_or_default()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gender {
    Male,
    Female,
}

impl Gender {
    fn parse(value: &str) -> Option<Self> {
        match value {
            "male" => Some(Self::Male),
            "female" => Some(Self::Female),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Male => "male",
            Self::Female => "female",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Pretty,
    Csv,
    Yaml,
    Xml,
}

impl Format {
    fn parse(value: Option<&str>) -> Self {
        match value.unwrap_or_default().to_lowercase().as_str() {
            "pretty" | "prettyjson" => Self::Pretty,
            "csv" => Self::Csv,
            "yaml" => Self::Yaml,
            "xml" => Self::Xml,
            _ => Self::Json,
        }
    }
}

/// The top-level fields of a user, in the order of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Gender,
    Name,
    Location,
    Email,
    Login,
    Dob,
    Registered,
    Phone,
    Cell,
    Id,
    Picture,
    Nat,
}

const FIELDS: [(Field, &str); 12] = [
    (Field::Gender, "gender"),
    (Field::Name, "name"),
    (Field::Location, "location"),
    (Field::Email, "email"),
    (Field::Login, "login"),
    (Field::Dob, "dob"),
    (Field::Registered, "registered"),
    (Field::Phone, "phone"),
    (Field::Cell, "cell"),
    (Field::Id, "id"),
    (Field::Picture, "picture"),
    (Field::Nat, "nat"),
];

/// The fields that are shown: those of `inc`, or all, without those of `exc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields(Vec<Field>);

impl Fields {
    fn parse(inc: Option<&str>, exc: Option<&str>) -> Self {
        let named = |list: &str, name: &str| {
            let mut names = list.split(',');
            names.any(|listed| listed.trim().eq_ignore_ascii_case(name))
        };
        let shown = FIELDS
            .iter()
            .filter(|(_, name)| inc.is_none_or(|list| named(list, name)) && !exc.is_some_and(|list| named(list, name)));
        Self(shown.map(|(field, _)| *field).collect())
    }

    pub(crate) fn show<T>(&self, field: Field, value: T) -> Option<T> {
        self.0.contains(&field).then_some(value)
    }

    /// The hidden fields as a list for `exc`.
    fn excluded(&self) -> Option<String> {
        let hidden = FIELDS.iter().filter(|(field, _)| !self.0.contains(field));
        let hidden: Vec<_> = hidden.map(|(_, name)| *name).collect();
        (!hidden.is_empty()).then(|| hidden.join(","))
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
