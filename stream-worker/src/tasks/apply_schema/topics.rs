//! The topic and the dead-letter topic.

use std::{collections::BTreeMap, time::Duration};

use userpipeline_api::{MAX_MESSAGE_BYTES, Topic, TopicManagement, document::SchemaPipeline};
use userpipeline_stores::{
    Secrets, StoreError,
    error::{TOPIC_MISMATCH, TOPIC_MISSING},
    kafka::{
        Connection,
        admin::{Admin, TopicState},
    },
};

use crate::{
    claims::{Claims, Kind},
    mode::Mode,
};

/// What a dead letter's headers add to the message, generously.
const DEAD_LETTER_HEADERS: u64 = 64 << 10;

/// The topic's state, also after an error.
#[derive(Debug, Default)]
pub struct Topics {
    pub partitions: Option<i32>,
    /// The id of the Kafka cluster, where claims are taken.
    pub cluster: Option<String>,
    /// Why it differs from the spec.
    pub error: Option<StoreError>,
}

/// Creates, alters or verifies both topics. With `any_replicas`, an existing topic keeps its number of replicas. The outer error is
/// that of the brokers.
pub async fn apply(
    pipeline: &SchemaPipeline,
    secrets: &Secrets,
    claims: &Claims,
    any_replicas: bool,
    mode: &Mode,
) -> Result<Topics, StoreError> {
    let connection = Connection::new(&pipeline.kafka.brokers(), secrets);
    let admin = Admin::connect(&connection, &format!("apply-schema {}", pipeline.id)).await?;
    let found = admin.topic(&pipeline.topic).await?;
    let mut topics = Topics {
        partitions: found.as_ref().map(|f| f.partitions),
        ..Topics::default()
    };
    if claims.are_taken() {
        let cluster = admin.cluster_id().await?;
        topics.cluster = Some(cluster.clone());
        // Externally managed topics are foreign, even those that are still missing.
        let ours = pipeline.kafka.topic.management == TopicManagement::Direct;
        claims.take(Kind::Group, &cluster, &pipeline.group_id, true).await?;
        // An external topic can have several readers.
        if ours || pipeline.landing_table.is_some() {
            claims.take(Kind::Topic, &cluster, &pipeline.topic, ours && found.is_none()).await?;
        }
        let dead_letters = admin.topic(&pipeline.dead_letter_topic).await?;
        claims
            .take(Kind::Topic, &cluster, &pipeline.dead_letter_topic, ours && dead_letters.is_none())
            .await?;
    }
    let ensured = match pipeline.kafka.topic.management {
        TopicManagement::Direct => create_or_alter(&admin, pipeline, found, any_replicas, &mut topics.partitions, mode).await,
        TopicManagement::None => verify_external(&admin, pipeline, found.is_some()).await,
    };
    topics.error = ensured.err();
    Ok(topics)
}

async fn verify_external(admin: &Admin, pipeline: &SchemaPipeline, found: bool) -> Result<(), StoreError> {
    let missing = |topic: &str, field: &str| {
        StoreError::configuration(
            TOPIC_MISSING,
            format!("topic `{topic}` ({field}) is not there, and spec.kafka.topic.management is None: make it, or choose Direct"),
        )
    };
    let topic = &pipeline.topic;
    if !found {
        return Err(missing(topic, "spec.kafka.topic.name"));
    }
    let takes = message_limit(&admin.config(topic).await?);
    if pipeline.landing_table.is_some() {
        verify_message_limit(topic, &pipeline.kafka.topic, takes)?;
    }
    // The first bad message needs it.
    let dead_letters = &pipeline.dead_letter_topic;
    if admin.topic(dead_letters).await?.is_none() {
        return Err(missing(dead_letters, "spec.deadLetter.topic"));
    }
    verify_dead_letter_limit(dead_letters, topic, takes, message_limit(&admin.config(dead_letters).await?))
}

