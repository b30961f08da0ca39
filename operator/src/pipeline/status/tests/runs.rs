//! Runs in the status.

use userpipeline_api::Totals;

use super::*;

pub fn run(name: &str, ended: &Value) -> Arc<Job> {
    let labels = labels::labels("users", labels::Component::Ingest);
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "uid": name, "labels": labels}, "status": ended})).unwrap())
}

fn run_pod(job: &str, message: &str) -> Arc<Pod> {
    let mut labels = labels::labels("users", labels::Component::Ingest);
    labels.insert("batch.kubernetes.io/controller-uid".into(), job.into());
    let state = json!({"terminated": {"exitCode": 0, "finishedAt": "2025-01-01T00:00:30Z", "message": message}});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": format!("{job}-x"), "labels": labels},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": "ingest", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}}))
        .unwrap(),
    )
}

#[test]
fn the_last_run_is_reported_and_retained() {
    let complete = json!({"startTime": "2025-01-01T00:00:01Z", "completionTime": "2025-01-01T00:00:31Z", "conditions": [{"type": "Complete", "status": "True"}]});
    let message = r#"{"runId":"r","reason":"Completed","message":"10 landed","landed":10,"published":9,"rejected":1,"totalFetched":110}"#;
    let first = Observed {
        children: Children {
            jobs: vec![run("users-ingest-28928160", &complete)],
            pods: vec![run_pod("users-ingest-28928160", message)],
            ..Children::default()
        },
        ..Observed::default()
    };
    let mut pipeline = example::pipeline();
    let status = of(&pipeline, Ok(&applied(healthy())), &first, now());
    let last = status.last_run.clone().unwrap();
    assert_eq!(
        (
            last.outcome.as_str(),
            last.reason.as_str(),
            last.landed,
            last.published,
            last.rejected
        ),
        ("Succeeded", "Completed", 10, 9, 1)
    );
    assert_eq!(last.scheduled_at.unwrap().0, "2025-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(status.totals.as_ref().unwrap().fetched, 110);

    pipeline.status = Some(status.clone());
    for gone in [
        Observed {
            children: Children {
                jobs: first.children.jobs.clone(),
                ..Children::default()
            },
            ..Observed::default()
        },
        Observed::default(),
    ] {
        assert_eq!(
            of(&pipeline, Ok(&applied(healthy())), &gone, now()),
            status,
            "the record stays when pod and Job are gone"
        );
    }
}

#[test]
fn a_failed_run_is_reported_and_does_not_make_the_pipeline_unready() {
    let totals = Totals {
        fetched: 110,
        ..Totals::default()
    };
    let mut pipeline = example::pipeline();
    pipeline.status.get_or_insert_default().totals = Some(totals);
    let failed = json!({"startTime": "2025-01-01T00:05:01Z",
        "conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long", "lastTransitionTime": "2025-01-01T00:06:00Z"}]});
    let observed = Observed {
        children: Children {
            jobs: vec![run("users-ingest-28928165", &failed)],
            ..Children::default()
        },
        ..Observed::default()
    };
    let status = of(&pipeline, Ok(&applied(healthy())), &observed, now());
    let last = status.last_run.as_ref().unwrap();
    assert_eq!(
        (last.outcome.as_str(), last.reason.as_str(), last.message.as_str()),
        ("Failed", "DeadlineExceeded", "too long")
    );
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(status.totals.unwrap().fetched, 110, "totals never decrease");
}
