//! Rollouts that are due only because the operator was upgraded, or a connection was changed, take turns, so that they do not restart
//! the workers of all pipelines at the same time. An edit of a spec never waits.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use userpipeline_api::names::PipelineId;

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
    /// Pipelines with a slot for a changed connection. It does not expire.
    slots: HashSet<PipelineId>,
    is_seeded: bool,
}

/// The pipelines that were rolling out when this operator started.
#[derive(Debug, Default)]
pub struct Inherited {
    pub rolling: Vec<PipelineId>,
    /// Those with a slot in their status.
    pub slots: Vec<PipelineId>,
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
        if !state.is_due_to_upgrade(id, input) || state.slots.contains(id) {
            return Turn::Now;
        }
        state.seed(inherited, now);
        let turn = decide(state.others(id, now));
        if turn == Turn::Now {
            state.rolling.insert(id.clone(), now);
        }
        turn
    }

    /// A slot for a changed connection, if one is free. The pipeline has it until [`Self::set_slot`] takes it away.
    pub fn take_slot(&self, id: &PipelineId, inherited: impl FnOnce() -> Inherited, now: Instant) -> Turn {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.seed(inherited, now);
        let turn = decide(state.others(id, now));
        if turn == Turn::Now {
            state.slots.insert(id.clone());
        }
        turn
    }

    /// Whether the pipeline has a slot follows its status.
    pub fn set_slot(&self, id: &PipelineId, has_slot: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if has_slot {
            state.slots.insert(id.clone());
        } else {
            state.slots.remove(id);
        }
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

    fn others(&self, id: &PipelineId, now: Instant) -> usize {
        let rolling = self.rolling.iter().filter(|(_, since)| now.duration_since(**since) < COUNTS_FOR);
        let without_slot = rolling.filter(|(other, _)| *other != id && !self.slots.contains(*other));
        without_slot.count() + self.slots.iter().filter(|other| *other != id).count()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    /// This many seconds after the first call.
    fn at(second: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(second)
    }

    fn id(n: usize) -> PipelineId {
        PipelineId {
            namespace: "demo".to_owned(),
            name: format!("p{n}"),
        }
    }

    /// A pipeline whose spec an earlier operator applied, with the earlier operator's image.
    const UPGRADED: UpgradeInput = UpgradeInput {
        generation: Some(2),
        observed_generation: Some(2),
        changes_workers: true,
        is_rolling_out: false,
        suspended: false,
    };

    fn turn(rollouts: &Rollouts, n: usize, input: UpgradeInput, second: u64) -> Turn {
        rollouts.turn(&id(n), input, Inherited::default, at(second))
    }

    /// Five pipelines are rolling out.
    fn busy() -> Rollouts {
        let rollouts = Rollouts::default();
        for n in 0..AT_ONCE {
            assert_eq!(turn(&rollouts, n, UPGRADED, 0), Turn::Now);
        }
        rollouts
    }

    #[test]
    fn only_a_rollout_that_an_upgrade_causes_waits() {
        let edited = UpgradeInput {
            observed_generation: Some(1),
            ..UPGRADED
        };
        let new = UpgradeInput {
            observed_generation: None,
            ..UPGRADED
        };
        let unchanged = UpgradeInput {
            changes_workers: false,
            ..UPGRADED
        };
        let suspended = UpgradeInput {
            suspended: true,
            ..UPGRADED
        };
        for (case, input, expected) in [
            ("an upgrade", UPGRADED, Turn::Waiting),
            ("an edit while no operator ran", edited, Turn::Now),
            ("a new pipeline", new, Turn::Now),
            ("no other image or ConfigMap", unchanged, Turn::Now),
            ("suspended", suspended, Turn::Now),
        ] {
            assert_eq!(turn(&busy(), 9, input, 1), expected, "{case}");
        }
    }

    #[test]
    fn an_edit_ends_the_wait() {
        let rollouts = busy();
        assert_eq!(turn(&rollouts, 9, UPGRADED, 1), Turn::Waiting);
        let edited = UpgradeInput {
            generation: Some(3),
            ..UPGRADED
        };
        assert_eq!(turn(&rollouts, 9, edited, 2), Turn::Now);
        let observed = UpgradeInput {
            observed_generation: Some(3),
            ..edited
        };
        assert_eq!(
            turn(&rollouts, 9, observed, 3),
            Turn::Now,
            "also once the status has the new generation"
        );
    }

    #[test]
    fn the_next_one_starts_when_a_rollout_has_ended() {
        let rollouts = busy();
        let rolling = UpgradeInput {
            changes_workers: false,
            is_rolling_out: true,
            ..UPGRADED
        };
        let done = UpgradeInput {
            is_rolling_out: false,
            ..rolling
        };
        assert_eq!(turn(&rollouts, 0, done, 1), Turn::Now);
        assert_eq!(turn(&rollouts, 9, UPGRADED, 2), Turn::Waiting, "the cache may be behind the write");
        assert_eq!(turn(&rollouts, 0, rolling, 15), Turn::Now);
        assert_eq!(turn(&rollouts, 9, UPGRADED, 16), Turn::Waiting);
        assert_eq!(turn(&rollouts, 0, done, 20), Turn::Now);
        assert_eq!(turn(&rollouts, 9, UPGRADED, 21), Turn::Now);
        assert_eq!(turn(&rollouts, 8, UPGRADED, 22), Turn::Waiting);
    }

    #[test]
    fn a_rollout_that_could_not_be_applied_does_not_count() {
        let rollouts = busy();
        assert_eq!(turn(&rollouts, 9, UPGRADED, 1), Turn::Waiting);
        rollouts.release(&id(0));
        assert_eq!(turn(&rollouts, 9, UPGRADED, 1), Turn::Now);
    }

    #[test]
    fn rollouts_that_never_end_and_pipelines_that_are_gone_do_not_count_forever() {
        let rollouts = busy();
        assert_eq!(turn(&rollouts, 9, UPGRADED, 599), Turn::Waiting);
        assert_eq!(turn(&rollouts, 9, UPGRADED, 600), Turn::Now);
        let rollouts = busy();
        rollouts.forget(&id(3));
        assert_eq!(turn(&rollouts, 9, UPGRADED, 1), Turn::Now);
    }

    #[test]
    fn rollouts_from_before_a_restart_count_and_are_listed_once() {
        let rollouts = Rollouts::default();
        let others = || Inherited {
            rolling: (0..3).map(id).collect(),
            slots: (2..AT_ONCE).map(id).collect(),
        };
        assert_eq!(rollouts.turn(&id(9), UPGRADED, others, at(0)), Turn::Waiting);
        assert_eq!(rollouts.turn(&id(9), UPGRADED, || panic!("listed again"), at(1)), Turn::Waiting);
        assert_eq!(rollouts.take_slot(&id(8), || panic!("listed again"), at(1)), Turn::Waiting);
    }

    #[test]
    fn a_slot_for_a_changed_connection_counts_until_it_is_given_back() {
        let rollouts = Rollouts::default();
        let take = |n: usize, second: u64| rollouts.take_slot(&id(n), Inherited::default, at(second));
        for n in 0..AT_ONCE {
            assert_eq!(take(n, 0), Turn::Now);
        }
        assert_eq!(take(0, 1), Turn::Now, "its own does not count");
        assert_eq!(take(9, 100_000), Turn::Waiting, "it does not expire");
        assert_eq!(turn(&rollouts, 9, UPGRADED, 100_000), Turn::Waiting, "an upgrade waits, too");
        assert_eq!(turn(&rollouts, 3, UPGRADED, 100_000), Turn::Now, "but not one with a slot");
        rollouts.set_slot(&id(3), false);
        rollouts.set_slot(&id(9), false);
        assert_eq!(take(9, 100_001), Turn::Now);
        assert_eq!(take(8, 100_001), Turn::Waiting);
        rollouts.forget(&id(9));
        assert_eq!(take(8, 100_002), Turn::Now);
    }
}
