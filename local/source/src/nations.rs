//! The nationalities of the API and the words that users are made of, read from `data/`.
//!
//! In a pattern `#` is a digit and `?` a capital letter; in an identity number `DD`, `MM` and `YY` come from the day of birth.

use std::sync::LazyLock;

use serde::{Deserialize, de::DeserializeOwned};

// The order decides which nation a random number selects, so it is part of what a seed yields.
const NATION_FILES: [&str; 21] = [
    include_str!("../data/nations/au.yaml"),
    include_str!("../data/nations/br.yaml"),
    include_str!("../data/nations/ca.yaml"),
    include_str!("../data/nations/ch.yaml"),
    include_str!("../data/nations/de.yaml"),
    include_str!("../data/nations/dk.yaml"),
    include_str!("../data/nations/es.yaml"),
    include_str!("../data/nations/fi.yaml"),
    include_str!("../data/nations/fr.yaml"),
    include_str!("../data/nations/gb.yaml"),
    include_str!("../data/nations/ie.yaml"),
    include_str!("../data/nations/in.yaml"),
    include_str!("../data/nations/ir.yaml"),
    include_str!("../data/nations/mx.yaml"),
    include_str!("../data/nations/nl.yaml"),
    include_str!("../data/nations/no.yaml"),
    include_str!("../data/nations/nz.yaml"),
    include_str!("../data/nations/rs.yaml"),
    include_str!("../data/nations/tr.yaml"),
    include_str!("../data/nations/ua.yaml"),
    include_str!("../data/nations/us.yaml"),
];
const ANY_NATION_FILE: &str = include_str!("../data/any_nation.yaml");

pub(crate) static NATIONS: LazyLock<Vec<Nation>> = LazyLock::new(|| NATION_FILES.into_iter().map(parse_or_panic).collect());
pub(crate) static ANY_NATION: LazyLock<AnyNation> = LazyLock::new(|| parse_or_panic(ANY_NATION_FILE));

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nation {
    pub(crate) code: String,
    pub(crate) country: String,
    pub(crate) male: Vec<String>,
    pub(crate) female: Vec<String>,
    pub(crate) last: Vec<String>,
    pub(crate) streets: Vec<String>,
    pub(crate) cities: Vec<String>,
    pub(crate) states: Vec<String>,
    pub(crate) phone: String,
    pub(crate) cell: String,
    /// `None` is served as `{"name":"","value":null}`.
    pub(crate) id: Option<IdNumber>,
    pub(crate) postcode: PostcodeRule,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdNumber {
    pub(crate) name: String,
    pub(crate) pattern: String,
}

/// A postcode is an integer in most countries and text in some.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum PostcodeRule {
    Range { low: u64, high: u64 },
    Patterns(Vec<String>),
}

/// Words that do not depend on the nationality.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnyNation {
    pub(crate) titles: Vec<String>,
    pub(crate) passwords: Vec<String>,
    pub(crate) adjectives: Vec<String>,
    pub(crate) animals: Vec<String>,
    pub(crate) timezones: Vec<TimezoneName>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimezoneName {
    pub(crate) offset: String,
    pub(crate) description: String,
}

/// The nationality of a code, in upper or lower case.
pub(crate) fn find(code: &str) -> Option<&'static Nation> {
    NATIONS.iter().find(|nation| nation.code.eq_ignore_ascii_case(code))
}

fn parse<T: DeserializeOwned>(text: &str) -> serde_yaml::Result<T> {
    serde_yaml::from_str(text)
}

// The files are compiled in, and a test parses each of them, so this never panics in a build that passes its tests.
fn parse_or_panic<T: DeserializeOwned>(text: &str) -> T {
    parse(text).unwrap_or_else(|error| panic!("a file of data/ is invalid: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_nation_file_parses_and_has_at_least_one_word_of_each_kind() {
        for text in NATION_FILES {
            let nation: Nation = parse(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"));
            let words = [
                &nation.male,
                &nation.female,
                &nation.last,
                &nation.streets,
                &nation.cities,
                &nation.states,
            ];
            for words in words {
                assert!(!words.is_empty() && words.iter().all(|word| !word.is_empty()), "{nation:?}");
            }
            match &nation.postcode {
                PostcodeRule::Range { low, high } => assert!(low <= high, "{nation:?}"),
                PostcodeRule::Patterns(patterns) => assert!(!patterns.is_empty(), "{nation:?}"),
            }
        }
    }

    #[test]
    fn the_file_for_any_nation_parses_and_has_at_least_one_word_of_each_kind() {
        let words: AnyNation = parse(ANY_NATION_FILE).unwrap();
        for words in [&words.titles, &words.passwords, &words.adjectives, &words.animals] {
            assert!(!words.is_empty());
        }
        assert!(!words.timezones.is_empty());
    }

    #[test]
    fn codes_are_unique_and_each_finds_its_nation() {
        let codes: BTreeSet<_> = NATIONS.iter().map(|nation| nation.code.as_str()).collect();
        assert_eq!(codes.len(), NATION_FILES.len());
        for code in codes {
            assert_eq!(find(&code.to_lowercase()).unwrap().code, code);
        }
    }

    #[test]
    fn every_file_of_the_folder_is_compiled_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/nations");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), NATION_FILES.len());
    }
}