async fn create_or_alter(
    admin: &Admin,
    pipeline: &SchemaPipeline,
    found: Option<TopicState>,
    any_replicas: bool,
    partitions: &mut Option<i32>,
    mode: &Mode,
) -> Result<(), StoreError> {
    let (topic, desired) = (&pipeline.topic, &pipeline.kafka.topic);
    let runs = pipeline.landing_table.is_some();
    if let Some(found) = found {
        let replicas = (!any_replicas).then_some(desired.replicas);
        if needs_partitions(topic, desired.partitions, replicas, &found)?
            && mode.applies(|| {
                format!(
                    "Kafka: topic {topic} gets {} partitions instead of {}",
                    desired.partitions, found.partitions
                )
            })
        {
            admin.add_partitions(topic, desired.partitions).await?;
            tracing::info!(topic, from = found.partitions, to = desired.partitions, "partitions added");
        }
    } else if mode.applies(|| {
        format!(
            "Kafka: topic {topic} is made with {} partitions, {} replicas {:?}",
            desired.partitions,
            desired.replicas,
            config(desired, runs)
        )
    }) {
        // With the declared settings only: where the brokers' own limit is higher, it applies.
        admin.create(topic, desired.partitions, desired.replicas, &desired.config).await?;
        tracing::info!(topic, partitions = desired.partitions, replicas = desired.replicas, "topic made");
    }
    *partitions = Some(desired.partitions);
    let mut limit = desired.message_limit();
    // A dry run has created no topic with settings.
    if admin.topic(topic).await?.is_some() {
        let found = admin.config(topic).await?;
        limit = limit.max(message_limit(&found).unwrap_or(0));
        let declared = desired.config.contains_key(MAX_MESSAGE_BYTES);
        alter_settings(admin, topic, &changed_settings(&config(desired, runs), &found, declared), mode).await?;
    }
    let dead_letters = &pipeline.dead_letter_topic;
    let settings = dead_letter_config(&desired.config, limit, pipeline.dead_letter_retention);
    if admin.topic(dead_letters).await?.is_some() {
        let found = admin.config(dead_letters).await?;
        alter_settings(admin, dead_letters, &changed_settings(&settings, &found, false), mode).await?;
    } else if mode.applies(|| format!("Kafka: topic {dead_letters} is made {settings:?}")) {
        admin.create(dead_letters, 1, desired.replicas, &settings).await?;
        tracing::info!(topic = dead_letters, "dead-letter topic made");
    }
    Ok(())
}

/// Changes settings of a topic, if any.
async fn alter_settings(admin: &Admin, topic: &str, changes: &BTreeMap<String, String>, mode: &Mode) -> Result<(), StoreError> {
    if !changes.is_empty() && mode.applies(|| format!("Kafka: topic {topic} gets the settings {changes:?}")) {
        admin.alter(topic, changes).await?;
        tracing::info!(topic, settings = ?changes.keys().collect::<Vec<_>>(), "settings changed");
    }
    Ok(())
}

/// The limit of a topic's messages, in bytes, that is in force.
fn message_limit(config: &BTreeMap<String, String>) -> Option<u64> {
    config.get(MAX_MESSAGE_BYTES)?.parse().ok()
}

/// Whether an external topic accepts what runs would publish; what it does not would stay in the outbox.
fn verify_message_limit(topic: &str, desired: &Topic, found: Option<u64>) -> Result<(), StoreError> {
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
fn verify_dead_letter_limit(dead_letters: &str, topic: &str, takes: Option<u64>, found: Option<u64>) -> Result<(), StoreError> {
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
fn needs_partitions(topic: &str, partitions: i32, replicas: Option<i32>, found: &TopicState) -> Result<bool, StoreError> {
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
fn changed_settings(
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

/// The settings of the topic: as declared, and room for large records where there are runs, which reject what is larger.
fn config(topic: &Topic, runs: bool) -> BTreeMap<String, String> {
    let mut config = topic.config.clone();
    if runs {
        config
            .entry(MAX_MESSAGE_BYTES.to_owned())
            .or_insert_with(|| topic.message_limit().to_string());
    }
    config
}

/// A dead letter is the message, of at most `limit` bytes, and some headers, so its topic must take larger messages.
fn dead_letter_limit(limit: u64) -> u64 {
    limit.saturating_add(DEAD_LETTER_HEADERS).min(i32::MAX as u64)
}

fn dead_letter_config(topic: &BTreeMap<String, String>, limit: u64, retention: Duration) -> BTreeMap<String, String> {
    let mut config = BTreeMap::from([
        (MAX_MESSAGE_BYTES.to_owned(), dead_letter_limit(limit).to_string()),
        ("retention.ms".to_owned(), retention.as_millis().to_string()),
    ]);
    if let Some(insync) = topic.get("min.insync.replicas") {
        config.insert("min.insync.replicas".to_owned(), insync.clone());
    }
    config
}

#[cfg(test)]
mod tests {
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
        assert_eq!(config(&Topic::default(), true), of("1179648"));
        assert_eq!(config(&Topic::default(), false), BTreeMap::new());
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

    #[test]
    fn a_dead_letter_has_room_for_its_headers() {
        let config = dead_letter_config(&BTreeMap::new(), 5_000_000, Duration::from_secs(3600));
        assert_eq!(config[MAX_MESSAGE_BYTES], "5065536");
        assert_eq!(config["retention.ms"], "3600000");
    }
}
