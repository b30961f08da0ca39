//! A changed connection reaches a few of its pipelines at a time: schema Job, then rollout. Pure.
//!
//! A pipeline takes a slot among all pipelines that roll out ([`Rollouts`](super::upgrade::Rollouts)). The slot is recorded in the
//! status before anything is applied, so that it outlives the operator. A pipeline that fails has it until it succeeds or is edited:
//! a mistake in a connection reaches no more than these few pipelines.

use jiff::Timestamp;
use userpipeline_api::{ConnectionRollout, ConnectionVersion};

use super::upgrade::Turn;
use crate::pipeline::model::{Problem, whole_seconds};

/// How far the children of a pipeline are from the current versions of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// They need a schema Job, or other workers than the live ones.
    Differs,
    /// The schema is applied and the workers are current, but not all of them are available.
    Applied,
    /// All workers are available.
    Settled,
}

/// What decides whether a pipeline may change to the current versions of its connections.
#[derive(Clone, Debug)]
pub struct ConnectionInput<'a> {
    /// The spec has changed since the last reconcile, or there was none.
    pub is_edited: bool,
    /// `spec.suspend`: no worker runs.
    pub suspended: bool,
    /// A schema was applied at some time.
    pub was_applied: bool,
    /// The versions in the status.
    pub recorded: &'a [ConnectionVersion],
    pub current: &'a [ConnectionVersion],
    /// The slot in the status.
    pub rollout: Option<&'a ConnectionRollout>,
    pub progress: Progress,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// To be written to the status.
    pub versions: Vec<ConnectionVersion>,
    /// To be written to the status.
    pub rollout: Option<ConnectionRollout>,
    /// `Waiting`: children keep what they have, and no schema Job starts.
    pub turn: Turn,
    /// Why earlier versions of connections are used.
    pub problem: Option<Problem>,
}

/// Decides; `take_slot` is called where the pipeline needs one that it does not have.
pub fn decide(input: &ConnectionInput<'_>, take_slot: impl FnOnce() -> Turn, now: Timestamp) -> Decision {
    let follow = |rollout: Option<&ConnectionRollout>| Decision {
        versions: input.current.to_vec(),
        rollout: rollout.cloned(),
        turn: Turn::Now,
        problem: None,
    };
    // An edit never waits, and ends the rollout of a connection.
    if input.is_edited || input.suspended || !input.was_applied {
        return follow(None);
    }
    let rollout = input.rollout.filter(|_| input.progress != Progress::Settled);
    if rollout.is_some() || input.recorded == input.current || input.progress != Progress::Differs {
        return follow(rollout);
    }
    let taken = take_slot();
    Decision {
        versions: if taken == Turn::Now { input.current } else { input.recorded }.to_vec(),
        rollout: (taken == Turn::Now).then(|| ConnectionRollout { since: whole_seconds(now) }),
        // With a slot, only until the status has it.
        turn: Turn::Waiting,
        problem: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn version(generation: i64) -> ConnectionVersion {
        ConnectionVersion {
            name: "stores".into(),
            uid: "u".into(),
            generation,
        }
    }

    fn slot() -> ConnectionRollout {
        ConnectionRollout {
            since: whole_seconds(at(-60)),
        }
    }

    /// A connection changed from one version to another, and the pipeline has no slot.
    fn changed<'a>(recorded: &'a [ConnectionVersion], current: &'a [ConnectionVersion]) -> ConnectionInput<'a> {
        ConnectionInput {
            is_edited: false,
            suspended: false,
            was_applied: true,
            recorded,
            current,
            rollout: None,
            progress: Progress::Differs,
        }
    }

    type Change = fn(&mut ConnectionInput<'_>);

    #[test]
    fn only_a_changed_connection_that_changes_workers_or_schema_needs_a_slot() {
        let (old, new) = ([version(1)], [version(2)]);
        let table: [(&str, Change, bool); 6] = [
            ("a changed connection", |_| {}, true),
            ("an edit at the same time", |input| input.is_edited = true, false),
            ("suspended", |input| input.suspended = true, false),
            ("never applied", |input| input.was_applied = false, false),
            ("the same documents", |input| input.progress = Progress::Applied, false),
            ("an unchanged connection", |input| input.recorded = input.current, false),
        ];
        for (case, change, needs_slot) in table {
            let mut input = changed(&old, &new);
            change(&mut input);
            let mut asked = false;
            let take_slot = || {
                asked = true;
                Turn::Waiting
            };
            let decision = decide(&input, take_slot, at(0));
            assert_eq!(asked, needs_slot, "{case}");
            let turn = if needs_slot { Turn::Waiting } else { Turn::Now };
            let versions = if needs_slot { &old } else { &new };
            assert_eq!(
                (decision.turn, &decision.versions[..], decision.rollout),
                (turn, &versions[..], None),
                "{case}"
            );
        }
    }

    #[test]
    fn a_slot_is_kept_until_the_pipeline_has_settled_or_is_edited() {
        let (old, new, slot) = ([version(1)], [version(2)], slot());
        let table: [(&str, Change, bool); 5] = [
            ("it differs", |_| {}, true),
            ("the connection changes again", |input| input.recorded = &[], true),
            ("workers are not available", |input| input.progress = Progress::Applied, true),
            ("it has settled", |input| input.progress = Progress::Settled, false),
            ("it is edited", |input| input.is_edited = true, false),
        ];
        for (case, change, keeps) in table {
            let mut input = ConnectionInput {
                rollout: Some(&slot),
                ..changed(&old, &new)
            };
            change(&mut input);
            let decision = decide(&input, || panic!("it has a slot"), at(0));
            assert_eq!((decision.turn, &decision.versions[..]), (Turn::Now, &new[..]), "{case}");
            assert_eq!(decision.rollout, keeps.then(|| slot.clone()), "{case}");
        }
    }

    #[test]
    fn a_slot_is_recorded_before_anything_is_applied() {
        let (old, new) = ([version(1)], [version(2)]);
        let granted = decide(&changed(&old, &new), || Turn::Now, at(0));
        assert_eq!((granted.turn, &granted.versions[..]), (Turn::Waiting, &new[..]));
        let read_back = ConnectionInput {
            rollout: granted.rollout.as_ref(),
            ..changed(&granted.versions, &new)
        };
        let next = decide(&read_back, || panic!("it has a slot"), at(1));
        assert_eq!((next.turn, next.rollout), (Turn::Now, granted.rollout));
    }
}
