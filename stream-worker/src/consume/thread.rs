//! The thread that polls.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::Consumer as _,
    error::KafkaError,
    message::{BorrowedMessage, Message as _},
    topic_partition_list::TopicPartitionList,
    types::RDKafkaErrorCode as Code,
};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;
use userpipeline_stores::{StoreError, error::KAFKA_FAILED, kafka::errors};

use super::{
    Event,
    assignment::{Held, Pending, State},
    buffer::Buffer,
    queues::Queues,
    rebalance::Consumer,
};
use crate::{
    batch::Batch,
    message::Message,
    ownership::Ownership,
    shared::Shared,
    write::{Written, progress::Rows},
};

/// The longest wait for something to happen; a stop, or what the group's coordinator says, is noticed as late.
const POLL: Duration = Duration::from_millis(100);
/// So many events of the client are heard at a time.
const EVENTS: usize = 10;
/// So many messages of a partition are taken before the next one is looked at.
const IN_A_ROW: usize = 50;
/// What is left is written within this time when the worker is to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// The brokers are told that we leave, within this time.
const LEAVE: Duration = Duration::from_secs(5);

/// The thread's state.
pub struct Poller {
    pub(super) shared: Arc<Shared>,
    pub(super) consumer: Arc<Consumer>,
    pub(super) rows: Rows,
    pub(super) ownership: Arc<Ownership>,
    pub(super) runtime: Handle,
    pub(super) sender: Sender<Event>,
    pub(super) inbox: Receiver<Event>,
    pub(super) buffer: Buffer,
    pub(super) queues: Queues,
    pub(super) held: BTreeMap<i32, Held>,
    pub(super) pending: Option<Pending>,
    pub(super) uncommitted: BTreeMap<i32, i64>,
    pub(super) in_flight: Option<BTreeSet<i32>>,
    /// A batch was given up because the worker is to stop: what comes behind it must not be stored, or it would be skipped.
    abandoned: bool,
    pub(super) requests: u64,
    pub(super) recheck: Option<(u64, Instant)>,
    stop: CancellationToken,
    batches: mpsc::Sender<Batch>,
    pub(super) committing: bool,
    pub(super) commit_failed_at: Option<Instant>,
}

impl Poller {
    #[allow(clippy::too_many_arguments)] // Each is one end of something; a struct for them would be unpacked right here.
    pub(super) fn new(
        shared: Arc<Shared>,
        consumer: Arc<Consumer>,
        rows: Rows,
        ownership: Arc<Ownership>,
        stop: CancellationToken,
        batches: mpsc::Sender<Batch>,
        inbox: Receiver<Event>,
        sender: Sender<Event>,
    ) -> Self {
        let buffer = Buffer::new(&shared.pipeline.batch);
        Self {
            shared,
            consumer,
            rows,
            ownership,
            runtime: Handle::current(),
            sender,
            inbox,
            buffer,
            queues: Queues::default(),
            held: BTreeMap::new(),
            pending: None,
            uncommitted: BTreeMap::new(),
            in_flight: None,
            abandoned: false,
            requests: 0,
            recheck: None,
            stop,
            batches,
            committing: false,
            commit_failed_at: None,
        }
    }

