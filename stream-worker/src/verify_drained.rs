//! The drain Job: after the workers of a suspended pipeline are gone, it makes sure that nobody reads for them any more, that
//! Kafka has committed what PostgreSQL says is stored, and tells where the group stands.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _, DefaultConsumerContext},
};
use userpipeline_api::{
    document::WorkerPipeline,
    report::{DrainReport, cut_message, exit},
};
use userpipeline_stores::{
    Class, Secrets, StoreError,
    error::{GROUP_NOT_EMPTY, KAFKA_FAILED, TOPIC_MISSING},
    kafka::{admin, admin::unreachable_at, client_config, errors},
    postgres,
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A worker that was killed stays a member until its session has timed out: longer than that.
const EMPTY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// So many partitions' offsets fit into a termination message.
const TOLD: usize = 150;

/// An offset of each partition.
type Offsets = BTreeMap<i32, i64>;

/// What somebody gets to see when all is well.
const DRAINED: &str = "Drained";

/// Verifies, and leaves a [`DrainReport`]; the result is the exit code.
pub async fn run(path: &Path, secrets: &Secrets, termination_log: &Path) -> u8 {
    let read = std::fs::read_to_string(path).map_err(|e| format!("the pipeline's file {} does not read: {e}", path.display()));
    let pipeline = read.and_then(|text| WorkerPipeline::read(&text).map_err(|e| e.to_string()));
    let verified = match pipeline {
        Ok(pipeline) => verify(&pipeline, secrets).await,
        Err(message) => Err(StoreError::configuration("PipelineInvalid", message)),
    };
    let (report, code) = match verified {
        Ok(report) => {
            tracing::info!(lag = report.lag, partitions = report.partitions, "{}", report.message);
            (report, exit::DONE)
        }
        Err(error) => {
            tracing::error!(reason = error.reason, message = error.message, "not drained");
            let report = DrainReport {
                reason: error.reason.to_owned(),
                message: cut_message(&error.message),
                ..DrainReport::default()
            };
            let code = match error.class {
                Class::Transient => exit::RETRY,
                Class::Configuration => exit::CONFIGURATION,
            };
            (report, code)
        }
    };
    let text = serde_json::to_string(&report).unwrap_or_default();
    if let Err(e) = std::fs::write(termination_log, text) {
        tracing::warn!(path = %termination_log.display(), error = %e, "the termination message is not written");
    }
    code
}

/// Where the group stands, once nobody is in it.
pub async fn verify(pipeline: &WorkerPipeline, secrets: &Secrets) -> Result<DrainReport, StoreError> {
    let group = Group::new(pipeline)?;
    let brokers = pipeline.bootstrap_servers.clone();
    let at = |e| unreachable_at(&brokers, e);
    let until = tokio::time::Instant::now() + EMPTY_WITHIN;
    loop {
        let members = group.ask(Group::members).await.map_err(at)?;
        if members == 0 {
            break;
        }
        if tokio::time::Instant::now() > until {
            return Err(StoreError::transient(
                GROUP_NOT_EMPTY,
                format!(
                    "consumer group `{}` still has {members} members: somebody else reads in its name, or a worker has not gone",
                    pipeline.group_id
                ),
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let topic = group.ask(Group::topic).await.map_err(at)?;
    let stored = stored(pipeline, &topic.id, secrets).await?;
    let wanted = stored.clone();
    let (committed, ends) = group.ask(move |group| group.commit(topic.partitions, &wanted)).await.map_err(at)?;
    Ok(report(&pipeline.group_id, &stored, &committed, &ends))
}

/// What there is to tell. A partition that nobody has read stands at its beginning, which counts as 0.
fn report(group: &str, stored: &Offsets, committed: &Offsets, ends: &Offsets) -> DrainReport {
    let next = |partition: &i32| {
        let kafka = committed.get(partition).copied().unwrap_or(0);
        stored.get(partition).map_or(kafka, |stored| kafka.min(*stored))
    };
    let lag = ends.iter().map(|(partition, end)| (end - next(partition)).max(0)).sum();
    let offsets: Vec<(i32, i64)> = committed
        .iter()
        .map(|(partition, offset)| (*partition, *offset))
        .take(TOLD)
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

/// How far the sinks are, by PostgreSQL.
async fn stored(pipeline: &WorkerPipeline, topic_id: &str, secrets: &Secrets) -> Result<Offsets, StoreError> {
    let client = postgres::connect(&pipeline.postgres, secrets, "userpipeline-drain").await?;
    let rows = client
        .query(
            "SELECT partition, next_offset FROM userpipeline.progress WHERE group_id = $1 AND topic_id = $2",
            &[&pipeline.group_id, &topic_id],
        )
        .await
        .map_err(|e| postgres::explain("reading userpipeline.progress", &e))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The consumer group, seen from outside: this consumer never joins it.
#[derive(Clone)]
struct Group {
    consumer: std::sync::Arc<BaseConsumer>,
    name: String,
    topic: String,
}

impl Group {
    fn new(pipeline: &WorkerPipeline) -> Result<Self, StoreError> {
        let mut config = client_config(&pipeline.bootstrap_servers, "userpipeline-drain");
        config.set("group.id", &pipeline.group_id).set("enable.auto.commit", "false");
        let consumer = BaseConsumer::from_config_and_context(&config, DefaultConsumerContext)
            .map_err(|e| errors::explain("no consumer for spec.kafka.bootstrapServers", &e))?;
        Ok(Self {
            consumer: std::sync::Arc::new(consumer),
            name: pipeline.group_id.clone(),
            topic: pipeline.topic.clone(),
        })
    }

    /// librdkafka's questions block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let group = self.clone();
        tokio::task::spawn_blocking(move || question(&group))
            .await
            .map_err(|e| StoreError::transient(KAFKA_FAILED, format!("a question to Kafka broke off: {e}")))?
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

    /// Commits what is stored and was not committed, and gives what is committed and where the topic ends.
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
    fn the_report_says_where_the_group_stands() {
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
