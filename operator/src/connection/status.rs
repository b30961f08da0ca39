//! The status of a connection. Pure.

use jiff::Timestamp;
use userpipeline_api::{UserPipelineConnectionStatus, condition};

use crate::pipeline::Verdict;

/// What the status follows from.
#[derive(Clone, Debug)]
pub struct ConnectionState {
    pub generation: Option<i64>,
    /// Why no pipeline can use it.
    pub problem: Option<String>,
    /// Pipelines that name it.
    pub pipelines: usize,
}

/// The new status, after the previous one.
pub fn connection_status(state: &ConnectionState, before: &UserPipelineConnectionStatus, now: Timestamp) -> UserPipelineConnectionStatus {
    let accepted = match &state.problem {
        None => Verdict::yes("Accepted", "pipelines can use the connection"),
        Some(problem) => Verdict::no("InvalidSpec", &format!("{problem}. Pipelines keep what they have")),
    };
    UserPipelineConnectionStatus {
        observed_generation: state.generation,
        conditions: vec![accepted.condition(condition::ACCEPTED, state.generation, &before.conditions, now)],
        pipelines: i32::try_from(state.pipelines).unwrap_or(i32::MAX),
        check: before.check.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_whether_and_by_how_many_pipelines_the_connection_is_used() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let accepted = ConnectionState {
            generation: Some(2),
            problem: None,
            pipelines: 3,
        };
        let first = connection_status(&accepted, &UserPipelineConnectionStatus::default(), at(1));
        assert_eq!((first.observed_generation, first.pipelines), (Some(2), 3));
        assert_eq!(
            (first.conditions[0].status.as_str(), first.conditions[0].reason.as_str()),
            ("True", "Accepted")
        );
        assert_eq!(
            connection_status(&accepted, &first, at(9)),
            first,
            "nothing to write the second time"
        );

        let invalid = ConnectionState {
            problem: Some("spec.cassandra.replication: `dc1: 0` must name a datacenter".into()),
            ..accepted
        };
        let second = connection_status(&invalid, &first, at(9));
        let condition = &second.conditions[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "InvalidSpec"));
        assert!(condition.message.contains("dc1: 0") && condition.last_transition_time.0 == at(9));
    }
}
