//! Reads the dead-letter topic, from the first letter to those that are there by now. Nothing is committed.

use std::time::{Duration, Instant};

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    metadata::MetadataTopic,
    topic_partition_list::{Offset, TopicPartitionList},
};
use userpipeline_stores::{
    StoreError,
    error::{KAFKA_UNREACHABLE, TOPIC_MISSING},
    kafka::{Connection, Reporter, errors},
};

use super::letter::Letter;
use crate::model::Message;

/// Bounds each request to the brokers.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub struct DeadLetterTopic {
    pub connection: Connection,
    pub topic: String,
}

impl DeadLetterTopic {
    fn consumer(&self) -> Result<BaseConsumer<Reporter>, StoreError> {
        self.connection
            .client_config("userpipeline-dead-letters")?
            // A consumer must have a group; it joins none, because its partitions are assigned.
            .set("group.id", "userpipeline-dead-letters")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", "1024")
            .create_with_context(self.connection.reporter())
            .map_err(|e| errors::explain("no client for spec.kafka.bootstrapServers", &e))
    }

    fn unreachable(&self) -> StoreError {
        let message = format!("topic `{}` delivered nothing for {} s", self.topic, TIMEOUT.as_secs());
        StoreError::transient(KAFKA_UNREACHABLE, message)
    }

    /// Hands over each letter, partition by partition; stops where `each` says so by false.
    pub fn letters(&self, mut each: impl FnMut(Letter) -> Result<bool, StoreError>) -> Result<(), StoreError> {
        let consumer = self.consumer()?;
        let failed = |e| errors::explain("reading the dead-letter topic", &e);
        let metadata = consumer.fetch_metadata(Some(&self.topic), TIMEOUT);
        // It serves the callbacks, which report why brokers refuse a connection.
        let _ = consumer.poll(Duration::ZERO);
        let metadata = metadata.map_err(failed)?;
        let partitions: Vec<i32> = metadata
            .topics()
            .iter()
            .flat_map(MetadataTopic::partitions)
            .map(rdkafka::metadata::MetadataPartition::id)
            .collect();
        if partitions.is_empty() {
            return Err(StoreError::configuration(
                TOPIC_MISSING,
                format!(
                    "topic `{}` (spec.deadLetter.topic) is not there: nothing was ever applied",
                    self.topic
                ),
            ));
        }
        for partition in partitions {
            let (low, high) = consumer.fetch_watermarks(&self.topic, partition, TIMEOUT).map_err(failed)?;
            if low >= high {
                continue;
            }
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&self.topic, partition, Offset::Offset(low))
                .map_err(failed)?;
            consumer.assign(&list).map_err(failed)?;
            if !self.partition(&consumer, high, &mut each)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn partition(
        &self,
        consumer: &BaseConsumer<Reporter>,
        high: i64,
        each: &mut impl FnMut(Letter) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let mut last_read = Instant::now();
        loop {
            match consumer.poll(Duration::from_millis(500)) {
                // The last offsets may hold no messages, but transactions' markers.
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return Ok(true),
                Some(Err(e)) => tracing::debug!(error = %e, "reading dead letters"),
                None if last_read.elapsed() > TIMEOUT => return Err(self.unreachable()),
                None => {}
                Some(Ok(message)) => {
                    last_read = Instant::now();
                    let message = Message::copied(&message);
                    let last = message.offset + 1 >= high;
                    if message.offset >= high {
                        return Ok(true);
                    }
                    if !each(Letter::read(message))? {
                        return Ok(false);
                    }
                    if last {
                        return Ok(true);
                    }
                }
            }
        }
    }
}
