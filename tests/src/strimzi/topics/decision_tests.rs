use kube::core::ObjectMeta;
use serde_json::json;

use super::*;
use crate::strimzi::resources::{Condition, TopicStatus};

const PREFIX: &str = "e2e-x";

/// A topic of the story, with a finalizer.
fn topic(name: &str) -> KafkaTopic {
    let metadata: ObjectMeta = serde_json::from_value(json!({
        "name": name, "namespace": "e2e-x", "creationTimestamp": "2026-01-01T00:00:01Z", "finalizers": [FINALIZER]
    }))
    .unwrap();
    KafkaTopic {
        types: None,
        metadata,
        spec: TopicSpec::default(),
        status: None,
    }
}

fn changed(change: impl FnOnce(&mut KafkaTopic)) -> KafkaTopic {
    let mut topic = topic("e2e-x.users");
    change(&mut topic);
    topic
}

fn annotate(topic: &mut KafkaTopic, name: &str, value: &str) {
    topic.annotations_mut().insert(name.to_owned(), value.to_owned());
}

fn rename(topic: &mut KafkaTopic) {
    topic.status = Some(TopicStatus {
        topic_name: Some("e2e-x.before".to_owned()),
        ..TopicStatus::default()
    });
}

fn delete(topic: &mut KafkaTopic) {
    topic.metadata.deletion_timestamp = topic.metadata.creation_timestamp.clone();
}

fn refused(reason: &'static str, message: &str) -> Decision {
    Decision::Refuse(Refusal::new(reason, message))
}

#[test]
fn a_resource_is_handled_by_its_name_its_annotations_and_its_deletion() {
    let renamed = || refused("NotSupported", "Changing spec.topicName is not supported");
    for (what, topic, expected) in [
        ("new", changed(|_| {}), Decision::Reconcile),
        ("unmanaged", changed(|t| annotate(t, MANAGED, "false")), Decision::Unmanaged),
        ("managed", changed(|t| annotate(t, MANAGED, "true")), Decision::Reconcile),
        (
            "paused",
            changed(|t| annotate(t, "strimzi.io/pause-reconciliation", "true")),
            Decision::Paused,
        ),
        ("renamed", changed(rename), renamed()),
        ("deleted", changed(delete), Decision::DeleteTopic),
        (
            "deleted and released",
            changed(|t| {
                delete(t);
                t.finalizers_mut().clear();
            }),
            Decision::Nothing,
        ),
        (
            "deleted and renamed",
            changed(|t| {
                delete(t);
                rename(t);
            }),
            renamed(),
        ),
        (
            "deleted and unmanaged",
            changed(|t| {
                delete(t);
                annotate(t, MANAGED, "false");
            }),
            Decision::Release,
        ),
        (
            "deleted and paused",
            changed(|t| {
                delete(t);
                annotate(t, "strimzi.io/pause-reconciliation", "true");
            }),
            Decision::DeleteTopic,
        ),
        (
            "of another story",
            changed(|t| t.spec.topic_name = Some("orders".to_owned())),
            refused(
                "OutsideOfTheStory",
                "the stand-in manages only topics whose name begins with e2e-x, not orders",
            ),
        ),
    ] {
        assert_eq!(decide(&topic, &[], PREFIX), expected, "{what}");
    }
}

#[test]
fn of_two_resources_for_a_topic_the_older_one_has_it() {
    let conflict = |name: &str| refused("ResourceConflict", &format!("Managed by Ref{{namespace='e2e-x', name='{name}'}}"));
    let rival = |seconds: u32, ready: bool| {
        let mut rival = topic("rival");
        rival.spec.topic_name = Some("e2e-x.users".to_owned());
        rival.metadata.creation_timestamp = serde_json::from_value(json!(format!("2026-01-01T00:00:0{seconds}Z"))).unwrap();
        rival.status = ready.then(|| TopicStatus {
            conditions: vec![Condition {
                kind: "Ready".to_owned(),
                status: "True".to_owned(),
                ..Condition::default()
            }],
            ..TopicStatus::default()
        });
        rival
    };
    let other_topic = topic("e2e-x.others");
    let unmanaged = {
        let mut rival = rival(0, false);
        annotate(&mut rival, MANAGED, "false");
        rival
    };
    let ready = || {
        let mut topic = rival(1, true);
        topic.metadata.name = Some("e2e-x.users".to_owned());
        topic
    };
    for (what, topic, others, expected) in [
        ("an older one", topic("e2e-x.users"), vec![rival(0, false)], conflict("rival")),
        ("a newer one", topic("e2e-x.users"), vec![rival(2, false)], Decision::Reconcile),
        (
            "one of the same second",
            topic("e2e-x.users"),
            vec![rival(1, false)],
            conflict("rival"),
        ),
        (
            "one of the same second, after this is ready",
            ready(),
            vec![rival(1, false)],
            Decision::Reconcile,
        ),
        (
            "one for another topic",
            topic("e2e-x.users"),
            vec![other_topic],
            Decision::Reconcile,
        ),
        ("an unmanaged one", topic("e2e-x.users"), vec![unmanaged], Decision::Reconcile),
    ] {
        assert_eq!(decide(&topic, &others, PREFIX), expected, "{what}");
    }
}

#[test]
fn an_existing_topic_gets_the_settings_of_the_spec_and_no_others() {
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let existing = |dynamic: &[(&str, &str)]| Existing {
        partitions: 3,
        replicas: 1,
        config: { pairs(&[("retention.ms", "604800000")]).into_iter() }
            .chain(pairs(dynamic))
            .collect(),
        dynamic: dynamic.iter().map(|(name, _)| (*name).to_owned()).collect(),
    };
    let config = |config: Option<&[(&str, &str)]>| Changes {
        config: config.map(pairs),
        ..Changes::default()
    };
    let refused = |message: &str| Changes {
        refused: Some(Refusal::new("NotSupported", message)),
        ..Changes::default()
    };
    let partitions = Changes {
        partitions: Some(4),
        ..Changes::default()
    };
    let replicas = "Replication factor change not supported, but required for partitions [0, 1, 2]";
    for (spec, dynamic, expected) in [
        (json!({}), vec![], Changes::default()),
        (
            json!({"config": {"retention.ms": 1000}}),
            vec![],
            config(Some(&[("retention.ms", "1000")])),
        ),
        (json!({"config": {"retention.ms": 604_800_000}}), vec![], config(None)),
        (
            json!({"config": {"retention.ms": 1000}}),
            vec![("retention.ms", "1000")],
            config(None),
        ),
        (json!({}), vec![("cleanup.policy", "compact")], config(Some(&[]))),
        (
            json!({"config": {"cleanup.policy": ["compact", "delete"]}}),
            vec![("cleanup.policy", "compact"), ("segment.ms", "5")],
            config(Some(&[("cleanup.policy", "compact,delete")])),
        ),
        (json!({"partitions": 3, "replicas": 1}), vec![], Changes::default()),
        (json!({"partitions": 4}), vec![], partitions),
        (json!({"partitions": 2}), vec![], refused("Decreasing partitions not supported")),
        (json!({"replicas": 2}), vec![], refused(replicas)),
    ] {
        let parsed: TopicSpec = serde_json::from_value(spec.clone()).unwrap();
        assert_eq!(changes(&parsed, &existing(&dynamic)), expected, "{spec}");
    }
}
