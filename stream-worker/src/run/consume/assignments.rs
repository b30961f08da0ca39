//! The partitions that are assigned to this worker: taken over, delivering, stuck, fenced.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::Consumer as _,
    topic_partition_list::{Offset, TopicPartitionList},
};
use tokio::runtime::Handle;
use userpipeline_runtime::BackOff;
use userpipeline_stores::{
    StoreError,
    error::{KAFKA_FAILED, OFFSET_OUT_OF_RANGE, TOPIC_MISSING},
    kafka::admin,
};
use uuid::Uuid;

use super::{
    event::Event,
    group::{Group, in_step},
    offsets,
    partition::{Assigned, State},
    queues::Queues,
    rebalance::Rebalanced,
    start_offset::{Start, out_of_range},
    take_over,
};
use crate::{
    back_off::back_off,
    context::WorkerContext,
    progress::{OwnerTokens, ProgressTable},
    status::Trouble,
};

/// Partitions that cannot be taken over for this long are left to others.
const TAKE_OVER: Duration = Duration::from_secs(60);
/// A fenced partition is revoked soon; if not, the group and the progress rows disagree, and the worker rejoins.
const FENCED: Duration = Duration::from_secs(15);
/// How often partitions whose messages were deleted are checked: a user may have set where to resume.
const RECHECK: Duration = Duration::from_secs(30);

/// Partitions that were assigned and are not taken over yet.
#[derive(Debug)]
struct PendingTakeOver {
    partitions: Vec<i32>,
    token: Uuid,
    since: Instant,
    /// The number of the request in progress.
    request: Option<u64>,
    retry_at: Instant,
    back_off: BackOff,
}

pub struct Assignments {
    context: Arc<WorkerContext>,
    group: Group,
    table: ProgressTable,
    tokens: Arc<OwnerTokens>,
    events: Sender<Event>,
    runtime: Handle,
    partitions: BTreeMap<i32, Assigned>,
    pending: Option<PendingTakeOver>,
    /// The number of the last request.
    requests: u64,
    /// The request that checks stuck partitions, and when the next one is due.
    recheck: Option<(u64, Instant)>,
}

