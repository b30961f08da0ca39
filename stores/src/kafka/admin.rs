//! Kafka's admin API: topics, groups, settings.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigEntry, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication},
    client::ClientContext,
    config::FromClientConfigAndContext,
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};

pub use super::native::TopicState;
use super::{connection::Connection, errors, native, refusal::Reporter};
use crate::{
    StoreError,
    error::{GROUP_NOT_EMPTY, KAFKA_FAILED, KAFKA_UNREACHABLE},
};

const TIMEOUT: Duration = Duration::from_secs(15);

/// A client of Kafka's admin API, for one task: librdkafka's log of it is not read, and its errors only after a failed request.
#[derive(Clone)]
pub struct Admin {
    client: Arc<AdminClient<Reporter>>,
    connection: Connection,
}

impl Admin {
    /// A client. Fails here where certificates are refused; otherwise it connects with the first request.
    pub async fn connect(connection: &Connection, client_id: &str) -> Result<Self, StoreError> {
        let mut config = connection.client_config(client_id)?;
        connection.verify().await?;
        config.set("socket.timeout.ms", TIMEOUT.as_millis().to_string());
        let client = AdminClient::from_config_and_context(&config, connection.reporter())
            .map_err(|e| errors::explain("no client for spec.kafka.bootstrapServers", &e))?;
        Ok(Self {
            client: Arc::new(client),
            connection: connection.clone(),
        })
    }

    /// None where the topic does not exist.
    pub async fn topic(&self, topic: &str) -> Result<Option<TopicState>, StoreError> {
        let name = topic.to_owned();
        self.blocking(move |client| native::describe_topic(client, &name, TIMEOUT)).await
    }

    /// Creates a topic and waits until each partition has a leader. One that was created meanwhile is no error.
    pub async fn create(&self, topic: &str, partitions: i32, replicas: i32, config: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let settings: Vec<&str> = config.keys().map(String::as_str).collect();
        let what = format!(
            "making topic `{topic}` with {partitions} partitions on {replicas} brokers each, settings [{}]",
            settings.join(", ")
        );
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
        for (key, value) in config {
            new = new.set(key, value);
        }
        let results = self.bounded(&what, self.client.create_topics([&new], &options())).await?;
        match results.into_iter().find_map(Result::err) {
            None | Some((_, Code::TopicAlreadyExists)) => self.await_topic(topic, partitions).await,
            Some((_, code)) => Err(errors::explain_code(&what, code, "")),
        }
    }

    /// Adds partitions up to `total`, and waits until each has a leader.
    pub async fn add_partitions(&self, topic: &str, total: i32) -> Result<(), StoreError> {
        let what = format!("adding partitions to topic `{topic}` up to {total}");
        let new = NewPartitions::new(topic, usize::try_from(total).unwrap_or(0));
        let results = self.bounded(&what, self.client.create_partitions([&new], &options())).await?;
        match results.into_iter().find_map(Result::err) {
            None => self.await_topic(topic, total).await,
            Some((_, code)) => Err(errors::explain_code(&what, code, "")),
        }
    }

    /// The effective settings of a topic, including the brokers' defaults.
    pub async fn config(&self, topic: &str) -> Result<BTreeMap<String, String>, StoreError> {
        self.settings(topic, |_| true).await
    }

    /// The settings of the topic itself, without the brokers' defaults.
    pub async fn own_config(&self, topic: &str) -> Result<BTreeMap<String, String>, StoreError> {
        self.settings(topic, |entry| entry.source == ConfigSource::DynamicTopic).await
    }

