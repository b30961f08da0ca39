//! When topics are ready, and which topics these are.

use super::*;

#[test]
fn the_topic_is_ready_when_strimzi_says_so_of_what_is_declared_now() {
    type Change = fn(&mut Value);
    let planned = planned_new();
    let not_ready = |reason: &str| json!([{"type": "Ready", "status": "False", "reason": reason, "message": "as Strimzi says"}]);
    for (case, change, expected) in [
        ("ready", (|_| {}) as Change, ("Ready", "")),
        (
            "an older generation",
            |topic| topic["status"]["observedGeneration"] = json!(1),
            ("Waiting", "WaitingForTopicOperator"),
        ),
        (
            "nothing yet",
            |topic| topic["status"] = json!(null),
            ("Waiting", "WaitingForTopicOperator"),
        ),
        (
            "an older spec",
            |topic| topic["metadata"]["annotations"][labels::DESIRED_HASH] = json!("older"),
            ("Waiting", "WaitingForTopicOperator"),
        ),
        (
            "being deleted",
            |topic| topic["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z"),
            ("Waiting", "BeingDeleted"),
        ),
        (
            "paused",
            |topic| topic["status"] = json!({"conditions": [{"type": "ReconciliationPaused", "status": "True"}]}),
            ("Unverified", "ReconciliationPaused"),
        ),
        (
            "unmanaged",
            |topic| topic["status"] = json!({"conditions": [{"type": "Unmanaged", "status": "True"}]}),
            ("Unverified", "Unmanaged"),
        ),
    ] {
        let decision = Case::running(&planned, Some("id-1"), change).decide();
        assert_eq!(reason(&decision), expected, "{case}");
        assert_eq!(decision.blocks().is_some(), ["Waiting", "Failed"].contains(&expected.0), "{case}");
    }
    for (reported, expected) in [
        ("KafkaError", "KafkaError"),
        ("NotSupported", "NotSupported"),
        ("ResourceConflict", "Conflict"),
    ] {
        let decision = Case::running(&planned, Some("id-1"), |topic| topic["status"]["conditions"] = not_ready(reported)).decide();
        assert_eq!(reason(&decision), ("Failed", expected));
        let Finding::Failed((_, message)) = &decision.finding else {
            unreachable!()
        };
        assert!(
            message.contains("kafka/demo.users") && message.contains("as Strimzi says"),
            "{message}"
        );
    }
}

#[test]
fn another_topic_of_the_same_name_is_refused_until_it_is_accepted() {
    let planned = planned_new();
    let id = |decision: &Decision| decision.status.as_ref().unwrap().resources[0].id.clone();
    for (case, recorded, accepted, expected, recorded_next) in [
        (
            "the first one is recorded first",
            None,
            "",
            ("Waiting", "WaitingForTopicOperator"),
            "id-1",
        ),
        ("the same", Some("id-1"), "", ("Ready", ""), "id-1"),
        ("another one", Some("id-0"), "", ("Failed", "TopicReplaced"), "id-0"),
        (
            "another one, and a third is accepted",
            Some("id-0"),
            "id-3",
            ("Failed", "TopicReplaced"),
            "id-0",
        ),
        (
            "an accepted one is recorded first",
            Some("id-0"),
            "id-1",
            ("Waiting", "WaitingForTopicOperator"),
            "id-1",
        ),
    ] {
        let decision = Case {
            accepted: vec![accepted.to_owned()],
            ..Case::running(&planned, recorded, |_| {})
        }
        .decide();
        assert_eq!(
            (reason(&decision), id(&decision).as_deref()),
            (expected, Some(recorded_next)),
            "{case}"
        );
    }
    // Of a topic that Strimzi does not touch, the schema Job knows the id
    let paused = |topic: &mut Value| topic["status"] = json!({"conditions": [{"type": "ReconciliationPaused", "status": "True"}]});
    for (recorded, verified, accepted, expected) in [
        (None, Some("id-v"), "", Some("id-v")),
        (Some("id-0"), Some("id-v"), "", Some("id-0")),
        (Some("id-0"), None, "id-1", Some("id-1")),
        (Some("id-1"), None, "id-1", Some("id-1")),
    ] {
        let decision = Case {
            verified_id: verified,
            accepted: Some(accepted).filter(|id| !id.is_empty()).map(str::to_owned).into_iter().collect(),
            ..Case::running(&planned, recorded, paused)
        }
        .decide();
        assert_eq!(id(&decision).as_deref(), expected, "{recorded:?} {verified:?} {accepted}");
    }
}

#[test]
fn a_kafka_topic_that_was_deleted_is_inspected_again_and_its_id_is_remembered() {
    // Given both KafkaTopics were created after an inspection, when somebody deletes the first
    let planned = planned_new();
    let inspection = Case::default().inspected(Vec::new()).recorded.unwrap().inspection;
    let mut case = Case::running(&planned, Some("id-1"), |_| {});
    case.recorded.as_mut().unwrap().inspection = inspection;
    case.observed = case.observed.map(|topics| topics[1..].to_vec());

    // Then the old inspection does not count
    let decision = case.decide();
    assert_eq!((reason(&decision), decision.apply.len()), (("Waiting", "Inspecting"), 0));
    assert!(decision.inspect.is_some());
    let decision = case.inspected(Vec::new()).decide();
    assert_eq!(decision.apply.len(), 2);
    assert_eq!(decision.status.unwrap().resources[0].id.as_deref(), Some("id-1"));
}