    /// Consumes until the worker is to stop, or cannot go on; then leaves the group.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
        let result = self.consume();
        if result.is_ok() {
            self.drain();
        }
        self.leave();
        self.shared.heartbeat.rest();
        result
    }

    fn consume(&mut self) -> Result<(), StoreError> {
        while !self.stop.is_cancelled() {
            self.shared.heartbeat.beat();
            while let Ok(event) = self.inbox.try_recv() {
                self.handle(event)?;
            }
            self.poll()?;
            self.rebalances()?;
            self.ask()?;
            self.hand_over(false);
            self.commit();
            let full = self.buffer.is_full() && self.in_flight.is_some();
            if full {
                self.stop_looking();
            } else if self.take()? {
                continue;
            }
            let due = self.buffer.due_in(Instant::now()).filter(|_| self.in_flight.is_none());
            if let Ok(event) = self.inbox.recv_timeout(due.map_or(POLL, |due| due.min(POLL))) {
                self.handle(event)?;
            }
        }
        Ok(())
    }

    pub(super) fn handle(&mut self, event: Event) -> Result<(), StoreError> {
        match event {
            Event::Claimed(request, result) => self.claimed(request, result),
            Event::Written(written) => self.written(written),
            Event::Committed(offsets, done) => {
                self.committed(&offsets, done);
                Ok(())
            }
            Event::Fetched => Ok(()),
            Event::End(error) => Err(error),
        }
    }

    /// Stays in the group, and hears what its coordinator says.
    fn poll(&mut self) -> Result<(), StoreError> {
        let consumer = Arc::clone(&self.consumer);
        // It says "nothing" of what it has dealt with by itself, too.
        for _ in 0..EVENTS {
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => self.deliver(&message),
                Some(Err(e)) => self.failed(&e)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Takes what was fetched, some of each partition in turn, until the batch is full; whether there was anything.
    fn take(&mut self) -> Result<bool, StoreError> {
        let mut any = false;
        for (partition, queue) in self.queues.in_turn() {
            for _ in 0..IN_A_ROW {
                match queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => self.deliver(&message),
                    Some(Err(e)) => self.failed(&e)?,
                    None => {
                        self.is_dry(partition);
                        break;
                    }
                }
                any = true;
                // Those behind it have had nothing yet, and come first next time.
                if self.buffer.is_full() {
                    self.queues.begin_behind(partition);
                    return Ok(true);
                }
            }
        }
        Ok(any)
    }

    /// For a while nobody looks at what is fetched, so nobody knows whether a partition is at its end, or dry.
    pub(super) fn stop_looking(&mut self) {
        for (partition, held) in &mut self.held {
            if std::mem::take(&mut held.is_told) {
                self.shared.status.delivered(*partition, None);
                self.shared.status.dry(*partition, None);
            }
        }
    }

    /// Nothing more of a partition was fetched.
    fn is_dry(&mut self, partition: i32) {
        if let Some(held) = self.held.get_mut(&partition)
            && held.state == State::Active
            && !std::mem::replace(&mut held.is_told, true)
        {
            self.shared.status.dry(partition, Some(held.position));
            if held.at_end {
                self.shared.status.delivered(partition, Some(held.position));
            }
        }
    }

    fn deliver(&mut self, message: &BorrowedMessage<'_>) {
        let partition = message.partition();
        let Some(held) = self.held.get_mut(&partition).filter(|held| held.state == State::Active) else {
            return;
        };
        // Where fetching begins anew, it may begin before what was taken already.
        if message.offset() < held.position {
            return;
        }
        held.position = message.offset() + 1;
        held.at_end = false;
        if std::mem::take(&mut held.is_told) {
            self.shared.status.delivered(partition, None);
            self.shared.status.dry(partition, None);
        }
        let message = Message::copied(message);
        self.shared.metrics.records.inc();
        self.shared.metrics.bytes.inc_by(message.bytes() as u64);
        self.buffer.push(message, Instant::now());
    }

    fn failed(&mut self, error: &KafkaError) -> Result<(), StoreError> {
        match error {
            KafkaError::PartitionEOF(partition) => {
                if let Some(held) = self.held.get_mut(partition) {
                    // The status is told when the partition is found to be dry, which is next.
                    (held.at_end, held.is_told) = (true, false);
                }
                Ok(())
            }
            KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset) => self.check_ranges(),
            KafkaError::MessageConsumptionFatal(_)
            | KafkaError::MessageConsumption(
                Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed,
            ) => Err(errors::explain(&format!("consuming topic `{}`", self.rows.topic), error)),
            // Brokers that come and go: librdkafka connects again, and the status says so meanwhile.
            other => {
                tracing::debug!(error = %other, "consuming");
                Ok(())
            }
        }
    }

    /// Gives the writer what was gathered, when it is due and the writer is free.
    fn hand_over(&mut self, at_once: bool) {
        let due = self.buffer.due_in(Instant::now()).is_some_and(|due| at_once || due.is_zero());
        if !due || self.in_flight.is_some() || self.abandoned {
            return;
        }
        let mut batch = Batch {
            messages: self.buffer.take(),
            owners: BTreeMap::new(),
        };
        for message in &batch.messages {
            if let Some(held) = self.held.get(&message.partition) {
                batch.owners.insert(message.partition, held.token);
            }
        }
        let partitions = batch.owners.keys().copied().collect();
        // There is room for one, and none is under way; where nobody receives, the session ends.
        if self.batches.try_send(batch).is_ok() {
            self.in_flight = Some(partitions);
        }
    }

    fn written(&mut self, written: Written) -> Result<(), StoreError> {
        self.in_flight = None;
        if written.abandoned {
            tracing::warn!("a batch cannot be stored now: what was taken and not stored will be delivered again");
            self.abandoned = true;
        }
        for partition in written.fenced {
            self.fenced(partition)?;
        }
        for (partition, next) in written.next {
            if self.held.get(&partition).is_some_and(|held| held.state == State::Active) {
                self.shared.status.stored(partition, next);
                self.uncommitted.insert(partition, next);
            }
        }
        Ok(())
    }

    /// Writes what was taken from the topic, as long as the writer gets on and time is left.
    fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        loop {
            self.shared.heartbeat.beat();
            self.hand_over(true);
            if self.in_flight.is_none() {
                break;
            }
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now()).min(POLL)) {
                Ok(Event::Written(written)) => {
                    if let Err(error) = self.written(written) {
                        tracing::debug!(message = error.message, "draining");
                    }
                }
                Err(_) if Instant::now() >= until => {
                    tracing::warn!("no time is left: what was taken and not stored will be delivered again");
                    break;
                }
                Ok(_) | Err(_) => {}
            }
        }
        self.commit_now(None);
    }

    /// Leaves the group, so that others need not wait for the session's time-out.
    fn leave(&mut self) {
        self.queues.clear();
        let context = self.consumer.context();
        context.close();
        // A rebalance that waits for our consent would keep the group waiting, and us with it.
        for rebalanced in context.rebalances() {
            self.consent(&rebalanced);
        }
        if let Some(pending) = self.pending.take() {
            self.consent(&super::rebalance::Rebalanced::Assigned(pending.partitions));
        }
        for partition in std::mem::take(&mut self.held).into_keys() {
            self.ownership.release(partition);
        }
        if let Err(e) = self.consumer.close_queue() {
            tracing::debug!(error = %e, "leaving the group");
        }
        let until = Instant::now() + LEAVE;
        while !self.consumer.closed() {
            if Instant::now() > until {
                tracing::warn!("the group was not told that this worker leaves; it will find out");
                // To drop the last reference would wait for ever.
                std::mem::forget(Arc::clone(&self.consumer));
                return;
            }
            let _ = self.consumer.poll(Duration::from_millis(50));
        }
        tracing::info!("left the group");
    }

    pub(super) fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.rows.topic, *partition);
        }
        list
    }

    pub(super) fn out_of_step(what: &str, error: &KafkaError) -> StoreError {
        StoreError::transient(KAFKA_FAILED, format!("{what}: {error}"))
    }
}
