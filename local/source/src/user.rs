//! A user as the API serves it. A hidden field is left out.

use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gender: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<Location>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<Login>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dob: Option<DateAndAge>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) registered: Option<DateAndAge>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cell: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) picture: Option<Picture>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nat: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Name {
    pub(crate) title: &'static str,
    pub(crate) first: &'static str,
    pub(crate) last: &'static str,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Location {
    pub(crate) street: Street,
    pub(crate) city: &'static str,
    pub(crate) state: &'static str,
    pub(crate) country: &'static str,
    pub(crate) postcode: Postcode,
    pub(crate) coordinates: Coordinates,
    pub(crate) timezone: Timezone,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Street {
    pub(crate) number: u64,
    pub(crate) name: &'static str,
}

/// An integer in most countries, a string in some.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Postcode {
    Number(u64),
    Text(String),
}

/// The API serves these numbers as strings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Coordinates {
    pub(crate) latitude: String,
    pub(crate) longitude: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Timezone {
    pub(crate) offset: &'static str,
    pub(crate) description: &'static str,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Login {
    pub(crate) uuid: String,
    pub(crate) username: String,
    pub(crate) password: &'static str,
    pub(crate) salt: String,
    pub(crate) md5: String,
    pub(crate) sha1: String,
    pub(crate) sha256: String,
}

/// `age` is in whole years up to now, so it changes with time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DateAndAge {
    pub(crate) date: String,
    pub(crate) age: i16,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Id {
    pub(crate) name: &'static str,
    pub(crate) value: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Picture {
    pub(crate) large: String,
    pub(crate) medium: String,
    pub(crate) thumbnail: String,
}
