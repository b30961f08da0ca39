//! When a pipeline is reported as suspended.

use super::*;
use crate::pipeline::{decide::drain::Finding, observe::workers_left};

#[test]
fn suspended_is_true_once_the_drain_is_verified_and_counts_as_ready() {
    let mut pipeline = example::pipeline();
    pipeline.spec.suspend = true;
    let status_of = |finding: Finding, deployment: Deployment| {
        let mut applied = applied(deployment);
        applied.decisions.drain.stop_workers = !matches!(finding, Finding::Runs(_));
        applied.decisions.drain.finding = finding;
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
        let status = status_of(finding.clone(), deployment);
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
        let status = status_of(finding, stopped());
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
fn workers_are_left_while_a_pod_or_the_deployment_has_them() {
    let observed = |pods: Vec<Arc<Pod>>, deployment: Deployment| Observed {
        children: Children {
            pods,
            deployments: vec![Arc::new(deployment)],
            ..Children::default()
        },
        ..Observed::default()
    };
    let id = PipelineId::of(&example::pipeline());
    let running = worker_pod("w-1", &json!({"phase": "Running"}));
    let ended = worker_pod("w-1", &json!({"phase": "Succeeded"}));
    for (observed, left) in [
        (Observed::default(), None),
        (observed(vec![], healthy()), Some(2)),
        (observed(vec![running], stopped()), Some(1)),
        (observed(vec![ended], stopped()), Some(0)),
        (observed(vec![], deployment(3, &json!({"observedGeneration": 2}))), Some(2)),
        (observed(vec![], stopped()), Some(0)),
    ] {
        assert_eq!(workers_left(&observed, observed.worker_deployment(&id)), left);
    }
}
