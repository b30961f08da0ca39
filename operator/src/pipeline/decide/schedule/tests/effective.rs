//! Since when a schedule is in effect.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use userpipeline_api::condition;

use super::*;

const CREATED: &str = "2024-01-01T09:00:05Z";
const CHANGED: &str = "2024-01-05T12:30:00Z";

/// What the operator records after it reconciled the case.
fn recorded(case: &Case, now: &str) -> UserPipelineStatus {
    UserPipelineStatus {
        schedule: Some(case.decide(at(now)).status),
        ..UserPipelineStatus::default()
    }
}

fn since(case: &Case, now: &str) -> Option<Time> {
    case.decide(at(now)).status.effective_since
}

#[test]
fn a_schedule_is_in_effect_since_its_last_change() {
    let table = [
        ("nothing", json!({}), CREATED),
        ("cron", json!({"cron": "*/5 * * * *"}), CHANGED),
        ("time zone", json!({"timeZone": "Europe/Berlin"}), CHANGED),
        ("start", json!({"startAt": "2024-01-01T00:00:00Z"}), CHANGED),
        ("deadline", json!({"activeDeadlineSeconds": 10}), CHANGED),
        ("arguments", json!({"arguments": {"a": "b"}}), CREATED),
        ("catch-up", json!({"catchUp": {"enabled": true}}), CREATED),
    ];
    let first = recorded(&hourly(&json!({})), CREATED);
    for (case, change, expected) in table {
        let mut changed = hourly(&change);
        changed.recorded = first.clone();
        assert_eq!(since(&changed, CHANGED), Some(Time(at(expected))), "{case}");
        changed.recorded = recorded(&changed, CHANGED);
        assert_eq!(since(&changed, "2024-01-06T00:00:00Z"), Some(Time(at(expected))), "{case}, later");
    }
}

#[test]
fn a_resumed_schedule_is_in_effect_since_then() {
    let mut case = hourly(&json!({}));
    for (suspended, now) in [
        (false, CREATED),
        (true, "2024-01-02T00:00:00Z"),
        (true, "2024-01-03T00:00:00Z"),
        (false, CHANGED),
    ] {
        case.suspended = suspended;
        case.recorded = recorded(&case, now);
    }
    assert_eq!(since(&case, "2024-01-06T00:00:00Z"), Some(Time(at(CHANGED))));
}

#[test]
fn after_an_upgrade_only_a_spec_that_was_evaluated_before_keeps_its_result() {
    let condition = |status: &str, generation: i64| Condition {
        type_: condition::DATA_FRESH.to_owned(),
        status: status.to_owned(),
        observed_generation: Some(generation),
        last_transition_time: Time(at(CREATED)),
        reason: "R".to_owned(),
        message: String::new(),
    };
    for (before, expected) in [
        (condition("True", 2), None),
        (condition("False", 2), None),
        (condition("True", 1), Some(CHANGED)),
        (condition("Unknown", 2), Some(CHANGED)),
    ] {
        let mut case = hourly(&json!({}));
        case.recorded.schedule = Some(ScheduleStatus::default());
        case.recorded.conditions = vec![before.clone()];
        assert_eq!(since(&case, CHANGED), expected.map(|since| Time(at(since))), "{before:?}");
    }
}
