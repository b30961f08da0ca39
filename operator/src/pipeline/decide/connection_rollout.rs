//! A changed connection reaches a few of its pipelines at a time: schema Job, then rollout. Pure.
//!
//! A pipeline takes a slot among those of the connection, and all that roll out ([`Rollouts`](super::upgrade::Rollouts)). The slot is recorded in the
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

/// The schema of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// None was applied yet.
    Missing,
    /// The last schema Job failed: the change may be the fix, which never waits. Workers still change only after a schema Job
    /// succeeds, and their rollout takes turns.
    Failing,
    /// One was applied at some time.
    Applied,
}

/// What decides whether a pipeline may change to the current versions of its connections.
#[derive(Clone, Debug)]
pub struct ConnectionInput<'a> {
    /// The spec has changed since the last reconcile, or there was none.
    pub is_edited: bool,
    /// `spec.suspend`: no worker runs.
    pub suspended: bool,
    pub schema: Schema,
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

/// Decides; `take_slot` is called, with the names of the changed connections, where the pipeline needs one that it does not have.
pub fn decide(input: &ConnectionInput<'_>, take_slot: impl FnOnce(&[String]) -> Turn, now: Timestamp) -> Decision {
    let changed = changed(input);
    let follow = |rollout: Option<&ConnectionRollout>| Decision {
        versions: input.current.to_vec(),
        // A connection that changes meanwhile has the same slot.
        rollout: rollout.map(|rollout| ConnectionRollout {
            since: rollout.since.clone(),
            connections: with(&rollout.connections, &changed),
        }),
        turn: Turn::Now,
        problem: None,
    };
    // An edit never waits, and ends the rollout of a connection.
    if input.is_edited || input.suspended || input.schema == Schema::Missing {
        return follow(None);
    }
    let rollout = input.rollout.filter(|_| input.progress != Progress::Settled);
    if rollout.is_some() || changed.is_empty() || input.schema == Schema::Failing || input.progress != Progress::Differs {
        return follow(rollout);
    }
    let taken = take_slot(&changed);
    Decision {
        versions: if taken == Turn::Now { input.current } else { input.recorded }.to_vec(),
        rollout: (taken == Turn::Now).then(|| ConnectionRollout {
            since: whole_seconds(now),
            connections: changed,
        }),
        // With a slot, only until the status has it.
        turn: Turn::Waiting,
        problem: None,
    }
}

/// The names of connections whose version is not the recorded one.
fn changed(input: &ConnectionInput<'_>) -> Vec<String> {
    let changed = input.current.iter().filter(|version| !input.recorded.contains(version));
    changed.map(|version| version.name.clone()).collect()
}

fn with(names: &[String], more: &[String]) -> Vec<String> {
    let new = more.iter().filter(|name| !names.contains(name));
    names.iter().chain(new).cloned().collect()
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
            listener: None,
        }
    }

    fn slot() -> ConnectionRollout {
        ConnectionRollout {
            since: whole_seconds(at(-60)),
            connections: vec!["stores".into()],
        }
    }

    /// A connection changed from one version to another, and the pipeline has no slot.
    fn after_change<'a>(recorded: &'a [ConnectionVersion], current: &'a [ConnectionVersion]) -> ConnectionInput<'a> {
        ConnectionInput {
            is_edited: false,
            suspended: false,
            schema: Schema::Applied,
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
        let table: [(&str, Change, bool); 7] = [
            ("a changed connection", |_| {}, true),
            ("an edit at the same time", |input| input.is_edited = true, false),
            ("suspended", |input| input.suspended = true, false),
            ("never applied", |input| input.schema = Schema::Missing, false),
            (
                "its schema Job fails: this may be the fix",
                |input| input.schema = Schema::Failing,
                false,
            ),
            ("the same documents", |input| input.progress = Progress::Applied, false),
            ("an unchanged connection", |input| input.recorded = input.current, false),
        ];
        for (case, change, needs_slot) in table {
            let mut input = after_change(&old, &new);
            change(&mut input);
            let mut asked = false;
            let take_slot = |connections: &[String]| {
                assert_eq!(connections, ["stores"]);
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
                ..after_change(&old, &new)
            };
            change(&mut input);
            let decision = decide(&input, |_| panic!("it has a slot"), at(0));
            assert_eq!((decision.turn, &decision.versions[..]), (Turn::Now, &new[..]), "{case}");
            assert_eq!(decision.rollout, keeps.then(|| slot.clone()), "{case}");
        }
    }

    #[test]
    fn a_slot_is_recorded_before_anything_is_applied() {
        let (old, new) = ([version(1)], [version(2)]);
        let granted = decide(&after_change(&old, &new), |_| Turn::Now, at(0));
        assert_eq!((granted.turn, &granted.versions[..]), (Turn::Waiting, &new[..]));
        let read_back = ConnectionInput {
            rollout: granted.rollout.as_ref(),
            ..after_change(&granted.versions, &new)
        };
        let next = decide(&read_back, |_| panic!("it has a slot"), at(1));
        assert_eq!((next.turn, next.rollout), (Turn::Now, granted.rollout));
    }

    #[test]
    fn another_connection_that_changes_meanwhile_has_the_same_slot() {
        let other = |generation| ConnectionVersion {
            name: "crm".into(),
            ..version(generation)
        };
        let (recorded, current, slot) = ([version(2), other(1)], [version(2), other(2)], slot());
        let input = ConnectionInput {
            rollout: Some(&slot),
            ..after_change(&recorded, &current)
        };
        let decision = decide(&input, |_| panic!("it has a slot"), at(0));
        assert_eq!(decision.rollout.unwrap().connections, ["stores", "crm"]);
    }
}
