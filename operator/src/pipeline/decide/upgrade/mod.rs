//! Rollouts that are due only because the operator was upgraded, or a connection was changed, take turns, so that they do not restart
//! the workers of all pipelines at the same time. An edit of a spec never waits.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use userpipeline_api::{ConnectionRollout, names::PipelineId};

use crate::pipeline::model::elapsed;

/// Pipelines whose workers may be rolling out when an upgrade starts another rollout.
const AT_ONCE: usize = 5;
/// A rollout counts for this time: one that never ends must not block the others.
const COUNTS_FOR: Duration = Duration::from_secs(600);
/// A rollout that was allowed counts at least for this time: the cache may not have it yet.
const COUNTS_AT_LEAST: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// The desired Deployment is applied.
    #[default]
    Now,
    /// The Deployment stays as it is until fewer pipelines are rolling out.
    Waiting,
}

/// What decides whether a pipeline may roll out now.
#[derive(Clone, Copy, Debug)]
pub struct UpgradeInput {
    /// Of the spec.
    pub generation: Option<i64>,
    /// Of the spec in the last status.
    pub observed_generation: Option<i64>,
    /// The Deployment has workers with another image or ConfigMap than the desired one.
    pub changes_workers: bool,
    /// The Deployment is rolling out now.
    pub is_rolling_out: bool,
    /// `spec.suspend`: the workers are being stopped anyway.
    pub suspended: bool,
}

#[derive(Debug, Default)]
struct State {
    /// The generation of each pipeline that an earlier operator applied; `None` where it applied none, or an older one.
    inherited: HashMap<PipelineId, Option<i64>>,
    /// Since when each pipeline has been rolling out.
    rolling: HashMap<PipelineId, Instant>,
    /// Pipelines with a slot for a changed connection.
    slots: HashMap<PipelineId, Slot>,
    is_seeded: bool,
}

/// The slot of a pipeline. It does not expire for other pipelines of its connections, so that a mistake does not reach them. Others
/// do not wait for it longer than for a rollout that never ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The names of the changed connections, in the pipeline's namespace.
    pub connections: Vec<String>,
    /// None if it was before this machine started.
    pub since: Option<Instant>,
}

impl Slot {
    pub fn of(rollout: &ConnectionRollout, now: Timestamp) -> Self {
        Self {
            connections: rollout.connections.clone(),
            since: Instant::now().checked_sub(elapsed(rollout.since.0, now)),
        }
    }
}

/// The pipelines that were rolling out when this operator started.
#[derive(Debug, Default)]
pub struct Inherited {
    pub rolling: Vec<PipelineId>,
    /// Those with a slot in their status.
    pub slots: Vec<(PipelineId, Slot)>,
}

/// The rollouts of all pipelines, as far as this operator has observed them.
#[derive(Debug, Default)]
pub struct Rollouts(Mutex<State>);

impl Rollouts {
    /// Decides, and counts the pipeline if it may roll out. `inherited` is called at most once, because afterwards each reconcile
    /// updates its own pipeline.
    pub fn turn(&self, id: &PipelineId, input: UpgradeInput, inherited: impl FnOnce() -> Inherited, now: Instant) -> Turn {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.observe(id, input, now);
        if !state.is_due_to_upgrade(id, input) || state.slots.contains_key(id) {
            return Turn::Now;
        }
        state.seed(inherited, now);
        let turn = decide(state.others(id, now));
        if turn == Turn::Now {
            state.rolling.insert(id.clone(), now);
        }
        turn
    }

    /// A slot for changed connections, if one is free. The pipeline has it until [`Self::set_slot`] takes it away.
    pub fn take_slot(&self, id: &PipelineId, connections: &[String], inherited: impl FnOnce() -> Inherited, now: Instant) -> Turn {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.seed(inherited, now);
        let of_connections = connections.iter().map(|connection| state.slots_of(id, connection)).max();
        let turn = decide(state.others(id, now).max(of_connections.unwrap_or(0)));
        if turn == Turn::Now {
            let slot = Slot {
                connections: connections.to_vec(),
                since: Some(now),
            };
            state.slots.insert(id.clone(), slot);
        }
        turn
    }

    /// The slot of a pipeline follows its status.
    pub fn set_slot(&self, id: &PipelineId, slot: Option<Slot>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot {
            Some(slot) => state.slots.insert(id.clone(), slot),
            None => state.slots.remove(id),
        };
    }

    /// The pipeline's Deployment could not be applied, so it does not roll out.
    pub fn release(&self, id: &PipelineId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rolling.remove(id);
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, id: &PipelineId) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.inherited.remove(id);
        state.rolling.remove(id);
        state.slots.remove(id);
    }
}

fn decide(others: usize) -> Turn {
    if others < AT_ONCE { Turn::Now } else { Turn::Waiting }
}

impl State {
    fn seed(&mut self, inherited: impl FnOnce() -> Inherited, now: Instant) {
        if self.is_seeded {
            return;
        }
        self.is_seeded = true;
        let Inherited { rolling, slots } = inherited();
        for other in rolling {
            self.rolling.entry(other).or_insert(now);
        }
        self.slots.extend(slots);
    }

    fn observe(&mut self, id: &PipelineId, input: UpgradeInput, now: Instant) {
        let was_applied = input.observed_generation == input.generation;
        self.inherited
            .entry(id.clone())
            .or_insert_with(|| input.generation.filter(|_| was_applied));
        if input.is_rolling_out {
            self.rolling.entry(id.clone()).or_insert(now);
        } else if self
            .rolling
            .get(id)
            .is_some_and(|since| now.duration_since(*since) >= COUNTS_AT_LEAST)
        {
            self.rolling.remove(id);
        }
    }

    /// Whether workers are replaced though the spec has not changed since an earlier operator applied it.
    fn is_due_to_upgrade(&self, id: &PipelineId, input: UpgradeInput) -> bool {
        let inherited = self.inherited.get(id).copied().flatten();
        let is_edited = inherited.is_none() || inherited != input.generation;
        input.changes_workers && !is_edited && !input.suspended
    }

    /// Other pipelines that roll out, for whatever cause, and began recently.
    fn others(&self, id: &PipelineId, now: Instant) -> usize {
        let is_recent = |since: Instant| now.duration_since(since) < COUNTS_FOR;
        let rolling = self.rolling.iter().map(|(other, since)| (other, Some(*since)));
        let slots = self.slots.iter().map(|(other, slot)| (other, slot.since));
        let recent = rolling.chain(slots).filter(|(_, since)| since.is_some_and(is_recent));
        let others: HashSet<&PipelineId> = recent.map(|(other, _)| other).filter(|other| *other != id).collect();
        others.len()
    }

    /// Other pipelines with a slot for a connection of the namespace of `id`, since whenever.
    fn slots_of(&self, id: &PipelineId, connection: &String) -> usize {
        let others = self
            .slots
            .iter()
            .filter(|(other, _)| *other != id && other.namespace == id.namespace);
        others.filter(|(_, slot)| slot.connections.contains(connection)).count()
    }
}

#[cfg(test)]
mod tests;
