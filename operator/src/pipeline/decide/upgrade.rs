//! Rollouts that are due only because the operator was upgraded take turns, so that an upgrade does not restart the workers of all
//! pipelines at the same time. An edit of a spec never waits.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use userpipeline_api::names::PipelineId;

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
    rolling: HashMap<PipelineId, Timestamp>,
    is_seeded: bool,
}

/// The rollouts of all pipelines, as far as this operator has observed them.
#[derive(Debug, Default)]
pub struct Rollouts(Mutex<State>);

impl Rollouts {
    /// Decides, and counts the pipeline if it may roll out. `all` lists the pipelines that are rolling out; it is called at most
    /// once, because afterwards each reconcile updates its own pipeline.
    pub fn turn<I: IntoIterator<Item = PipelineId>>(
        &self,
        id: &PipelineId,
        input: UpgradeInput,
        all: impl FnOnce() -> I,
        now: Timestamp,
    ) -> Turn {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.observe(id, input, now);
        if !state.is_due_to_upgrade(id, input) {
            return Turn::Now;
        }
        if !state.is_seeded {
            state.is_seeded = true;
            for other in all() {
                state.rolling.entry(other).or_insert(now);
            }
        }
        let turn = decide(state.others(id, now));
        if turn == Turn::Now {
            state.rolling.insert(id.clone(), now);
        }
        turn
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
    }
}

fn decide(others: usize) -> Turn {
    if others < AT_ONCE { Turn::Now } else { Turn::Waiting }
}

impl State {
    fn observe(&mut self, id: &PipelineId, input: UpgradeInput, now: Timestamp) {
        let was_applied = input.observed_generation == input.generation;
        self.inherited
            .entry(id.clone())
            .or_insert_with(|| input.generation.filter(|_| was_applied));
        if input.is_rolling_out {
            self.rolling.entry(id.clone()).or_insert(now);
        } else if self.rolling.get(id).is_some_and(|since| elapsed(*since, now) >= COUNTS_AT_LEAST) {
            self.rolling.remove(id);
        }
    }

    /// Whether workers are replaced though the spec has not changed since an earlier operator applied it.
    fn is_due_to_upgrade(&self, id: &PipelineId, input: UpgradeInput) -> bool {
        let inherited = self.inherited.get(id).copied().flatten();
        let is_edited = inherited.is_none() || inherited != input.generation;
        input.changes_workers && !is_edited && !input.suspended
    }

    fn others(&self, id: &PipelineId, now: Timestamp) -> usize {
        let others = self.rolling.iter().filter(|(other, _)| *other != id);
        others.filter(|(_, since)| elapsed(**since, now) < COUNTS_FOR).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
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

    fn turn(rollouts: &Rollouts, n: usize, input: UpgradeInput, second: i64) -> Turn {
        rollouts.turn(&id(n), input, || [], at(second))
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
        let others = || (0..AT_ONCE).map(id);
        assert_eq!(rollouts.turn(&id(9), UPGRADED, others, at(0)), Turn::Waiting);
        assert_eq!(
            rollouts.turn(&id(9), UPGRADED, || -> [PipelineId; 0] { panic!("listed again") }, at(1)),
            Turn::Waiting
        );
    }
}
