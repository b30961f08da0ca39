//! Takes messages from the partitions' queues into the buffer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    error::KafkaError,
    message::{BorrowedMessage, Message as _},
    types::RDKafkaErrorCode as Code,
};
use userpipeline_stores::{StoreError, kafka::errors};

use super::{assignments::Assignments, buffer::Buffer, group::Group, queues::Queues};
use crate::{context::WorkerContext, model::Message};

/// Events of the client that are handled at a time.
const EVENTS: usize = 10;
/// Messages of a partition that are taken before the next one's turn.
const IN_A_ROW: usize = 50;

pub struct Fetcher {
    context: Arc<WorkerContext>,
    group: Group,
    pub buffer: Buffer,
    pub queues: Queues,
}

impl Fetcher {
    pub fn new(context: &Arc<WorkerContext>, group: &Group) -> Self {
        Self {
            context: Arc::clone(context),
            group: group.clone(),
            buffer: Buffer::new(&context.pipeline.batch),
            queues: Queues::default(),
        }
    }

    /// Stays in the group, and receives its coordinator's decisions.
    pub fn poll(&mut self, assignments: &mut Assignments) -> Result<(), StoreError> {
        let consumer = Arc::clone(&self.group.consumer);
        // It returns nothing also for what it has handled by itself.
        for _ in 0..EVENTS {
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => self.deliver(&message, assignments),
                Some(Err(e)) => self.failed(&e, assignments)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Takes what was fetched, some of each partition in turn, until the batch is full; whether there was anything.
    pub fn take(&mut self, assignments: &mut Assignments) -> Result<bool, StoreError> {
        let mut any = false;
        for (partition, queue) in self.queues.in_turn() {
            for _ in 0..IN_A_ROW {
                match queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => self.deliver(&message, assignments),
                    Some(Err(e)) => self.failed(&e, assignments)?,
                    None => {
                        assignments.ran_dry(partition);
                        break;
                    }
                }
                any = true;
                // The partitions after this one had no turn, and are first in the next round.
                if self.buffer.is_full() {
                    self.queues.begin_after(partition);
                    return Ok(true);
                }
            }
        }
        Ok(any)
    }

    fn deliver(&mut self, message: &BorrowedMessage<'_>, assignments: &mut Assignments) {
        if !assignments.accept(message.partition(), message.offset()) {
            return;
        }
        let message = Message::copied(message);
        self.context.metrics.records.inc();
        self.context.metrics.bytes.inc_by(message.bytes() as u64);
        self.buffer.push(message, Instant::now());
    }

    fn failed(&self, error: &KafkaError, assignments: &mut Assignments) -> Result<(), StoreError> {
        match error {
            KafkaError::PartitionEOF(partition) => {
                assignments.reached_end(*partition);
                Ok(())
            }
            KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset) => assignments.check_ranges(),
            KafkaError::MessageConsumptionFatal(_)
            | KafkaError::MessageConsumption(
                Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed,
            ) => Err(errors::explain(&format!("consuming topic `{}`", self.group.topic), error)),
            // Brokers that come and go: librdkafka reconnects, and the status reports it meanwhile.
            other => {
                tracing::debug!(error = %other, "consuming");
                Ok(())
            }
        }
    }
}
