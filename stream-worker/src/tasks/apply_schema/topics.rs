//! The topic and the dead-letter topic.

use std::collections::BTreeMap;

use userpipeline_api::{MAX_MESSAGE_BYTES, StoreAddress, StoreObjectKind, TopicManagement, document::SchemaPipeline, topic_id};
use userpipeline_stores::{
    Class, StoreError,
    kafka::{
        Connection,
        admin::{Admin, TopicState},
    },
};

use super::{
    topic_permission::{Permission, permission},
    topic_settings::{changed_settings, message_limit, needs_partitions},
    verify_topics::{verify_external, verify_strimzi},
};
use crate::{
    claims::{Claims, Kind},
    mode::Mode,
    sinks::SchemaTask,
};

const TOPIC: &str = "spec.kafka.topic.name";
const DEAD_LETTERS: &str = "spec.deadLetter.topic";

/// The topic's state, also after an error.
#[derive(Debug, Default)]
pub struct Topics {
    pub partitions: Option<i32>,
    /// The id of the topic, where it existed.
    pub id: Option<String>,
    /// The id of the Kafka cluster, where claims are taken.
    pub cluster: Option<String>,
    /// Why it differs from the spec.
    pub error: Option<StoreError>,
}

/// Creates, alters or verifies both topics. With `any_replicas`, an existing topic keeps its number of replicas. The outer error is
/// that of the brokers.
pub async fn apply(task: &SchemaTask<'_>, claims: &Claims, any_replicas: bool) -> Result<Topics, StoreError> {
    let SchemaTask {
        pipeline,
        secrets,
        mode,
        identities,
        ..
    } = *task;
    let connection = Connection::new(&pipeline.kafka.brokers(), secrets);
    let admin = Admin::connect(&connection, &format!("apply-schema {}", pipeline.id)).await?;
    let found = admin.topic(&pipeline.topic).await?;
    let mut topics = Topics {
        partitions: found.as_ref().map(|f| f.partitions),
        id: found.as_ref().map(|f| topic_id(&f.id)),
        ..Topics::default()
    };
    let dead_letters = &pipeline.dead_letter_topic;
    let (mut creator, mut dead_letter_creator) = (None, None);
    if claims.are_taken() {
        let cluster = admin.cluster_id().await?;
        identities.add(StoreAddress::kafka(&pipeline.kafka.bootstrap_servers).identified([cluster.clone()]));
        topics.cluster = Some(cluster.clone());
        // Those that others create are foreign, even those that are still missing. Strimzi creates its own, before this Job.
        let ours = pipeline.kafka.topic.management == TopicManagement::Direct;
        let is_new = !admin.group_exists(&pipeline.group_id).await?;
        claims.take(Kind::Group, &cluster, &pipeline.group_id, is_new).await?;
        // An external topic can have several readers.
        if ours || pipeline.landing_table.is_some() {
            creator = claims.take(Kind::Topic, &cluster, &pipeline.topic, ours && found.is_none()).await?;
        }
        let is_new = ours && admin.topic(dead_letters).await?.is_none();
        dead_letter_creator = claims.take(Kind::Topic, &cluster, dead_letters, is_new).await?;
    }
    let adopt = pipeline.kafka.topic.adopt;
    let ensured = match pipeline.kafka.topic.management {
        TopicManagement::Direct => {
            // Before either of them is created or changed.
            let topic = permission(&pipeline.topic, TOPIC, creator, adopt);
            let both = topic.and_then(|topic| Ok([topic, permission(dead_letters, DEAD_LETTERS, dead_letter_creator, adopt)?]));
            match both {
                Ok(permissions) => {
                    let task = TopicTask {
                        admin: &admin,
                        pipeline,
                        claims,
                        permissions,
                        mode,
                    };
                    task.create_or_alter(found, any_replicas, &mut topics.partitions).await
                }
                Err(error) => {
                    claims.created().inspect(|created| created.withdraw(StoreObjectKind::Topic, None));
                    Err(error)
                }
            }
        }
        TopicManagement::None => verify_external(&admin, pipeline, found.is_some()).await,
        // The plan itself has the KafkaTopics that would be created or changed.
        TopicManagement::Strimzi if mode.is_dry_run() => Ok(()),
        TopicManagement::Strimzi => verify_strimzi(&admin, pipeline, found.as_ref()).await,
    };
    topics.error = ensured.err();
    Ok(topics)
}