impl Assignments {
    pub fn new(
        context: &Arc<WorkerContext>,
        group: &Group,
        table: &ProgressTable,
        tokens: &Arc<OwnerTokens>,
        events: &Sender<Event>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            group: group.clone(),
            table: table.clone(),
            tokens: Arc::clone(tokens),
            events: events.clone(),
            runtime: Handle::current(),
            partitions: BTreeMap::new(),
            pending: None,
            requests: 0,
            recheck: None,
        }
    }

    pub fn token(&self, partition: i32) -> Option<Uuid> {
        self.partitions.get(&partition).map(|assigned| assigned.token)
    }

    pub fn is_active(&self, partition: i32) -> bool {
        self.partitions
            .get(&partition)
            .is_some_and(|assigned| assigned.state == State::Active)
    }

    fn in_state(&self, state: State) -> Vec<i32> {
        let matching = self.partitions.iter().filter(|(_, assigned)| assigned.state == state);
        matching.map(|(partition, _)| *partition).collect()
    }

    /// The coordinator assigned partitions.
    pub fn assigned(&mut self, partitions: Vec<i32>) {
        let now = Instant::now();
        self.pending = Some(PendingTakeOver {
            partitions,
            token: Uuid::new_v4(),
            since: now,
            request: None,
            retry_at: now,
            back_off: back_off(),
        });
    }

    /// Requests that assigned partitions are taken over, and checks stuck ones again.
    pub fn request_take_over(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if let Some(pending) = &mut self.pending
            && pending.request.is_none()
            && pending.retry_at <= now
        {
            self.requests += 1;
            pending.request = Some(self.requests);
            let (partitions, token) = (pending.partitions.clone(), pending.token);
            self.request(partitions, token);
        }
        let stuck = self.in_state(State::Stuck);
        if stuck.is_empty() {
            self.recheck = None;
        } else if self.recheck.is_none_or(|(_, at)| at <= now) {
            self.requests += 1;
            let token = self.partitions[&stuck[0]].token;
            // They may come from several requests; the check gives them one token.
            for partition in &stuck {
                if let Some(assigned) = self.partitions.get_mut(partition) {
                    assigned.token = token;
                }
            }
            self.recheck = Some((self.requests, now + RECHECK));
            self.request(stuck, token);
        }
        let expired = |assigned: &Assigned| matches!(assigned.state, State::Fenced(since) if since.elapsed() > FENCED);
        if self.partitions.values().any(expired) {
            return Err(StoreError::transient(
                KAFKA_FAILED,
                "partitions that another worker has taken over were not revoked: rejoining the group",
            ));
        }
        Ok(())
    }

    /// Sends the request whose number was drawn last.
    fn request(&self, partitions: Vec<i32>, token: Uuid) {
        let request = self.requests;
        let taking_over = take_over::take_over(
            Arc::clone(&self.context),
            Arc::clone(&self.group.consumer),
            self.table.clone(),
            partitions,
            token,
        );
        let events = self.events.clone();
        self.runtime.spawn(async move {
            // The receiver is gone only where the session has ended.
            let _ = events.send(Event::TakenOver(request, taking_over.await));
        });
    }

    pub fn taken_over(
        &mut self,
        request: u64,
        result: Result<Vec<(i32, Start)>, StoreError>,
        queues: &mut Queues,
    ) -> Result<(), StoreError> {
        if self.recheck.is_some_and(|(r, _)| r == request) {
            return match result {
                Ok(starts) if starts.iter().any(|(_, start)| matches!(start, Start::At(_))) => {
                    Err(StoreError::transient(OFFSET_OUT_OF_RANGE, "offsets were set: rejoining the group"))
                }
                _ => Ok(()),
            };
        }
        let Some(mut pending) = self.pending.take() else {
            return Ok(());
        };
        if pending.request != Some(request) {
            self.pending = Some(pending);
            return Ok(());
        }
        match result {
            Ok(starts) => {
                self.context.status.clear(Trouble::TakeOver);
                self.deliver(&pending, &starts, queues)
            }
            Err(error) if pending.since.elapsed() > TAKE_OVER => {
                // A worker that leaves must still consent to it.
                self.pending = Some(pending);
                Err(error)
            }
            Err(error) => {
                tracing::warn!(reason = error.reason, message = error.message, partitions = ?pending.partitions, "partitions cannot be taken over yet");
                self.context.status.trouble(Trouble::TakeOver, &error);
                pending.request = None;
                pending.retry_at = Instant::now() + pending.back_off.next_delay();
                self.pending = Some(pending);
                Ok(())
            }
        }
    }

    /// Starts to deliver partitions that were taken over.
    fn deliver(&mut self, pending: &PendingTakeOver, starts: &[(i32, Start)], queues: &mut Queues) -> Result<(), StoreError> {
        let mut list = TopicPartitionList::new();
        let (mut paused, mut resumed) = (Vec::new(), Vec::new());
        // Some of them may have been revoked since the request.
        for (partition, start) in starts.iter().filter(|(p, _)| pending.partitions.contains(p)) {
            let (position, state) = match *start {
                Start::At(offset) => (offset, State::Active),
                // Assigned all the same, because the group relies on it, but paused.
                Start::OutOfRange { desired, .. } => (desired, State::Stuck),
            };
            self.partitions.insert(*partition, Assigned::new(pending.token, position, state));
            self.context.status.assigned(*partition, position);
            let offset = match *start {
                Start::At(offset) => Offset::Offset(offset),
                Start::OutOfRange { desired, low, high } => {
                    self.stuck(*partition, desired, low, high);
                    Offset::Offset(high)
                }
            };
            if state == State::Active {
                self.tokens.grant(*partition, pending.token);
                tracing::info!(partition, offset = position, "partition taken over");
            }
            (if state == State::Stuck { &mut paused } else { &mut resumed }).push(*partition);
            if !queues.split(&self.group.consumer, &self.table.topic, *partition, &self.events) {
                return Err(StoreError::transient(
                    KAFKA_FAILED,
                    format!("the client has no queue for partition {partition}"),
                ));
            }
            let added = list.add_partition_offset(&self.table.topic, *partition, offset);
            in_step("taking assigned partitions", added)?;
        }
        self.group.assign(&list)?;
        self.group.pause(&paused)?;
        // librdkafka remembers that a partition was paused in an earlier assignment.
        self.group.resume(&resumed)
    }

    fn stuck(&mut self, partition: i32, desired: i64, low: i64, high: i64) {
        self.context.status.delivered(partition, None);
        let message = out_of_range(&self.table.topic, partition, desired, low, high);
        self.context.status.trouble(
            Trouble::Partition(partition),
            &StoreError::configuration(OFFSET_OUT_OF_RANGE, message),
        );
        self.recheck.get_or_insert((0, Instant::now() + RECHECK));
    }

    /// A broker reported that some offset is out of range, but not which: finds the partitions whose position is.
    pub fn check_ranges(&mut self) -> Result<(), StoreError> {
        // All offsets of a re-created topic are new, and nothing is missing.
        let topic = &self.table.topic;
        if let Ok(Some(found)) = admin::describe_topic(self.group.consumer.client(), topic)
            && found.id != self.table.topic_id
        {
            return Err(StoreError::transient(
                TOPIC_MISSING,
                format!("topic `{topic}` was deleted and re-created: rejoining the group"),
            ));
        }
        let ranges = offsets::ranges(&self.group.consumer, topic, &self.in_state(State::Active))?;
        let gone: BTreeMap<i32, (i64, i64, i64)> = ranges
            .into_iter()
            .filter_map(|(partition, (low, high))| {
                let position = self.partitions.get(&partition)?.position;
                (!(low..=high).contains(&position)).then_some((partition, (position, low, high)))
            })
            .collect();
        if gone.is_empty() {
            return Err(StoreError::transient(
                OFFSET_OUT_OF_RANGE,
                format!("an offset of topic `{topic}` was out of range: rejoining the group"),
            ));
        }
        for (partition, (position, low, high)) in gone {
            if let Some(assigned) = self.partitions.get_mut(&partition) {
                assigned.state = State::Stuck;
            }
            self.stuck(partition, position, low, high);
            self.group.pause(&[partition])?;
        }
        Ok(())
    }

    /// Whether a message is the partition's next; then the position moves past it.
    pub fn accept(&mut self, partition: i32, offset: i64) -> bool {
        let Some(assigned) = self.partitions.get_mut(&partition).filter(|a| a.state == State::Active) else {
            return false;
        };
        // A restarted fetch may begin before what was already taken.
        if offset < assigned.position {
            return false;
        }
        assigned.position = offset + 1;
        assigned.at_end = false;
        if std::mem::take(&mut assigned.is_reported) {
            self.context.status.delivered(partition, None);
            self.context.status.dry(partition, None);
        }
        true
    }

    /// The broker reported a partition's end. The status follows when its queue is found empty, which is next.
    pub fn reached_end(&mut self, partition: i32) {
        if let Some(assigned) = self.partitions.get_mut(&partition) {
            (assigned.at_end, assigned.is_reported) = (true, false);
        }
    }

    /// Nothing more of a partition was fetched.
    pub fn ran_dry(&mut self, partition: i32) {
        if let Some(assigned) = self.partitions.get_mut(&partition)
            && assigned.state == State::Active
            && !std::mem::replace(&mut assigned.is_reported, true)
        {
            self.context.status.dry(partition, Some(assigned.position));
            if assigned.at_end {
                self.context.status.delivered(partition, Some(assigned.position));
            }
        }
    }

    /// The queues are not polled for a while: whether a partition is at its end, or dry, is unknown.
    pub fn stop_observing(&mut self) {
        for (partition, assigned) in &mut self.partitions {
            if std::mem::take(&mut assigned.is_reported) {
                self.context.status.delivered(*partition, None);
                self.context.status.dry(*partition, None);
            }
        }
    }

    /// A partition is no longer this worker's.
    pub fn release(&self, partition: i32) {
        self.tokens.release(partition);
        self.context.status.revoked(partition);
    }

    /// Stops a partition that another worker has taken over.
    pub fn fence(&mut self, partition: i32) -> Result<(), StoreError> {
        if let Some(assigned) = self.partitions.get_mut(&partition) {
            assigned.state = State::Fenced(Instant::now());
            self.group.pause(&[partition])?;
        }
        Ok(())
    }

    pub fn remove(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Gives up revoked partitions that are not taken over. librdkafka can unassign only what was assigned, so they are assigned first.
    pub fn forget_pending(&mut self, partitions: &[i32]) {
        let Some(mut pending) = self.pending.take() else { return };
        let (revoked, left): (Vec<i32>, Vec<i32>) = std::mem::take(&mut pending.partitions)
            .into_iter()
            .partition(|p| partitions.contains(p));
        pending.partitions = left;
        if !revoked.is_empty() {
            self.group.consent(&Rebalanced::Assigned(revoked));
        }
        self.pending = Some(pending).filter(|pending| !pending.partitions.is_empty());
    }

    /// Consents to what is not taken over, and releases all tokens.
    pub fn release_all(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.group.consent(&Rebalanced::Assigned(pending.partitions));
        }
        for partition in std::mem::take(&mut self.partitions).into_keys() {
            self.tokens.release(partition);
        }
    }
}
