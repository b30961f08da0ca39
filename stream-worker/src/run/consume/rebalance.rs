//! librdkafka's callbacks. They only record decisions; the polling thread acts on them right after.

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
use userpipeline_stores::kafka::Reporter;

pub type Consumer = BaseConsumer<Context>;

/// A decision of the group's coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalanced {
    /// In addition to those already assigned.
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

pub struct Context {
    reporter: Reporter,
    rebalances: Mutex<VecDeque<Rebalanced>>,
    closing: AtomicBool,
}

impl Context {
    pub fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            rebalances: Mutex::default(),
            closing: AtomicBool::default(),
        }
    }

    /// The decisions since the last call, in order.
    pub fn rebalances(&self) -> VecDeque<Rebalanced> {
        std::mem::take(&mut *self.rebalances.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on consents immediately: the polling thread no longer acts on decisions.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reporter.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reporter.error(error, reason);
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
