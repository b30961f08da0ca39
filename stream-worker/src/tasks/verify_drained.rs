//! The drain Job: after the workers of a suspended pipeline are gone, it verifies that the group is empty, commits to Kafka what
//! PostgreSQL has as stored, and reports the group's offsets.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use userpipeline_api::{
    document::WorkerPipeline,
    report::{DrainReport, cut_message},
};
use userpipeline_stores::{
    Secrets, StoreError,
    error::{GROUP_NOT_EMPTY, KAFKA_FAILED, TOPIC_MISSING},
    kafka::{self, admin, errors},
    postgres,
};

use super::runner::{self, Finished, TaskFiles};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the session timeout, until which a killed worker is a member.
const EMPTY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The partitions whose offsets fit into a termination message.
const REPORTED: usize = 150;

/// By partition.
type Offsets = BTreeMap<i32, i64>;

/// The reason of a success.
const DRAINED: &str = "Drained";

/// Verifies, and leaves a [`DrainReport`]; returns the exit code.
pub async fn run(files: &TaskFiles) -> u8 {
    let read = |text: &str| WorkerPipeline::read(text).map_err(|e| e.to_string());
    runner::run(files, read, async |pipeline| match verify(&pipeline, &files.secrets).await {
        Ok(report) => {
            tracing::info!(lag = report.lag, partitions = report.partitions, "{}", report.message);
            Finished::done(report)
        }
        Err(error) => {
            tracing::error!(reason = error.reason, message = error.message, "not drained");
            Finished::failed(&error)
        }
    })
    .await
}

