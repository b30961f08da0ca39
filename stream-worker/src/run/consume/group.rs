//! Membership in the consumer group.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext,
    consumer::Consumer as _,
    error::{KafkaError, KafkaResult},
    topic_partition_list::{Offset, TopicPartitionList},
};
use userpipeline_stores::{
    StoreError,
    error::KAFKA_FAILED,
    kafka::{Connection, errors},
    wire::Fingerprint,
};

use super::rebalance::{Consumer, Context, Rebalanced};
use crate::context::WorkerContext;

/// Bounds the goodbye to the brokers.
const LEAVE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Group {
    pub consumer: Arc<Consumer>,
    pub topic: String,
    /// Other credentials or certificates need another consumer.
    pub opened_with: Fingerprint,
}

impl Group {
    pub fn join(context: &WorkerContext) -> Result<Self, StoreError> {
        let pipeline = &context.pipeline;
        let refused = |e| errors::explain("no consumer for spec.kafka.bootstrapServers", &e);
        let (config, opened_with) = config(&context.kafka, &pipeline.group_id, &context.instance)?;
        let consumer = Consumer::from_config_and_context(&config, Context::new(context.kafka.reporter())).map_err(refused)?;
        consumer.subscribe(&[&pipeline.topic]).map_err(refused)?;
        Ok(Self {
            consumer: Arc::new(consumer),
            topic: pipeline.topic.clone(),
            opened_with,
        })
    }

    pub fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }

    pub fn assign(&self, list: &TopicPartitionList) -> Result<(), StoreError> {
        in_step("taking assigned partitions", self.consumer.incremental_assign(list))
    }

    pub fn unassign(&self, partitions: &[i32]) -> KafkaResult<()> {
        self.consumer.incremental_unassign(&self.list(partitions))
    }

    pub fn pause(&self, partitions: &[i32]) -> Result<(), StoreError> {
        in_step("pausing partitions", self.consumer.pause(&self.list(partitions)))
    }

    pub fn resume(&self, partitions: &[i32]) -> Result<(), StoreError> {
        in_step("resuming partitions", self.consumer.resume(&self.list(partitions)))
    }

    /// Agrees to a decision of the coordinator without acting on it.
    pub fn consent(&self, rebalanced: &Rebalanced) {
        let done = match rebalanced {
            Rebalanced::Revoked(partitions) => self.unassign(partitions),
            Rebalanced::Assigned(partitions) => {
                let mut list = self.list(partitions);
                list.set_all_offsets(Offset::End)
                    .and_then(|()| self.consumer.incremental_assign(&list))
            }
        };
        if let Err(e) = done {
            tracing::debug!(error = %e, "leaving the group");
        }
    }

    /// Leaves, so that others need not wait for the session's timeout.
    pub fn leave(&self) {
        if let Err(e) = self.consumer.close_queue() {
            tracing::debug!(error = %e, "leaving the group");
        }
        let until = Instant::now() + LEAVE;
        while !self.consumer.closed() {
            if Instant::now() > until {
                tracing::warn!("the group was not notified that this worker leaves; it will time out");
                // Dropping the last reference would block for ever.
                std::mem::forget(Arc::clone(&self.consumer));
                return;
            }
            let _ = self.consumer.poll(Duration::from_millis(50));
        }
        tracing::info!("left the group");
    }
}

/// The result of a call that fails only where this client and librdkafka disagree on the assignment.
pub fn in_step<T>(what: &str, result: Result<T, KafkaError>) -> Result<T, StoreError> {
    result.map_err(|error| StoreError::transient(KAFKA_FAILED, format!("{what}: {error}")))
}

fn config(connection: &Connection, group: &str, instance: &str) -> Result<(ClientConfig, Fingerprint), StoreError> {
    let (mut config, opened_with) = connection.open_config(instance)?;
    config
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        // Each partition is assigned with its offset; a missing one is an error, never a silent skip.
        .set("auto.offset.reset", "error")
        // A worker that was killed is replaced after this long.
        .set("session.timeout.ms", "20000")
        .set("enable.partition.eof", "true")
        // New partitions are found soon.
        .set("topic.metadata.refresh.interval.ms", "30000")
        // What is fetched ahead bounds the memory; each partition has its own queue. Bounded by number too, because the client's
        // structures are many times as large as small messages.
        .set("queued.max.messages.kbytes", "512")
        .set("queued.min.messages", "1000")
        .set("fetch.message.max.bytes", "65536")
        .set("fetch.max.bytes", "1048576")
        // A full queue is checked again this soon; at the default of a second a small one runs dry.
        .set("fetch.queue.backoff.ms", "10");
    Ok((config, opened_with))
}
