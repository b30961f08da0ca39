//! Who may hold the Lease. Pure.
//!
//! As in client-go, the clocks of other machines do not matter: a Lease has expired when it has not changed for its duration, as
//! measured here since the change was observed.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::LeaseSpec;

/// The Lease as observed last. Without a holder where none was ever found.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub spec: LeaseSpec,
    /// When it was first observed like this.
    pub since: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is no Lease.
    Create,
    /// It has no holder, or its holder stopped renewing it.
    Take,
    /// This candidate holds it.
    Renew,
    /// Another candidate holds it.
    Wait { holder: String },
    /// None was ever found. One that was deleted may have a holder that has not noticed yet.
    WaitForHolder,
}

/// What is known of the Lease after it was read. A Lease that was deleted is remembered: its holder may not have noticed yet.
pub fn observe(before: Option<Observation>, found: Option<&LeaseSpec>, now: Instant) -> Observation {
    match (before, found) {
        (Some(before), None) => before,
        (Some(before), Some(found)) if before.spec == *found => before,
        (_, found) => Observation {
            spec: found.cloned().unwrap_or_default(),
            since: now,
        },
    }
}

/// The next step of the candidate `identity`. `duration` is that of a Lease without one.
pub fn next(identity: &str, found: Option<&LeaseSpec>, observed: &Observation, duration: Duration, now: Instant) -> Next {
    let holder = observed.spec.holder_identity.as_deref().filter(|holder| !holder.is_empty());
    let expired = has_expired(observed, duration, now);
    match (holder, found) {
        (Some(holder), Some(_)) if holder == identity => Next::Renew,
        (Some(holder), None) if holder == identity => Next::Create,
        (Some(holder), _) if !expired => Next::Wait { holder: holder.to_owned() },
        (None, None) if !expired => Next::WaitForHolder,
        (_, None) => Next::Create,
        (_, Some(_)) => Next::Take,
    }
}

fn has_expired(observed: &Observation, default: Duration, now: Instant) -> bool {
    let seconds = observed.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.filter(|seconds| *seconds > 0).map_or(default, Duration::from_secs);
    now.duration_since(observed.since) >= duration
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn held(holder: &str, renewal: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()).filter(|holder| holder != "nobody"),
            lease_duration_seconds: Some(15),
            // Of a clock that is years behind, and does not matter.
            renew_time: Some(MicroTime(Timestamp::from_second(renewal).unwrap())),
            ..LeaseSpec::default()
        }
    }

    fn wait(holder: &str) -> Next {
        Next::Wait { holder: holder.into() }
    }

    /// What candidate `a` does at each moment (in seconds), as it finds the Lease then.
    fn steps(finds: &[(u64, Option<LeaseSpec>)]) -> Vec<Next> {
        let start = Instant::now();
        let mut observed = None;
        let steps = finds.iter().map(|(second, found)| {
            let now = start + Duration::from_secs(*second);
            let current = observe(observed.take(), found.as_ref(), now);
            let next = next("a", found.as_ref(), &current, DURATION, now);
            observed = Some(current);
            next
        });
        steps.collect()
    }

    #[test]
    fn a_candidate_takes_only_a_lease_that_is_not_renewed() {
        let (a, b) = (|n| Some(held("a", n)), |n| Some(held("b", n)));
        let table = [
            (
                "none exists, and none is created by a holder from which it was deleted",
                vec![(0, None), (14, None), (15, None)],
                vec![Next::WaitForHolder, Next::WaitForHolder, Next::Create],
            ),
            (
                "it was deleted before this candidate started, and its holder creates it again",
                vec![(0, None), (2, b(0)), (14, None), (16, b(1)), (18, None)],
                vec![Next::WaitForHolder, wait("b"), wait("b"), wait("b"), wait("b")],
            ),
            ("it is free", vec![(0, Some(held("nobody", 0)))], vec![Next::Take]),
            ("its holder released it", vec![(0, Some(held("", 0)))], vec![Next::Take]),
            (
                "it is held by this one",
                vec![(0, a(0)), (60, a(0))],
                vec![Next::Renew, Next::Renew],
            ),
            (
                "another renews it",
                vec![(0, b(0)), (14, b(0)), (16, b(1)), (30, b(1))],
                vec![wait("b"); 4],
            ),
            (
                "another died",
                vec![(0, b(0)), (14, b(0)), (15, b(0))],
                vec![wait("b"), wait("b"), Next::Take],
            ),
            ("another took it", vec![(0, a(0)), (2, b(1))], vec![Next::Renew, wait("b")]),
            (
                "someone deleted it from this one",
                vec![(0, a(0)), (2, None)],
                vec![Next::Renew, Next::Create],
            ),
            (
                "someone deleted it from another, which may not know yet",
                vec![(0, b(0)), (2, None), (14, None), (15, None)],
                vec![wait("b"), wait("b"), wait("b"), Next::Create],
            ),
        ];
        for (case, finds, expected) in table {
            assert_eq!(steps(&finds), expected, "{case}");
        }
    }

    #[test]
    fn the_holders_duration_counts() {
        let long = LeaseSpec {
            lease_duration_seconds: Some(60),
            ..held("b", 0)
        };
        let none = LeaseSpec {
            lease_duration_seconds: None,
            ..held("b", 0)
        };
        assert_eq!(
            steps(&[(0, Some(long.clone())), (59, Some(long.clone())), (60, Some(long))]),
            [wait("b"), wait("b"), Next::Take]
        );
        assert_eq!(
            steps(&[(0, Some(none.clone())), (14, Some(none.clone())), (15, Some(none))]),
            [wait("b"), wait("b"), Next::Take]
        );
    }
}
