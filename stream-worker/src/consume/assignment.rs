//! What the thread does when partitions come and go.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::Consumer as _,
    topic_partition_list::{Offset, TopicPartitionList},
};
use userpipeline_stores::{
    StoreError,
    error::{KAFKA_FAILED, OFFSET_OUT_OF_RANGE, TOPIC_MISSING},
    kafka::admin,
};
use uuid::Uuid;

use super::{
    Event, claim,
    rebalance::Rebalanced,
    start_offset::{Start, out_of_range},
    thread::Poller,
};
use crate::{report::Trouble, retry::Backoff};

/// A batch under way is waited for this long before its partitions are given away: well below the session's time-out.
const REVOKE: Duration = Duration::from_secs(15);
/// Partitions that cannot be claimed for so long are left to others.
const CLAIM: Duration = Duration::from_secs(60);
/// A partition that was fenced is revoked soon after; if not, the group and the rows disagree, and we join anew.
const FENCED: Duration = Duration::from_secs(15);
/// Partitions whose messages are gone are looked at this often: somebody may have decided where to go on.
const RECHECK: Duration = Duration::from_secs(30);

/// How a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It delivers.
    Active,
    /// Its messages are gone.
    Stuck,
    /// Another worker has claimed it, at this moment.
    Fenced(Instant),
}

/// An assigned partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The token of the claim.
    pub token: Uuid,
    /// The next offset to come.
    pub position: i64,
    /// Whether everything was delivered.
    pub at_end: bool,
    /// Whether the status knows that nothing more was fetched, and whether that is the end.
    pub is_told: bool,
    /// How it stands.
    pub state: State,
}

/// Partitions that were assigned and are not claimed yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub partitions: Vec<i32>,
    token: Uuid,
    since: Instant,
    /// The number of the request that is under way.
    asked: Option<u64>,
    again_at: Instant,
    backoff: Backoff,
}

impl Poller {
    /// Acts on what the group's coordinator decided.
    pub(super) fn rebalances(&mut self) -> Result<(), StoreError> {
        for rebalanced in self.consumer.context().rebalances() {
            match rebalanced {
                Rebalanced::Assigned(partitions) if partitions.is_empty() => {
                    tracing::info!("assigned nothing more");
                    self.assign(&TopicPartitionList::new())?;
                }
                Rebalanced::Assigned(partitions) => {
                    let now = Instant::now();
                    self.pending = Some(Pending {
                        partitions,
                        token: Uuid::new_v4(),
                        since: now,
                        asked: None,
                        again_at: now,
                        backoff: Backoff::default(),
                    });
                }
                Rebalanced::Revoked(partitions) => self.revoke(&partitions)?,
            }
        }
        Ok(())
    }

    fn assign(&self, list: &TopicPartitionList) -> Result<(), StoreError> {
        self.consumer
            .incremental_assign(list)
            .map_err(|e| Self::out_of_step("taking assigned partitions", &e))
    }

    /// Asks for what is not claimed yet, and looks again at what is stuck.
    pub(super) fn ask(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if let Some(pending) = &mut self.pending
            && pending.asked.is_none()
            && pending.again_at <= now
        {
            self.requests += 1;
            pending.asked = Some(self.requests);
            let (partitions, token, request) = (pending.partitions.clone(), pending.token, self.requests);
            self.request(request, partitions, token);
        }
        let stuck: Vec<i32> = self
            .held
            .iter()
            .filter(|(_, held)| held.state == State::Stuck)
            .map(|(p, _)| *p)
            .collect();
        if stuck.is_empty() {
            self.recheck = None;
        } else if self.recheck.is_none_or(|(_, at)| at <= now) {
            self.requests += 1;
            let token = self.held[&stuck[0]].token;
            // They may come from several claims; the look gives them one token.
            for partition in &stuck {
                if let Some(held) = self.held.get_mut(partition) {
                    held.token = token;
                }
            }
            self.recheck = Some((self.requests, now + RECHECK));
            self.request(self.requests, stuck, token);
        }
        if self
            .held
            .values()
            .any(|held| matches!(held.state, State::Fenced(since) if since.elapsed() > FENCED))
        {
            return Err(StoreError::transient(
                KAFKA_FAILED,
                "partitions that another worker has claimed were not revoked: joining the group anew",
            ));
        }
        Ok(())
    }

