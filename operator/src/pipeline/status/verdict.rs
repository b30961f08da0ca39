//! What a condition says.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// More than a condition's message needs; the apiserver takes 32 KB.
const MESSAGE_LIMIT: usize = 2048;

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    status: &'static str,
    /// A CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl Verdict {
    /// It is so.
    pub fn yes(reason: &str, message: &str) -> Self {
        Self::new("True", reason, message)
    }

    /// It is not so.
    pub fn no(reason: &str, message: &str) -> Self {
        Self::new("False", reason, message)
    }

    /// That is not known.
    pub fn unknown(reason: &str, message: &str) -> Self {
        Self::new("Unknown", reason, message)
    }

    fn new(status: &'static str, reason: &str, message: &str) -> Self {
        Self {
            status,
            reason: word(reason),
            message: cut(message),
        }
    }

    /// The same, with `reason` where it has none.
    #[must_use]
    pub fn or_word(mut self, reason: &str) -> Self {
        if self.reason == UNSPECIFIED {
            reason.clone_into(&mut self.reason);
        }
        self
    }

    /// Whether it is so.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// Whether it is not so.
    pub fn is_false(&self) -> bool {
        self.status == "False"
    }

    /// As a condition; its transition time only moves when its status changes.
    pub fn condition(self, type_: &str, generation: Option<i64>, before: &[Condition], now: Timestamp) -> Condition {
        let old = before.iter().find(|c| c.type_ == type_ && c.status == self.status);
        Condition {
            type_: type_.to_owned(),
            status: self.status.to_owned(),
            reason: self.reason,
            message: self.message,
            observed_generation: generation,
            // The apiserver keeps seconds.
            last_transition_time: old.map_or_else(
                || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
                |c| c.last_transition_time.clone(),
            ),
        }
    }
}

impl From<&Condition> for Verdict {
    fn from(condition: &Condition) -> Self {
        let status = match condition.status.as_str() {
            "True" => "True",
            "False" => "False",
            _ => "Unknown",
        };
        Self::new(status, &condition.reason, &condition.message)
    }
}

const UNSPECIFIED: &str = "Unspecified";

/// A reason that the apiserver takes, whatever a pod has told.
fn word(reason: &str) -> String {
    let word: String = reason.chars().filter(char::is_ascii_alphanumeric).take(128).collect();
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        word
    } else {
        UNSPECIFIED.to_owned()
    }
}

fn cut(message: &str) -> String {
    let mut message = message.to_owned();
    if message.len() > MESSAGE_LIMIT {
        let end = (0..=MESSAGE_LIMIT).rev().find(|&i| message.is_char_boundary(i)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_pod_tells_the_reason_is_a_word() {
        for (told, kept) in [
            ("CredentialsMissing", "CredentialsMissing"),
            ("no such thing!", "nosuchthing"),
            ("", UNSPECIFIED),
            ("404", UNSPECIFIED),
        ] {
            assert_eq!(Verdict::no(told, "").reason, kept);
        }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = Verdict::no("A", "a").condition("Ready", Some(1), &[], at(1));
        let second = Verdict::no("B", "b").condition("Ready", Some(2), std::slice::from_ref(&first), at(2));
        assert_eq!(second.last_transition_time, first.last_transition_time);
        let third = Verdict::yes("C", "c").condition("Ready", Some(2), &[second], at(3));
        assert_eq!(third.last_transition_time.0, at(3));
    }
}
