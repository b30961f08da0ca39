//! `Modified`: whether others than the operator changed children of the pipeline. Pure.

use super::verdict::Verdict;
use crate::pipeline::{apply::Override, observe::ForeignField};

/// Separate from `Ready`: a webhook or a colleague may be right, and the operator cannot know.
pub fn modified(overridden: &[Override], foreign: &[ForeignField], scaler: Option<&str>) -> Verdict {
    let mut sentences = Vec::new();
    if !foreign.is_empty() {
        sentences.push(format!(
            "others set fields in the templates of pods: {}. The operator leaves them; remove what is not intended, for example with `kubectl edit`",
            listed(foreign)
        ));
    }
    if !overridden.is_empty() {
        sentences.push(format!(
            "a mutating webhook changes what the operator applies: {}. Exempt these objects from the webhook, or set the fields in the spec",
            listed(overridden)
        ));
    }
    if let Some(manager) = scaler {
        sentences.push(format!(
            "{manager} scales the workers' Deployment, and the operator sets it back to spec.workers.replicas: scale the UserPipeline instead, also with an autoscaler"
        ));
    }
    let reason = if !overridden.is_empty() {
        "Overridden"
    } else if !foreign.is_empty() {
        "ForeignFields"
    } else if scaler.is_some() {
        "ScaledByOthers"
    } else {
        return Verdict::no("NotModified", "the children are as the operator applied them");
    };
    Verdict::yes(reason, &sentences.join(". "))
}

/// The verdict, with the foreign fields of this kind of object where it is False: they may be the cause.
pub fn with_foreign(verdict: Verdict, kind: &str, foreign: &[ForeignField]) -> Verdict {
    let of_kind: Vec<ForeignField> = foreign.iter().filter(|field| field.kind == kind).cloned().collect();
    if of_kind.is_empty() || !verdict.is_false() {
        return verdict;
    }
    let message = format!("{} (others set fields of these pods: {})", verdict.message, listed(&of_kind));
    Verdict::no(&verdict.reason, &message)
}

fn listed<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> ForeignField {
        ForeignField {
            kind: "Deployment",
            name: "users-worker".to_owned(),
            path: "spec.template.spec.containers[worker].env[HTTP_PROXY]".to_owned(),
            manager: "kubectl-set".to_owned(),
        }
    }

    #[test]
    fn every_foreign_or_overridden_field_is_named() {
        let limit = Override {
            kind: "Deployment",
            name: "users-worker".to_owned(),
            paths: vec!["spec.limit".to_owned()],
        };
        for (overridden, foreign, scaler, reason) in [
            (vec![], vec![], None, "NotModified"),
            (vec![], vec![proxy()], None, "ForeignFields"),
            (vec![limit.clone()], vec![], None, "Overridden"),
            (vec![limit], vec![proxy()], Some("kubectl"), "Overridden"),
            (vec![], vec![proxy()], Some("kubectl"), "ForeignFields"),
            (vec![], vec![], Some("kubectl"), "ScaledByOthers"),
        ] {
            let verdict = modified(&overridden, &foreign, scaler);
            assert_eq!(verdict.message.contains("kubectl scales"), scaler.is_some());
            assert_eq!((verdict.reason.as_str(), verdict.is_true()), (reason, reason != "NotModified"));
            assert_eq!(verdict.message.contains("env[HTTP_PROXY] (kubectl-set)"), !foreign.is_empty());
            assert_eq!(verdict.message.contains("spec.limit"), !overridden.is_empty());
        }
    }

    #[test]
    fn a_fault_of_the_pods_mentions_the_foreign_fields_of_their_template() {
        for (verdict, kind, mentioned) in [
            (Verdict::no("KafkaUnreachable", "no answer"), "Deployment", true),
            (Verdict::no("RunFailed", "failed"), "CronJob", false),
            (Verdict::yes("WorkersReady", "2 of 2"), "Deployment", false),
        ] {
            let message = with_foreign(verdict, kind, &[proxy()]).message;
            assert_eq!(message.contains("HTTP_PROXY"), mentioned, "{message}");
        }
    }
}