    fn request(&self, request: u64, partitions: Vec<i32>, token: Uuid) {
        let claiming = claim::claim(
            Arc::clone(&self.shared),
            Arc::clone(&self.consumer),
            self.rows.clone(),
            partitions,
            token,
        );
        let sender = self.sender.clone();
        self.runtime.spawn(async move {
            // The thread is gone only where nobody needs the answer.
            let _ = sender.send(Event::Claimed(request, claiming.await));
        });
    }

    pub(super) fn claimed(&mut self, request: u64, result: Result<Vec<(i32, Start)>, StoreError>) -> Result<(), StoreError> {
        if self.recheck.is_some_and(|(r, _)| r == request) {
            return match result {
                Ok(starts) if starts.iter().any(|(_, start)| matches!(start, Start::At(_))) => Err(StoreError::transient(
                    OFFSET_OUT_OF_RANGE,
                    "offsets were set anew: joining the group anew",
                )),
                _ => Ok(()),
            };
        }
        let Some(mut pending) = self.pending.take() else { return Ok(()) };
        if pending.asked != Some(request) {
            self.pending = Some(pending);
            return Ok(());
        }
        match result {
            Ok(starts) => {
                self.shared.status.clear(Trouble::Claim);
                self.take_over(&pending, &starts)
            }
            Err(error) if pending.since.elapsed() > CLAIM => {
                // Who leaves must still agree to it.
                self.pending = Some(pending);
                Err(error)
            }
            Err(error) => {
                tracing::warn!(reason = error.reason, message = error.message, partitions = ?pending.partitions, "partitions cannot be taken over yet");
                self.shared.status.trouble(Trouble::Claim, &error);
                pending.asked = None;
                pending.again_at = Instant::now() + pending.backoff.wait();
                self.pending = Some(pending);
                Ok(())
            }
        }
    }

    fn take_over(&mut self, pending: &Pending, starts: &[(i32, Start)]) -> Result<(), StoreError> {
        let mut list = TopicPartitionList::new();
        let (mut silent, mut loud) = (Vec::new(), Vec::new());
        // Some of them may have been revoked since they were asked for.
        for (partition, start) in starts.iter().filter(|(p, _)| pending.partitions.contains(p)) {
            let (position, state) = match *start {
                Start::At(offset) => (offset, State::Active),
                // Assigned all the same, for the group counts on it, but paused.
                Start::OutOfRange { wanted, .. } => (wanted, State::Stuck),
            };
            self.held.insert(
                *partition,
                Held {
                    token: pending.token,
                    position,
                    at_end: false,
                    is_told: false,
                    state,
                },
            );
            self.shared.status.assigned(*partition, position);
            let at = match *start {
                Start::At(offset) => Offset::Offset(offset),
                Start::OutOfRange { wanted, low, high } => {
                    self.stuck(*partition, wanted, low, high);
                    Offset::Offset(high)
                }
            };
            if state == State::Active {
                self.ownership.take(*partition, pending.token);
                tracing::info!(partition, offset = position, "partition taken over");
            }
            (if state == State::Stuck { &mut silent } else { &mut loud }).push(*partition);
            if !self.queues.split(&self.consumer, &self.rows.topic, *partition, &self.sender) {
                return Err(StoreError::transient(
                    KAFKA_FAILED,
                    format!("the client has no queue for partition {partition}"),
                ));
            }
            list.add_partition_offset(&self.rows.topic, *partition, at)
                .map_err(|e| Self::out_of_step("taking assigned partitions", &e))?;
        }
        self.assign(&list)?;
        self.consumer
            .pause(&self.list(&silent))
            .map_err(|e| Self::out_of_step("pausing partitions", &e))?;
        // librdkafka remembers of a partition that it was paused when we had it last.
        self.consumer
            .resume(&self.list(&loud))
            .map_err(|e| Self::out_of_step("resuming partitions", &e))
    }

    fn stuck(&mut self, partition: i32, wanted: i64, low: i64, high: i64) {
        self.shared.status.delivered(partition, None);
        let message = out_of_range(&self.rows.topic, partition, wanted, low, high);
        self.shared.status.trouble(
            Trouble::Partition(partition),
            &StoreError::configuration(OFFSET_OUT_OF_RANGE, message),
        );
        self.recheck.get_or_insert((0, Instant::now() + RECHECK));
    }

