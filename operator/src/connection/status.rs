//! The status of a connection. Pure.

use jiff::Timestamp;
use userpipeline_api::{BlockCheck, ConnectionCheck, KafkaListenerStatus, UserPipelineConnectionStatus, condition};

use crate::pipeline::{Problem, Verdict};

/// The spec is invalid.
pub const INVALID_SPEC: &str = "InvalidSpec";
/// The operator lists Strimzi's resources.
const LISTING: &str = "Waiting";
/// Problems that end without an edit of the connection.
const WAITING: [&str; 4] = [LISTING, "KafkaMissing", "KafkaNotReady", "StrimziMissing"];

/// What the status follows from.
#[derive(Clone, Debug)]
pub struct ConnectionState {
    pub generation: Option<i64>,
    /// Why no pipeline can use it; or why no newer state of its Kafka cluster is known.
    pub problem: Option<Problem>,
    /// Whether pipelines can use it, perhaps with what was found last.
    pub is_usable: bool,
    /// What Strimzi reports of a cluster that can be used.
    pub note: Option<String>,
    /// What was found of `kafka.strimzi`.
    pub kafka: Option<KafkaListenerStatus>,
    /// Pipelines that name it.
    pub pipelines: usize,
    /// The last result.
    pub check: ConnectionCheck,
    /// What keeps the pod of the check Job from running.
    pub check_problem: Option<Problem>,
    /// Whether the installation checks connections.
    pub is_checked: bool,
}

/// The new status, after the previous one.
pub fn connection_status(state: &ConnectionState, before: &UserPipelineConnectionStatus, now: Timestamp) -> UserPipelineConnectionStatus {
    let accepted = accepted(state);
    // Of a resource as others know it: `kubectl wait`, and kstatus in GitOps controllers.
    let stalled = match &state.problem {
        None => Verdict::no("NotStalled", "pipelines can use the connection"),
        Some((reason, _)) if WAITING.contains(&reason.as_str()) => {
            Verdict::no(reason, "no edit of the connection is needed once its Kafka cluster can be used")
        }
        Some(_) => Verdict::yes(&accepted.reason, &accepted.message),
    };
    let conditions = [
        (condition::ACCEPTED, accepted.clone()),
        (condition::CHECKED, checked(state)),
        (condition::READY, accepted),
        (condition::STALLED, stalled),
    ];
    let conditions = conditions
        .into_iter()
        .map(|(type_, verdict)| verdict.condition(type_, state.generation, &before.conditions, now));
    UserPipelineConnectionStatus {
        observed_generation: state.generation,
        conditions: conditions.collect(),
        pipelines: i32::try_from(state.pipelines).unwrap_or(i32::MAX),
        kafka: state.kafka.clone(),
        check: Some(state.check.clone()).filter(|check| *check != ConnectionCheck::default()),
    }
}

fn accepted(state: &ConnectionState) -> Verdict {
    let Some((reason, problem)) = &state.problem else {
        let note = state.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        return Verdict::yes("Accepted", &format!("pipelines can use the connection{note}"));
    };
    let meanwhile = if state.is_usable {
        "Pipelines continue with the address and the authorities that were found last"
    } else {
        "Pipelines continue with the version that they used last"
    };
    let message = format!("{problem}. {meanwhile}");
    // Listing takes a moment after each start of the operator.
    if reason == LISTING {
        Verdict::unknown(reason, &message)
    } else {
        Verdict::no(reason, &message)
    }
}

