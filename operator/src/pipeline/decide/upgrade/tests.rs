use std::sync::LazyLock;

use jiff::SignedDuration;

use super::*;
use crate::pipeline::model::whole_seconds;

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
        slots: (2..AT_ONCE).map(|n| (id(n), slot("stores", 0))).collect(),
    };
    assert_eq!(rollouts.turn(&id(9), UPGRADED, others, at(0)), Turn::Waiting);
    assert_eq!(rollouts.turn(&id(9), UPGRADED, || panic!("listed again"), at(1)), Turn::Waiting);
    assert_eq!(rollouts.take_slot(&id(8), &[], || panic!("listed again"), at(1)), Turn::Waiting);
}

fn slot(connection: &str, second: u64) -> Slot {
    Slot {
        connections: vec![connection.to_owned()],
        since: Some(at(second)),
    }
}

fn take(rollouts: &Rollouts, n: usize, connection: &str, second: u64) -> Turn {
    rollouts.take_slot(&id(n), &[connection.to_owned()], Inherited::default, at(second))
}

/// Five pipelines have a slot for `stores`.
fn changing() -> Rollouts {
    let rollouts = Rollouts::default();
    for n in 0..AT_ONCE {
        assert_eq!(take(&rollouts, n, "stores", 0), Turn::Now);
    }
    rollouts
}

#[test]
fn a_slot_counts_for_its_connection_until_it_is_given_back() {
    let rollouts = changing();
    assert_eq!(take(&rollouts, 0, "stores", 1), Turn::Now, "its own does not count");
    assert_eq!(take(&rollouts, 9, "stores", 100_000), Turn::Waiting, "it does not expire");
    rollouts.set_slot(&id(3), None);
    assert_eq!(take(&rollouts, 9, "stores", 100_001), Turn::Now);
    assert_eq!(take(&rollouts, 8, "stores", 100_001), Turn::Waiting);
    rollouts.forget(&id(9));
    assert_eq!(take(&rollouts, 8, "stores", 100_002), Turn::Now);
}

#[test]
fn slots_that_are_never_given_back_block_neither_upgrades_nor_other_connections() {
    let elsewhere = PipelineId {
        namespace: "other".to_owned(),
        name: "p".to_owned(),
    };
    for (second, expected) in [(599, Turn::Waiting), (600, Turn::Now)] {
        assert_eq!(turn(&changing(), 9, UPGRADED, second), expected, "an upgrade at {second}");
        assert_eq!(take(&changing(), 9, "crm", second), expected, "another connection at {second}");
        let of_namespace = |rollouts: &Rollouts| rollouts.take_slot(&elsewhere, &["stores".to_owned()], Inherited::default, at(second));
        assert_eq!(of_namespace(&changing()), expected, "one of another namespace at {second}");
    }
    assert_eq!(turn(&changing(), 3, UPGRADED, 1), Turn::Now, "an upgrade of a pipeline with a slot");
}

#[test]
fn a_slot_in_the_status_has_the_age_that_it_has_there() {
    let now = Timestamp::now();
    let since = |seconds: i64| ConnectionRollout {
        since: whole_seconds(now - SignedDuration::from_secs(seconds)),
        connections: vec!["stores".to_owned()],
    };
    let rollouts = Rollouts::default();
    for n in 0..AT_ONCE {
        rollouts.set_slot(&id(n), Some(Slot::of(&since(700), now)));
    }
    let take = |connection: &str| rollouts.take_slot(&id(9), &[connection.to_owned()], Inherited::default, Instant::now());
    assert_eq!((take("stores"), take("crm")), (Turn::Waiting, Turn::Now));
    let far = Slot::of(&since(2_000_000_000), now);
    assert_eq!(far.connections, ["stores"]);
}
