//! What librdkafka calls back. Nothing is done here: it is noted, and the thread that polls acts on it right after.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rdkafka::{
    TopicPartitionList,
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr,
};

/// The consumer.
pub type Consumer = BaseConsumer<Context>;

/// What the group's coordinator decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalanced {
    /// These partitions are ours now, beside those we have.
    Assigned(Vec<i32>),
    /// These are no longer.
    Revoked(Vec<i32>),
}

/// Notes what librdkafka calls back.
#[derive(Default)]
pub struct Context {
    rebalances: Mutex<VecDeque<Rebalanced>>,
    closing: AtomicBool,
}

impl Context {
    /// The decisions since the last call, in order.
    pub fn rebalances(&self) -> VecDeque<Rebalanced> {
        std::mem::take(&mut *self.rebalances.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on partitions are let go of at once: nobody acts on what is noted any more.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => tracing::error!(facility, message, "librdkafka"),
            // Mostly brokers that come and go, which the status says better.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::info!(facility, message, "librdkafka"),
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let list = || {
            partitions
                .elements()
                .iter()
                .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
                .collect()
        };
        let assigned = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let done = if assigned {
                consumer.incremental_assign(partitions)
            } else {
                consumer.incremental_unassign(partitions)
            };
            if let Err(e) = done {
                tracing::debug!(error = %e, "letting go of partitions");
            }
            return;
        }
        let rebalanced = if assigned {
            Rebalanced::Assigned(list())
        } else {
            Rebalanced::Revoked(list())
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalanced);
    }
}