fn checked(state: &ConnectionState) -> Verdict {
    let check = &state.check;
    match &state.problem {
        Some((reason, _)) if !state.is_usable && reason == INVALID_SPEC => {
            return Verdict::unknown(INVALID_SPEC, "an invalid connection is not checked");
        }
        Some((reason, _)) if !state.is_usable => {
            return Verdict::unknown(reason, "the connection is checked once its Kafka cluster can be used");
        }
        _ => {}
    }
    if !state.is_checked {
        return Verdict::unknown("ChecksDisabled", "this installation does not check connections (checks.enabled)");
    }
    // The last Job may have left no report.
    if let Some(reason) = &check.failure_reason {
        let message = check.failure_message.as_deref().unwrap_or_default();
        return Verdict::no(reason, &format!("the check Job left no report: {message}")).or_reason("CheckFailed");
    }
    if check.generation.is_none() || check.generation != state.generation {
        let stuck = state
            .check_problem
            .as_ref()
            .map(|(reason, message)| format!(": {reason}: {message}"));
        let message = format!("a Job is checking the servers{}", stuck.unwrap_or_default());
        return Verdict::unknown("Checking", &message);
    }
    let failed: Vec<&BlockCheck> = check.blocks.iter().filter(|block| block.reason.is_some()).collect();
    if let Some(first) = failed.first() {
        let messages = failed
            .iter()
            .map(|block| format!("{}: {}", block.block, block.message.as_deref().unwrap_or_default()));
        let message = messages.collect::<Vec<_>>().join("; ");
        return Verdict::no(first.reason.as_deref().unwrap_or_default(), &message).or_reason("CheckFailed");
    }
    let found: Vec<String> = check.blocks.iter().map(summary).collect();
    Verdict::yes("Reachable", &found.join("; "))
}