/// Creates or alters topics.
struct TopicTask<'a> {
    admin: &'a Admin,
    pipeline: &'a SchemaPipeline,
    claims: &'a Claims,
    /// For the topic, and for the dead-letter topic.
    permissions: [Permission; 2],
    mode: &'a Mode,
}

impl TopicTask<'_> {
    async fn create_or_alter(&self, found: Option<TopicState>, any_replicas: bool, partitions: &mut Option<i32>) -> Result<(), StoreError> {
        let Self { admin, pipeline, mode, .. } = *self;
        let (topic, desired) = (&pipeline.topic, &pipeline.kafka.topic);
        let runs = pipeline.landing_table.is_some();
        if let Some(found) = found {
            self.grow(&found, any_replicas).await?;
        } else if mode.applies(|| {
            format!(
                "Kafka: topic {topic} is made with {} partitions, {} replicas {:?}",
                desired.partitions,
                desired.replicas,
                desired.settings(runs)
            )
        }) {
            // With the declared settings only: where the brokers' own limit is higher, it applies.
            self.create(topic, desired.partitions, &desired.config).await?;
        }
        *partitions = Some(desired.partitions);
        let mut limit = desired.message_limit();
        // A dry run has created no topic with settings.
        if admin.topic(topic).await?.is_some() {
            let found = admin.config(topic).await?;
            limit = limit.max(message_limit(&found).unwrap_or(0));
            let declared = desired.config.contains_key(MAX_MESSAGE_BYTES);
            let changes = changed_settings(&desired.settings(runs), &found, declared);
            self.alter(topic, TOPIC, self.permissions[0], &changes).await?;
        }
        let dead_letters = &pipeline.dead_letter_topic;
        let settings = desired.dead_letter_settings(limit, pipeline.dead_letter_retention);
        if admin.topic(dead_letters).await?.is_some() {
            let found = admin.config(dead_letters).await?;
            let changes = changed_settings(&settings, &found, false);
            self.alter(dead_letters, DEAD_LETTERS, self.permissions[1], &changes).await?;
        } else if mode.applies(|| format!("Kafka: topic {dead_letters} is made {settings:?}")) {
            self.create(dead_letters, 1, &settings).await?;
        }
        Ok(())
    }

    async fn create(&self, topic: &str, partitions: i32, config: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let replicas = self.pipeline.kafka.topic.replicas;
        let created = self.admin.create(topic, partitions, replicas, config).await;
        // After another error, it may exist.
        if let (Err(error), Some(objects)) = (&created, self.claims.created())
            && error.class == Class::Configuration
        {
            objects.withdraw(StoreObjectKind::Topic, Some(topic));
        }
        created?;
        tracing::info!(topic, partitions, replicas, "topic made");
        Ok(())
    }

    /// Adds partitions, if any are missing.
    async fn grow(&self, found: &TopicState, any_replicas: bool) -> Result<(), StoreError> {
        let (topic, desired) = (&self.pipeline.topic, &self.pipeline.kafka.topic);
        let replicas = (!any_replicas).then_some(desired.replicas);
        if !needs_partitions(topic, desired.partitions, replicas, found)? {
            return Ok(());
        }
        let partitions = || format!("{} partitions instead of {}", desired.partitions, found.partitions);
        self.permissions[0].require(topic, TOPIC, || format!("partitions ({})", partitions()))?;
        if self.mode.applies(|| format!("Kafka: topic {topic} gets {}", partitions())) {
            self.admin.add_partitions(topic, desired.partitions).await?;
            tracing::info!(topic, from = found.partitions, to = desired.partitions, "partitions added");
        }
        Ok(())
    }

    /// Changes settings of a topic, if any.
    async fn alter(&self, topic: &str, field: &str, permission: Permission, changes: &BTreeMap<String, String>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        permission.require(topic, field, || format!("settings {changes:?}"))?;
        if self.mode.applies(|| format!("Kafka: topic {topic} gets the settings {changes:?}")) {
            self.admin.alter(topic, changes).await?;
            tracing::info!(topic, settings = ?changes.keys().collect::<Vec<_>>(), "settings changed");
        }
        Ok(())
    }
}
