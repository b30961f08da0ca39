//! What a check is for. Pure.

use kube::Resource;
use userpipeline_api::ConnectionCheck;

use crate::pipeline::{CachedConnection, labels::CHECK_NOW};

/// Characters of a nonce: it is part of a label, beside a number.
const NONCE_LIMIT: usize = 40;

/// A generation of the spec, and the nonce of a request: `3`, or `3.NONCE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub generation: i64,
    pub nonce: Option<String>,
}

impl Subject {
    /// The next check of a connection.
    pub fn of(connection: &CachedConnection) -> Self {
        Self {
            generation: connection.meta().generation.unwrap_or_default(),
            nonce: connection.annotation(CHECK_NOW).filter(|nonce| is_nonce(nonce)),
        }
    }

    /// The subject in a label.
    pub fn read(label: &str) -> Option<Self> {
        let (generation, nonce) = label
            .split_once('.')
            .map_or((label, None), |(generation, nonce)| (generation, Some(nonce)));
        Some(Self {
            generation: generation.parse().ok()?,
            nonce: nonce.map(str::to_owned),
        })
    }

    /// Whether the check had this subject. A nonce that is removed needs no other check.
    pub fn is_of(&self, check: &ConnectionCheck) -> bool {
        check.generation == Some(self.generation) && (self.nonce.is_none() || self.nonce == check.nonce)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.generation)?;
        self.nonce.iter().try_for_each(|nonce| write!(f, ".{nonce}"))
    }
}

fn is_nonce(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= NONCE_LIMIT && text.chars().all(is_allowed) && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_subject_is_a_label_and_other_values_of_the_annotation_are_ignored() {
        for (nonce, label) in [
            (None, "3"),
            (Some("1.5-a_B"), "3.1.5-a_B"),
            (Some(""), "3"),
            (Some("two words"), "3"),
            (Some("ends-"), "3"),
            (Some("01234567890123456789012345678901234567890"), "3"),
        ] {
            let annotations = nonce.map(|nonce| json!({CHECK_NOW: nonce}));
            let connection = json!({"metadata": {"name": "a", "generation": 3, "annotations": annotations}, "spec": {}});
            let subject = Subject::of(&serde_json::from_value(connection).unwrap());
            assert_eq!(subject.to_string(), label, "{nonce:?}");
            assert_eq!(Subject::read(label), Some(subject), "{nonce:?}");
        }
        assert_eq!(Subject::read(""), None);
    }
}
