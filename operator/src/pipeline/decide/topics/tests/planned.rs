//! What KafkaTopics declare.

use super::*;

#[test]
fn an_adopted_topic_keeps_its_settings_partitions_and_replicas() {
    let found = vec![
        existing(
            "demo.users",
            &[("segment.ms", "5"), ("retention.ms", "7"), ("max.message.bytes", "5000000")],
        ),
        existing("demo.users.dlq", &[("cleanup.policy", "compact")]),
    ];
    let mut found = found;
    found[0].message_limit = Some(5_000_000);
    let adopting = || Case {
        declared: declared(true, &[("retention.ms", "1000")]),
        ..Case::default()
    };
    let decision = adopting().inspected(found).decide();
    let [topic, dead_letters] = &decision.apply[..] else {
        panic!("{decision:?}")
    };
    assert_eq!(
        json!(topic.spec),
        json!({"topicName": "demo.users", "partitions": 5, "replicas": 1,
            "config": {"segment.ms": "5", "retention.ms": "1000", "max.message.bytes": "5000000"}})
    );
    assert_eq!(
        json!(dead_letters.spec),
        json!({"topicName": "demo.users.dlq", "partitions": 5, "replicas": 1,
            "config": {"cleanup.policy": "compact", "retention.ms": "3600000", "max.message.bytes": "5065536"}})
    );

    // And later on, although the status no longer has them
    let running = Case {
        recorded: None,
        observed: Ok(vec![live(topic, "id-1", |_| {}), live(dead_letters, "id-2", |_| {})]),
        ..adopting()
    };
    assert_eq!(running.decide().apply, decision.apply);
}

#[test]
fn a_new_topic_is_declared_as_a_schema_job_would_create_it() {
    let planned = planned_new();
    assert_eq!(
        json!(planned.iter().map(|planned| &planned.spec).collect::<Vec<_>>()),
        json!([
            {"topicName": "demo.users", "partitions": 3, "replicas": 2, "config": {"max.message.bytes": "1179648"}},
            {"topicName": "demo.users.dlq", "partitions": 1, "replicas": 2, "config": {"max.message.bytes": "1245184", "retention.ms": "3600000"}},
        ])
    );
}

#[test]
fn the_kafka_topics_of_an_earlier_pipeline_of_the_same_name_are_adopted() {
    let planned = planned_new();
    let of_earlier = |planned: &PlannedTopic, id: &str| {
        live(planned, id, |topic| {
            topic["metadata"]["labels"][labels::PIPELINE_UID] = json!("earlier");
        })
    };
    let decision = Case {
        observed: Ok(vec![of_earlier(&planned[0], "id-1"), of_earlier(&planned[1], "id-2")]),
        ..Case::default()
    }
    .decide();
    assert_eq!(reason(&decision), ("Waiting", "WaitingForTopicOperator"));
    assert!(decision.apply.iter().all(|planned| planned.is_adopted), "{decision:?}");
    assert_eq!(decision.apply[0].spec, planned[0].spec);
}