/// The state of the group, once it is empty.
async fn verify(pipeline: &WorkerPipeline, secrets: &Secrets) -> Result<DrainReport, StoreError> {
    let connection = kafka::Connection::new(&pipeline.brokers, secrets);
    connection.verify().await?;
    let group = Group::new(pipeline, &connection)?;
    let until = tokio::time::Instant::now() + EMPTY_WITHIN;
    loop {
        let members = group.ask(Group::members).await?;
        if members == 0 {
            break;
        }
        if tokio::time::Instant::now() > until {
            return Err(StoreError::transient(
                GROUP_NOT_EMPTY,
                format!(
                    "consumer group `{}` still has {members} members: another consumer uses its name, or a worker still runs",
                    pipeline.group_id
                ),
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let topic = group.ask(Group::topic).await?;
    let stored = stored(pipeline, &topic.id, secrets).await?;
    let desired = stored.clone();
    let (committed, ends) = group.ask(move |group| group.commit(topic.partitions, &desired)).await?;
    Ok(report(&pipeline.group_id, &stored, &committed, &ends))
}

/// A partition that was never read is at its beginning, which counts as 0.
fn report(group: &str, stored: &Offsets, committed: &Offsets, ends: &Offsets) -> DrainReport {
    let next = |partition: &i32| {
        let kafka = committed.get(partition).copied().unwrap_or(0);
        stored.get(partition).map_or(kafka, |stored| kafka.min(*stored))
    };
    let lag = ends.iter().map(|(partition, end)| (end - next(partition)).max(0)).sum();
    let offsets: Vec<(i32, i64)> = committed
        .iter()
        .map(|(partition, offset)| (*partition, *offset))
        .take(REPORTED)
        .collect();
    DrainReport {
        reason: DRAINED.to_owned(),
        message: cut_message(&format!(
            "consumer group {group} is empty and has committed {} of {} partitions; {lag} messages are left on the topic",
            committed.len(),
            ends.len()
        )),
        partitions: i32::try_from(ends.len()).unwrap_or(i32::MAX),
        offsets,
        lag,
    }
}

/// The next offsets in PostgreSQL.
async fn stored(pipeline: &WorkerPipeline, topic_id: &str, secrets: &Secrets) -> Result<Offsets, StoreError> {
    let client = postgres::Connection::new(&pipeline.postgres, secrets)
        .connect("userpipeline-drain")
        .await?;
    let rows = client
        .query(
            "SELECT partition, next_offset FROM userpipeline.progress WHERE group_id = $1 AND topic_id = $2",
            &[&pipeline.group_id, &topic_id],
        )
        .await
        .map_err(|e| postgres::explain("reading userpipeline.progress", &e))?;
    Ok(rows.iter().map(|row| (row.get("partition"), row.get("next_offset"))).collect())
}

/// The consumer group; this consumer never joins it.
#[derive(Clone)]
struct Group {
    consumer: std::sync::Arc<BaseConsumer<kafka::Reporter>>,
    connection: kafka::Connection,
    name: String,
    topic: String,
}

impl Group {
    fn new(pipeline: &WorkerPipeline, connection: &kafka::Connection) -> Result<Self, StoreError> {
        let mut config = connection.client_config("userpipeline-drain")?;
        config.set("group.id", &pipeline.group_id).set("enable.auto.commit", "false");
        let consumer = BaseConsumer::from_config_and_context(&config, connection.reporter())
            .map_err(|e| errors::explain("no consumer for spec.kafka.bootstrapServers", &e))?;
        Ok(Self {
            consumer: std::sync::Arc::new(consumer),
            connection: connection.clone(),
            name: pipeline.group_id.clone(),
            topic: pipeline.topic.clone(),
        })
    }

    /// librdkafka's requests block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let group = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let answer = question(&group);
            // It serves the callbacks, which report why brokers refuse a connection.
            let _ = group.consumer.poll(Duration::ZERO);
            answer
        });
        let answer = answer
            .await
            .map_err(|e| StoreError::transient(KAFKA_FAILED, format!("a question to Kafka broke off: {e}")))?;
        match answer {
            Ok(answer) => Ok(answer),
            Err(e) => Err(self.connection.locate(e).await),
        }
    }

    fn members(&self) -> Result<usize, StoreError> {
        let listed = self
            .consumer
            .fetch_group_list(Some(&self.name), TIMEOUT)
            .map_err(|e| errors::explain(&format!("describing consumer group `{}`", self.name), &e))?;
        Ok(listed
            .groups()
            .iter()
            .filter(|group| group.name() == self.name)
            .map(|group| group.members().len())
            .sum())
    }

    fn topic(&self) -> Result<admin::TopicState, StoreError> {
        admin::describe_topic(self.consumer.client(), &self.topic)?.ok_or_else(|| {
            StoreError::transient(
                TOPIC_MISSING,
                format!("topic `{}` (spec.kafka.topic.name) is not there", self.topic),
            )
        })
    }

    /// Commits what is stored and was not committed; returns the committed offsets and the topic's ends.
    fn commit(&self, partitions: i32, stored: &Offsets) -> Result<(Offsets, Offsets), StoreError> {
        let explain = |what: &str| {
            let what = what.to_owned();
            move |e| errors::explain(&what, &e)
        };
        let committed = self.committed(partitions)?;
        let mut behind = TopicPartitionList::new();
        for (partition, next) in stored.range(0..partitions) {
            if committed.get(partition).is_none_or(|committed| committed < next) {
                behind
                    .add_partition_offset(&self.topic, *partition, Offset::Offset(*next))
                    .map_err(explain("committing offsets"))?;
            }
        }
        if behind.count() > 0 {
            self.consumer
                .commit(&behind, CommitMode::Sync)
                .map_err(explain("committing what is stored"))?;
        }
        let mut ends = BTreeMap::new();
        for partition in 0..partitions {
            let (_, end) = self
                .consumer
                .fetch_watermarks(&self.topic, partition, TIMEOUT)
                .map_err(explain("asking for the topic's end"))?;
            ends.insert(partition, end);
        }
        Ok((self.committed(partitions)?, ends))
    }

    fn committed(&self, partitions: i32) -> Result<Offsets, StoreError> {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(&self.topic, partition);
        }
        let asked = |e| errors::explain("asking for the group's offsets", &e);
        let committed = self.consumer.committed_offsets(list, TIMEOUT).map_err(asked)?;
        let mut offsets = BTreeMap::new();
        for element in committed.elements() {
            element.error().map_err(asked)?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_offsets_and_the_lag_of_the_group() {
        let report = report(
            "g",
            &BTreeMap::from([(0, 10), (1, 7)]),
            &BTreeMap::from([(0, 10), (1, 8)]),
            &BTreeMap::from([(0, 10), (1, 9), (2, 3)]),
        );
        assert_eq!(
            (report.partitions, report.lag),
            (3, 2 + 3),
            "what is read again at the resume counts"
        );
        assert_eq!(report.offsets, [(0, 10), (1, 8)]);
    }

    #[test]
    fn the_longest_report_fits_a_termination_message() {
        let many: Offsets = (0..1000).map(|partition| (partition, 1_000_000_000_000)).collect();
        let report = report(&"g".repeat(255), &many, &many, &many);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.len() < 4096, "{}", text.len());
    }
}
