//! What a topic must be like, compared with what it is like. Pure.

use std::collections::BTreeMap;

use userpipeline_api::{MAX_MESSAGE_BYTES, Topic, dead_letter_limit};
use userpipeline_stores::{StoreError, error::TOPIC_MISMATCH, kafka::admin::TopicState};

/// The limit of a topic's messages, in bytes, that is in force.
pub fn message_limit(config: &BTreeMap<String, String>) -> Option<u64> {
    config.get(MAX_MESSAGE_BYTES)?.parse().ok()
}

/// Whether an external topic accepts what runs would publish; what it does not would stay in the outbox.
pub fn verify_message_limit(topic: &str, desired: &Topic, found: Option<u64>) -> Result<(), StoreError> {
    match found {
        Some(found) if found < desired.message_limit() => Err(StoreError::configuration(
            TOPIC_MISMATCH,
            format!(
                "topic `{topic}` takes messages of up to {found} bytes ({MAX_MESSAGE_BYTES}), and runs would publish larger ones, of up to {}: set \
                 it to \"{found}\" in spec.kafka.topic.config as well, for larger records to be rejected, or raise it in the topic",
                desired.message_limit()
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether an external dead-letter topic accepts each message of the topic; the first one that it does not would block its worker.
pub fn verify_dead_letter_limit(dead_letters: &str, topic: &str, takes: Option<u64>, found: Option<u64>) -> Result<(), StoreError> {
    let desired = takes.map_or(0, dead_letter_limit);
    match found {
        Some(found) if found < desired => Err(StoreError::configuration(
            TOPIC_MISMATCH,
            format!(
                "dead-letter topic `{dead_letters}` takes messages of up to {found} bytes ({MAX_MESSAGE_BYTES}), and dead letters of topic `{topic}` may have \
                 {desired}: a message of that topic, and headers that say what is wrong with it. Raise it in the dead-letter topic"
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether partitions must be added; an error where the topic cannot be changed to match.
pub fn needs_partitions(topic: &str, partitions: i32, replicas: Option<i32>, found: &TopicState) -> Result<bool, StoreError> {
    let mismatch = |message: String| Err(StoreError::configuration(TOPIC_MISMATCH, message));
    if found.partitions > partitions {
        return mismatch(format!(
            "topic `{topic}` has {} partitions and spec.kafka.topic.partitions is {partitions}: Kafka does not remove partitions, so set it to {}",
            found.partitions, found.partitions
        ));
    }
    if let Some(replicas) = replicas.filter(|replicas| found.replicas != *replicas) {
        return mismatch(format!(
            "topic `{topic}` keeps {} replicas and spec.kafka.topic.replicas is {replicas}: reassign the partitions with Kafka's own tools, or re-create the pipeline with replicas: {}",
            found.replicas, found.replicas
        ));
    }
    Ok(found.partitions < partitions)
}

/// The settings that are not in force. Where the limit of messages is not declared, a higher one is fine.
pub fn changed_settings(
    desired: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
    bound_declared: bool,
) -> BTreeMap<String, String> {
    let bytes = |text: &str| text.parse::<u64>().ok();
    let fine = |key: &str, desired: &str| {
        found.get(key).is_some_and(|found| {
            found == desired.trim()
                || (key == MAX_MESSAGE_BYTES && !bound_declared && bytes(found).is_some_and(|found| Some(found) >= bytes(desired)))
        })
    };
    let missing = desired.iter().filter(|(key, value)| !fine(key, value));
    missing.map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use userpipeline_api::TopicManagement;

    use super::*;

    #[test]
    fn a_topic_grows_but_never_shrinks() {
        let found = |partitions, replicas| TopicState {
            id: "x".into(),
            partitions,
            replicas,
            led: true,
        };
        assert_eq!(needs_partitions("t", 6, Some(1), &found(6, 1)), Ok(false));
        assert_eq!(needs_partitions("t", 6, Some(1), &found(3, 1)), Ok(true));
        assert!(
            needs_partitions("t", 6, Some(1), &found(8, 1))
                .unwrap_err()
                .message
                .contains("has 8 partitions and spec.kafka.topic.partitions is 6")
        );
        assert!(
            needs_partitions("t", 6, Some(3), &found(6, 1))
                .unwrap_err()
                .message
                .contains("keeps 1 replicas and spec.kafka.topic.replicas is 3")
        );
        assert_eq!(
            needs_partitions("t", 6, None, &found(6, 1)),
            Ok(false),
            "a default applies to new topics only"
        );
    }

    #[test]
    fn only_declared_settings_that_differ_are_changed() {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let desired = map(&[("retention.ms", "1000"), ("cleanup.policy", "compact")]);
        let found = map(&[("retention.ms", "2000"), ("cleanup.policy", "compact"), ("segment.ms", "5")]);
        assert_eq!(changed_settings(&desired, &found, true), map(&[("retention.ms", "1000")]));
    }

    #[test]
    fn an_undeclared_bound_of_messages_is_only_raised() {
        let of = |bytes: &str| BTreeMap::from([(MAX_MESSAGE_BYTES.to_owned(), bytes.to_owned())]);
        for (found, declared, changed) in [
            ("1048588", false, true),
            ("1179648", false, false),
            ("5000000", false, false),
            ("5000000", true, true),
            ("1048588", true, true),
        ] {
            let changes = changed_settings(&of("1179648"), &of(found), declared);
            assert_eq!(!changes.is_empty(), changed, "{found} {declared}");
        }
    }

    #[test]
    fn an_external_topic_must_take_what_runs_would_publish() {
        let mut topic = Topic {
            management: TopicManagement::None,
            ..Topic::default()
        };
        assert_eq!(verify_message_limit("t", &topic, Some(1_048_588)), Ok(()));
        let refused = verify_message_limit("t", &topic, Some(500_000)).unwrap_err();
        assert_eq!(refused.reason, TOPIC_MISMATCH);
        assert!(refused.message.contains("up to 500000 bytes"), "{}", refused.message);
        topic.config.insert(MAX_MESSAGE_BYTES.to_owned(), "500000".to_owned());
        assert_eq!(verify_message_limit("t", &topic, Some(500_000)), Ok(()));
    }

    #[test]
    fn an_external_dead_letter_topic_must_take_each_message_and_its_headers() {
        for (takes, found, fits) in [
            (Some(1_048_588), Some(1_048_588), false),
            (Some(1_048_588), Some(1_114_124), true),
            (Some(5_000_000), Some(1_114_124), false),
            (None, Some(1), true),
            (Some(5_000_000), None, true),
        ] {
            let result = verify_dead_letter_limit("t.dlq", "t", takes, found);
            assert_eq!(result.is_ok(), fits, "{takes:?} {found:?}: {result:?}");
        }
        let refused = verify_dead_letter_limit("t.dlq", "t", Some(5_000_000), Some(1_048_588)).unwrap_err();
        assert_eq!(refused.reason, TOPIC_MISMATCH);
        assert!(
            refused.message.contains("dead letters of topic `t` may have 5065536"),
            "{}",
            refused.message
        );
    }
}