    async fn settings(&self, topic: &str, wants: impl Fn(&ConfigEntry) -> bool) -> Result<BTreeMap<String, String>, StoreError> {
        let what = format!("reading the settings of topic `{topic}`");
        let results = self
            .bounded(&what, self.client.describe_configs([&ResourceSpecifier::Topic(topic)], &options()))
            .await?;
        let mut settings = BTreeMap::new();
        for result in results {
            let resource = result.map_err(|code| errors::explain_code(&what, code, ""))?;
            let entries = resource.entries.into_iter().filter(|entry| wants(entry));
            settings.extend(entries.filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(settings)
    }

    /// Identifies the cluster, at whatever address it is reached.
    pub async fn cluster_id(&self) -> Result<String, StoreError> {
        self.blocking(|client| {
            let id = client.fetch_cluster_id(TIMEOUT);
            id.ok_or_else(|| StoreError::transient(KAFKA_UNREACHABLE, "no broker reported the id of the cluster"))
        })
        .await
    }

    /// Deletes a topic and waits until it is gone; a missing one is no error.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), StoreError> {
        let what = format!("deleting topic `{topic}`");
        let results = self.bounded(&what, self.client.delete_topics(&[topic], &options())).await?;
        match results.into_iter().find_map(Result::err) {
            None | Some((_, Code::UnknownTopicOrPartition)) => {}
            Some((_, code)) => return Err(errors::explain_code(&what, code, "")),
        }
        let until = tokio::time::Instant::now() + TIMEOUT;
        while self.topic(topic).await?.is_some() {
            if tokio::time::Instant::now() > until {
                return Err(StoreError::transient(
                    KAFKA_FAILED,
                    format!("topic `{topic}` was deleted, and is still there"),
                ));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Whether a group of this name has members or offsets, of whatever kind it is. Its coordinator knows consumer groups; groups of
    /// other kinds, such as share groups, are only in the lists of the brokers, where librdkafka overlooks the error of one broker if
    /// another one answers.
    pub async fn group_exists(&self, group: &str) -> Result<bool, StoreError> {
        let name = group.to_owned();
        self.blocking(move |client| {
            if native::consumer_group_exists(client, &name, TIMEOUT)? {
                return Ok(true);
            }
            let listed = client.fetch_group_list(Some(&name), TIMEOUT);
            let listed = listed.map_err(|e| errors::explain(&format!("looking for consumer group `{name}`"), &e))?;
            // In any state: what a broker lists exists, although it describes groups of other kinds as dead.
            Ok(listed.groups().iter().any(|found| found.name() == name))
        })
        .await
    }

    /// Deletes a consumer group with its offsets; a missing one is no error, one with members is.
    pub async fn delete_group(&self, group: &str) -> Result<(), StoreError> {
        let what = format!("deleting consumer group `{group}`");
        let results = self.bounded(&what, self.client.delete_groups(&[group], &options())).await?;
        match results.into_iter().find_map(Result::err) {
            None | Some((_, Code::GroupIdNotFound)) => Ok(()),
            Some((_, Code::NonEmptyGroup)) => Err(StoreError::transient(
                GROUP_NOT_EMPTY,
                format!("consumer group `{group}` still has members: another consumer uses its name, or a worker still runs"),
            )),
            Some((_, code)) => Err(errors::explain_code(&what, code, "")),
        }
    }

    /// Changes settings of a topic and leaves all others alone.
    pub async fn alter(&self, topic: &str, config: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let (name, config) = (topic.to_owned(), config.clone());
        self.blocking(move |client| native::alter_topic_config(client, &name, &config, TIMEOUT))
            .await
    }

    /// Not all brokers see a new topic at once: waits until it has all its leaders.
    async fn await_topic(&self, topic: &str, partitions: i32) -> Result<(), StoreError> {
        let until = tokio::time::Instant::now() + TIMEOUT;
        loop {
            if self
                .topic(topic)
                .await?
                .is_some_and(|found| found.partitions >= partitions && found.led)
            {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                return Err(StoreError::transient(
                    KAFKA_FAILED,
                    format!("topic `{topic}` was made, but has not got leaders for its {partitions} partitions yet"),
                ));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn bounded<T>(&self, what: &str, request: impl Future<Output = Result<T, KafkaError>>) -> Result<T, StoreError> {
        match tokio::time::timeout(TIMEOUT * 2, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(self.locate(errors::explain(what, &e)).await),
            Err(_) => {
                let error = StoreError::transient(KAFKA_UNREACHABLE, format!("{what}: no answer"));
                Err(self.locate(error).await)
            }
        }
    }

    async fn locate(&self, error: StoreError) -> StoreError {
        // Nothing else polls the queue of an admin client.
        for text in native::reported_errors(self.client.inner()) {
            self.connection.report(&text);
        }
        self.connection.locate(error).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&rdkafka::client::Client<Reporter>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let client = Arc::clone(&self.client);
        let answer = tokio::task::spawn_blocking(move || call(client.inner())).await;
        let answer = answer.map_err(|e| StoreError::transient(KAFKA_FAILED, format!("the request to Kafka broke off: {e}")))?;
        match answer {
            Ok(answer) => Ok(answer),
            Err(e) => Err(self.locate(e).await),
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

/// Describes a topic through a client of another kind, such as a consumer. Blocks.
pub fn describe_topic<C: ClientContext>(client: &rdkafka::client::Client<C>, topic: &str) -> Result<Option<TopicState>, StoreError> {
    native::describe_topic(client, topic, TIMEOUT)
}