/// Such as `postgres: 12 ms, TLS 1.3, version 16.4`.
fn summary(block: &BlockCheck) -> String {
    let parts = [
        block.latency_milliseconds.map(|latency| format!("{latency} ms")),
        block.tls_version.clone(),
        block.server_version.as_ref().map(|version| format!("version {version}")),
        block.message.clone(),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{}: {}", block.block, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn state() -> ConnectionState {
        ConnectionState {
            generation: Some(2),
            problem: None,
            is_usable: true,
            note: None,
            kafka: None,
            pipelines: 3,
            check: ConnectionCheck::default(),
            check_problem: None,
            is_checked: true,
        }
    }

    fn of(state: &ConnectionState) -> UserPipelineConnectionStatus {
        connection_status(state, &UserPipelineConnectionStatus::default(), at(1))
    }

    #[test]
    fn the_status_says_whether_and_by_how_many_pipelines_the_connection_is_used() {
        let first = of(&state());
        assert_eq!((first.observed_generation, first.pipelines, &first.check), (Some(2), 3, &None));
        assert_eq!(
            (first.conditions[0].status.as_str(), first.conditions[0].reason.as_str()),
            ("True", "Accepted")
        );
        assert_eq!(
            connection_status(&state(), &first, at(9)),
            first,
            "nothing to write the second time"
        );

        let invalid = ConnectionState {
            problem: Some((
                INVALID_SPEC.into(),
                "spec.cassandra.replication: `dc1: 0` must name a datacenter".into(),
            )),
            is_usable: false,
            ..state()
        };
        let second = connection_status(&invalid, &first, at(9));
        let condition = &second.conditions[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "InvalidSpec"));
        assert!(condition.message.contains("dc1: 0") && condition.last_transition_time.0 == at(9));
        for (status, ready, stalled) in [(&first, "True", "False"), (&second, "False", "True")] {
            let of = |type_: &str| &status.conditions.iter().find(|c| c.type_ == type_).unwrap().status;
            assert_eq!((of(condition::READY).as_str(), of(condition::STALLED).as_str()), (ready, stalled));
        }
    }

    #[test]
    fn a_problem_of_the_kafka_cluster_is_reported_and_what_was_found_last_is_used() {
        for (reason, is_usable, accepted, stalled, checked, says) in [
            ("Waiting", false, "Unknown", "False", "Waiting", "the version that they used last"),
            (
                "KafkaMissing",
                false,
                "False",
                "False",
                "KafkaMissing",
                "the version that they used last",
            ),
            (
                "KafkaMissing",
                true,
                "False",
                "False",
                "Checking",
                "the address and the authorities that were found last",
            ),
            (
                "NotAllowed",
                true,
                "False",
                "True",
                "Checking",
                "the address and the authorities that were found last",
            ),
        ] {
            let state = ConnectionState {
                problem: Some((reason.into(), "why".into())),
                is_usable,
                ..state()
            };
            let status = of(&state);
            let find = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_).unwrap().clone();
            let (found, message) = (find(condition::ACCEPTED), find(condition::ACCEPTED).message);
            assert_eq!((found.status.as_str(), found.reason.as_str()), (accepted, reason));
            assert!(message.starts_with("why. ") && message.contains(says), "{message}");
            assert_eq!(find(condition::STALLED).status, stalled, "{reason}");
            assert_eq!(find(condition::CHECKED).reason, checked, "{reason}");
        }
        let noted = ConnectionState {
            note: Some("Kafka kafka/events is not ready".into()),
            ..state()
        };
        let accepted = of(&noted).conditions.remove(0);
        assert_eq!(
            accepted.message,
            "pipelines can use the connection; Kafka kafka/events is not ready"
        );
    }

    fn block(name: &str, problem: Option<(&str, &str)>) -> BlockCheck {
        BlockCheck {
            block: name.into(),
            reason: problem.map(|(reason, _)| reason.to_owned()),
            message: problem.map(|(_, message)| message.to_owned()),
            latency_milliseconds: problem.is_none().then_some(12),
            tls_version: Some("TLS 1.3".into()),
            server_version: Some("16.4".into()),
            ..BlockCheck::default()
        }
    }

    fn checked_as(generation: i64, blocks: Vec<BlockCheck>) -> ConnectionState {
        ConnectionState {
            check: ConnectionCheck {
                generation: Some(generation),
                blocks,
                ..ConnectionCheck::default()
            },
            ..state()
        }
    }

    /// Status, reason and message of the condition.
    fn verdict(state: &ConnectionState) -> [String; 3] {
        let condition = of(state).conditions.remove(1);
        [condition.status, condition.reason, condition.message]
    }

    #[test]
    fn the_result_of_the_last_check_is_a_condition() {
        let good = || block("postgres", None);
        let bad = block("kafka", Some(("KafkaUnreachable", "nobody is there")));
        let reachable = "postgres: 12 ms, TLS 1.3, version 16.4";
        for (state, expected) in [
            (checked_as(2, vec![good()]), ["True", "Reachable", reachable]),
            (
                checked_as(2, vec![good(), bad]),
                ["False", "KafkaUnreachable", "kafka: nobody is there"],
            ),
            (
                checked_as(1, vec![good()]),
                ["Unknown", "Checking", "a Job is checking the servers"],
            ),
        ] {
            assert_eq!(verdict(&state), expected);
        }
    }

    #[test]
    fn without_a_result_the_condition_says_why() {
        let without_report = ConnectionCheck {
            failure_reason: Some("ImagePullBackOff".into()),
            failure_message: Some("no such image".into()),
            ..checked_as(2, vec![]).check
        };
        let change = |change: fn(&mut ConnectionState)| {
            let mut state = state();
            change(&mut state);
            state
        };
        let stuck = change(|state| state.check_problem = Some(("Unschedulable".into(), "no node".into())));
        let invalid = change(|state| {
            state.problem = Some((INVALID_SPEC.into(), "x".into()));
            state.is_usable = false;
        });
        let disabled = change(|state| state.is_checked = false);
        let failed = ConnectionState {
            check: without_report,
            ..state()
        };
        for (state, expected) in [
            (state(), ["Unknown", "Checking", "a Job is checking the servers"]),
            (
                stuck,
                ["Unknown", "Checking", "a Job is checking the servers: Unschedulable: no node"],
            ),
            (failed, ["False", "ImagePullBackOff", "the check Job left no report: no such image"]),
            (invalid, ["Unknown", "InvalidSpec", "an invalid connection is not checked"]),
            (
                disabled,
                [
                    "Unknown",
                    "ChecksDisabled",
                    "this installation does not check connections (checks.enabled)",
                ],
            ),
        ] {
            assert_eq!(verdict(&state), expected);
        }
    }
}
