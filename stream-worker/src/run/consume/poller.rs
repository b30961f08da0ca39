//! The thread that polls.

use std::{
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use rdkafka::{consumer::Consumer as _, topic_partition_list::TopicPartitionList};
use tokio_util::sync::CancellationToken;
use userpipeline_stores::StoreError;

use super::{
    assignments::Assignments,
    committer::Committer,
    event::Event,
    fetcher::Fetcher,
    group::{Group, in_step},
    hand_over::HandOver,
    rebalance::Rebalanced,
};
use crate::{context::WorkerContext, run::batch::BatchOutcome};

/// The longest wait for an event; a stop or a rebalance is noticed within this time.
const POLL: Duration = Duration::from_millis(100);
/// Bounds the writing of what was taken when the worker is to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// Bounds the wait for a batch before its partitions are given away: well below the session's timeout.
const REVOKE: Duration = Duration::from_secs(15);

pub struct Poller {
    pub context: Arc<WorkerContext>,
    pub group: Group,
    pub assignments: Assignments,
    pub fetcher: Fetcher,
    pub committer: Committer,
    pub hand_over: HandOver,
    pub inbox: Receiver<Event>,
    pub stop: CancellationToken,
}

impl Poller {
    /// Consumes until the worker is to stop, or an error ends the session; then leaves the group.
    pub fn run(mut self) -> Result<(), StoreError> {
        let result = self.consume();
        if result.is_ok() {
            self.drain();
        }
        self.leave();
        self.context.heartbeat.stop();
        result
    }

    fn consume(&mut self) -> Result<(), StoreError> {
        while !self.stop.is_cancelled() {
            self.context.heartbeat.beat();
            while let Ok(event) = self.inbox.try_recv() {
                self.handle(event)?;
            }
            self.fetcher.poll(&mut self.assignments)?;
            self.rebalance()?;
            self.assignments.request_take_over()?;
            self.give(false);
            self.committer.commit();
            if self.fetcher.buffer.is_full() {
                self.assignments.stop_observing();
            } else if self.fetcher.take(&mut self.assignments)? {
                continue;
            }
            let due = self.hand_over.due_in(&self.fetcher.buffer, Instant::now());
            if let Ok(event) = self.inbox.recv_timeout(due.map_or(POLL, |due| due.min(POLL))) {
                self.handle(event)?;
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), StoreError> {
        match event {
            Event::TakenOver(request, result) => self.assignments.taken_over(request, result, &mut self.fetcher.queues),
            Event::Written(writer, outcome) => self.written(writer, outcome),
            Event::Committed(offsets, done) => {
                self.committer.committed(&offsets, done);
                Ok(())
            }
            Event::Fetched => Ok(()),
            Event::End(error) => Err(error),
        }
    }

    fn give(&mut self, at_once: bool) {
        let assignments = &self.assignments;
        self.hand_over
            .give(&mut self.fetcher.buffer, at_once, |partition| assignments.token(partition));
    }

    fn written(&mut self, writer: usize, outcome: BatchOutcome) -> Result<(), StoreError> {
        self.hand_over.done(writer, outcome.abandoned);
        for partition in outcome.fenced {
            self.fenced(partition)?;
        }
        for (partition, next) in outcome.next_offsets {
            if self.assignments.is_active(partition) {
                self.context.status.stored(partition, next);
                self.committer.stored(partition, next);
            }
        }
        Ok(())
    }

    /// Another worker has taken over a partition: this one drops all it has of it.
    fn fenced(&mut self, partition: i32) -> Result<(), StoreError> {
        self.assignments.release(partition);
        self.fetcher.buffer.forget(partition);
        self.committer.forget(partition);
        self.assignments.fence(partition)
    }

    /// Acts on the decisions of the group's coordinator.
    fn rebalance(&mut self) -> Result<(), StoreError> {
        for rebalanced in self.group.consumer.context().rebalances() {
            match rebalanced {
                Rebalanced::Assigned(partitions) if partitions.is_empty() => {
                    tracing::info!("assigned nothing more");
                    self.group.assign(&TopicPartitionList::new())?;
                }
                Rebalanced::Assigned(partitions) => self.assignments.assigned(partitions),
                Rebalanced::Revoked(partitions) => self.revoke(&partitions)?,
            }
        }
        Ok(())
    }

    /// Gives partitions away: what is in flight is finished and committed first, within a bound.
    fn revoke(&mut self, partitions: &[i32]) -> Result<(), StoreError> {
        // Lost partitions have another owner already, who waits for nothing.
        let lost = self.group.consumer.assignment_lost();
        tracing::info!(?partitions, lost, "partitions revoked");
        self.assignments.stop_observing();
        for partition in partitions {
            self.fetcher.buffer.forget(*partition);
        }
        self.assignments.forget_pending(partitions);
        if !lost {
            let until = Instant::now() + REVOKE;
            while self.hand_over.has_any(partitions) && Instant::now() < until {
                self.context.heartbeat.beat();
                if let Ok(event) = self.inbox.recv_timeout(until.saturating_duration_since(Instant::now()))
                    && let Err(e) = self.handle(event)
                {
                    self.group.consent(&Rebalanced::Revoked(partitions.to_vec()));
                    return Err(e);
                }
            }
            self.committer.commit_now(Some(partitions));
        }
        for partition in partitions {
            self.assignments.remove(*partition);
            self.committer.forget(*partition);
            self.assignments.release(*partition);
        }
        let unassigned = self.group.unassign(partitions);
        for partition in partitions {
            self.fetcher.queues.forget(*partition);
        }
        in_step("giving partitions away", unassigned)
    }

    /// Writes what was taken from the topic, as long as the writer succeeds and time is left.
    fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        loop {
            self.context.heartbeat.beat();
            self.give(true);
            if !self.hand_over.is_busy() {
                break;
            }
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now()).min(POLL)) {
                Ok(Event::Written(writer, outcome)) => {
                    if let Err(error) = self.written(writer, outcome) {
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
        self.committer.commit_now(None);
    }

    fn leave(&mut self) {
        // Each queue holds a reference to the consumer, which cannot be closed before.
        self.fetcher.queues.clear();
        let context = self.group.consumer.context();
        context.close();
        // A rebalance without consent would block the group, and this worker with it.
        for rebalanced in context.rebalances() {
            self.group.consent(&rebalanced);
        }
        self.assignments.release_all();
        self.group.leave();
    }
}
