//! The value of a condition.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use userpipeline_api::text::truncate;

use crate::pipeline::{
    apply::ApplyError,
    model::{reasons::UNSPECIFIED, whole_seconds},
};

/// Bytes. The apiserver accepts 32 KB.
const MESSAGE_LIMIT: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    status: &'static str,
    /// In CamelCase.
    pub reason: String,
    pub message: String,
}

impl Verdict {
    pub fn yes(reason: &str, message: &str) -> Self {
        Self::new("True", reason, message)
    }

    pub fn no(reason: &str, message: &str) -> Self {
        Self::new("False", reason, message)
    }

    pub fn unknown(reason: &str, message: &str) -> Self {
        Self::new("Unknown", reason, message)
    }

    /// A child could not be applied.
    pub fn failed(error: &ApplyError) -> Self {
        Self::no(error.reason(), &error.to_string())
    }

    fn new(status: &'static str, reason: &str, message: &str) -> Self {
        Self {
            status,
            reason: valid_reason(reason),
            message: truncate(message, MESSAGE_LIMIT),
        }
    }

    /// The same, with `reason` where it has none.
    #[must_use]
    pub fn or_reason(mut self, reason: &str) -> Self {
        if self.reason == UNSPECIFIED {
            reason.clone_into(&mut self.reason);
        }
        self
    }

    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    pub fn is_false(&self) -> bool {
        self.status == "False"
    }

    /// The condition; its transition time changes only with its status.
    pub fn condition(self, type_: &str, generation: Option<i64>, before: &[Condition], now: Timestamp) -> Condition {
        let old = before.iter().find(|c| c.type_ == type_ && c.status == self.status);
        Condition {
            type_: type_.to_owned(),
            status: self.status.to_owned(),
            reason: self.reason,
            message: self.message,
            observed_generation: generation,
            last_transition_time: old.map_or_else(|| whole_seconds(now), |c| c.last_transition_time.clone()),
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

/// A reason that the apiserver accepts, whatever a pod reported.
fn valid_reason(reason: &str) -> String {
    let valid: String = reason.chars().filter(char::is_ascii_alphanumeric).take(128).collect();
    if valid.starts_with(|c: char| c.is_ascii_alphabetic()) {
        valid
    } else {
        UNSPECIFIED.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_pod_reports_the_reason_is_valid() {
        for (reported, expected) in [
            ("CredentialsMissing", "CredentialsMissing"),
            ("no such thing!", "nosuchthing"),
            ("", UNSPECIFIED),
            ("404", UNSPECIFIED),
        ] {
            assert_eq!(Verdict::no(reported, "").reason, expected);
        }
    }

    #[test]
    fn the_transition_time_changes_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = Verdict::no("A", "a").condition("Ready", Some(1), &[], at(1));
        let second = Verdict::no("B", "b").condition("Ready", Some(2), std::slice::from_ref(&first), at(2));
        assert_eq!(second.last_transition_time, first.last_transition_time);
        let third = Verdict::yes("C", "c").condition("Ready", Some(2), &[second], at(3));
        assert_eq!(third.last_transition_time.0, at(3));
    }
}
