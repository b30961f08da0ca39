//! When a suspended pipeline is said to be so.

use super::*;
use crate::pipeline::drain::Finding;

#[test]
fn suspended_is_told_when_it_is_verified_that_all_is_drained_and_counts_as_ready() {
    let mut pipeline = example::pipeline();
    pipeline.spec.suspend = true;
    let told = |finding: Finding, deployment: Deployment| {
        let mut applied = applied(deployment);
        applied.drain.stop_workers = !matches!(finding, Finding::Runs(_));
        applied.drain.finding = finding;
        of(&pipeline, Ok(&applied), &Observed::default(), now())
    };
    let failed = Finding::Failed {
        reason: "GroupNotEmpty".into(),
        message: "1 member".into(),
    };
    for (finding, deployment, reason) in [
        (Finding::Runs(vec!["users-ingest-1".into()]), healthy(), "Draining"),
        (Finding::Workers(2), healthy(), "Draining"),
        (Finding::Verifying(None), stopped(), "Draining"),
        (
            Finding::Verifying(Some(("Unschedulable".into(), "no node".into()))),
            stopped(),
            "Unschedulable",
        ),
        (failed, stopped(), "GroupNotEmpty"),
    ] {
        let status = told(finding.clone(), deployment);
        assert_eq!(
            (condition(&status, "Suspended").0, condition(&status, "Suspended").1),
            ("False", reason),
            "{finding:?}"
        );
        assert_eq!(condition(&status, "Ready").0, "False", "{finding:?}");
    }
    for (finding, reason) in [
        (Finding::Drained("the group is empty".into()), "Drained"),
        (Finding::NothingToDrain, "Suspended"),
    ] {
        let status = told(finding, stopped());
        assert_eq!(
            (condition(&status, "Suspended").0, condition(&status, "Suspended").1),
            ("True", reason)
        );
        assert_eq!(
            (condition(&status, "Ready").0, condition(&status, "Ready").1),
            ("True", "Suspended")
        );
        assert_eq!(status.workers.unwrap().summary, "0/0");
    }
}

#[test]
fn workers_are_left_as_long_as_a_pod_or_the_deployment_says_so() {
    let going = |pods: Vec<Arc<Pod>>, deployment: Deployment| Observed {
        pods,
        deployments: vec![Arc::new(deployment)],
        ..Observed::default()
    };
    let running = worker_pod("w-1", &json!({"phase": "Running"}));
    let ended = worker_pod("w-1", &json!({"phase": "Succeeded"}));
    for (observed, left) in [
        (Observed::default(), None),
        (going(vec![], healthy()), Some(2)),
        (going(vec![running], stopped()), Some(1)),
        (going(vec![ended], stopped()), Some(0)),
        (going(vec![], deployment(3, &json!({"observedGeneration": 2}))), Some(2)),
        (going(vec![], stopped()), Some(0)),
    ] {
        assert_eq!(observed.workers_left("users-worker"), left);
    }
}