    /// A broker said that some offset is out of range, but not which: looks for partitions whose position is.
    pub(super) fn check_ranges(&mut self) -> Result<(), StoreError> {
        // Of a topic that was made anew all offsets are new, and nothing is missing.
        let topic = &self.rows.topic;
        if let Ok(Some(found)) = admin::describe_topic(self.consumer.client(), topic)
            && found.id != self.rows.topic_id
        {
            return Err(StoreError::transient(
                TOPIC_MISSING,
                format!("topic `{topic}` was deleted and made anew: joining the group anew"),
            ));
        }
        let active: Vec<i32> = self
            .held
            .iter()
            .filter(|(_, held)| held.state == State::Active)
            .map(|(p, _)| *p)
            .collect();
        let ranges = claim::ranges(&self.consumer, &self.rows.topic, &active)?;
        let gone: BTreeMap<i32, (i64, i64, i64)> = ranges
            .into_iter()
            .filter_map(|(partition, (low, high))| {
                let position = self.held.get(&partition)?.position;
                (!(low..=high).contains(&position)).then_some((partition, (position, low, high)))
            })
            .collect();
        if gone.is_empty() {
            return Err(StoreError::transient(
                OFFSET_OUT_OF_RANGE,
                format!("an offset of topic `{}` was out of range: joining the group anew", self.rows.topic),
            ));
        }
        for (partition, (position, low, high)) in gone {
            if let Some(held) = self.held.get_mut(&partition) {
                held.state = State::Stuck;
            }
            self.stuck(partition, position, low, high);
            self.consumer
                .pause(&self.list(&[partition]))
                .map_err(|e| Self::out_of_step("pausing partitions", &e))?;
        }
        Ok(())
    }

    /// Another worker has claimed a partition: nothing of it is ours any more.
    pub(super) fn fenced(&mut self, partition: i32) -> Result<(), StoreError> {
        self.ownership.release(partition);
        self.buffer.forget(partition);
        self.uncommitted.remove(&partition);
        self.shared.status.revoked(partition);
        if let Some(held) = self.held.get_mut(&partition) {
            held.state = State::Fenced(Instant::now());
            self.consumer
                .pause(&self.list(&[partition]))
                .map_err(|e| Self::out_of_step("pausing partitions", &e))?;
        }
        Ok(())
    }

    /// Gives partitions away: what is under way is finished and committed first, within a bound.
    fn revoke(&mut self, partitions: &[i32]) -> Result<(), StoreError> {
        // Partitions that were lost have another owner already, who waits for nothing.
        let lost = self.consumer.assignment_lost();
        tracing::info!(?partitions, lost, "partitions revoked");
        self.stop_looking();
        for partition in partitions {
            self.buffer.forget(*partition);
        }
        self.forget_unclaimed(partitions);
        if !lost {
            let until = Instant::now() + REVOKE;
            while self
                .in_flight
                .as_ref()
                .is_some_and(|in_flight| partitions.iter().any(|p| in_flight.contains(p)))
                && Instant::now() < until
            {
                self.shared.heartbeat.beat();
                if let Ok(event) = self.inbox.recv_timeout(until.saturating_duration_since(Instant::now()))
                    && let Err(e) = self.handle(event)
                {
                    self.consent(&Rebalanced::Revoked(partitions.to_vec()));
                    return Err(e);
                }
            }
            self.commit_now(Some(partitions));
        }
        for partition in partitions {
            self.held.remove(partition);
            self.uncommitted.remove(partition);
            self.ownership.release(*partition);
            self.shared.status.revoked(*partition);
        }
        let given = self.consumer.incremental_unassign(&self.list(partitions));
        for partition in partitions {
            self.queues.forget(*partition);
        }
        given.map_err(|e| Self::out_of_step("giving partitions away", &e))
    }

    /// Of partitions that are revoked, claims no longer those that were not claimed yet. librdkafka can take away only what
    /// it was given, so it is given them first.
    fn forget_unclaimed(&mut self, partitions: &[i32]) {
        let Some(mut pending) = self.pending.take() else { return };
        let (revoked, left) = std::mem::take(&mut pending.partitions)
            .into_iter()
            .partition(|p| partitions.contains(p));
        pending.partitions = left;
        let revoked: Vec<i32> = revoked;
        if !revoked.is_empty() {
            self.consent(&Rebalanced::Assigned(revoked));
        }
        self.pending = Some(pending).filter(|pending| !pending.partitions.is_empty());
    }

    /// Agrees to what the coordinator decided, without acting on it.
    pub(super) fn consent(&self, rebalanced: &Rebalanced) {
        let done = match rebalanced {
            Rebalanced::Revoked(partitions) => self.consumer.incremental_unassign(&self.list(partitions)),
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
}
