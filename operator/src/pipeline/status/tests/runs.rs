//! Runs in the status.

use userpipeline_api::Totals;

use super::*;
use crate::pipeline::observe::run_problem_after;

pub fn run(name: &str, ended: &Value) -> Arc<Job> {
    let labels = labels::labels("users", labels::Component::Ingest);
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "uid": name, "labels": labels}, "status": ended})).unwrap())
}

fn run_pod(job: &str, message: &str) -> Arc<Pod> {
    let mut labels = labels::labels("users", labels::Component::Ingest);
    labels.insert("batch.kubernetes.io/controller-uid".into(), job.into());
    let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": job, "controller": true}]);
    let state = json!({"terminated": {"exitCode": 0, "finishedAt": "2025-01-01T00:00:30Z", "message": message}});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": format!("{job}-x"), "labels": labels, "ownerReferences": owners},
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

/// What remains of deleted runs; `jobs` with the status and the changes of each Job.
fn deleted_runs(jobs: Vec<Value>, pods: Vec<Arc<Pod>>) -> Observed {
    let deleted_at = "2025-01-01T00:02:00Z".parse().unwrap();
    let jobs = jobs
        .into_iter()
        .map(|job| (deleted_at, Arc::new(serde_json::from_value(job).unwrap())));
    let mut observed = Observed::default();
    observed.deleted.jobs = jobs.collect();
    observed.deleted.pods = pods;
    observed
}

fn deleted_run(name: &str, status: &Value) -> Value {
    serde_json::to_value(run(name, status).as_ref()).unwrap()
}

#[test]
fn runs_whose_jobs_were_deleted_as_soon_as_they_ended_are_all_listed() {
    let complete = json!({"completionTime": "2025-01-01T00:00:31Z", "conditions": [{"type": "Complete", "status": "True"}]});
    let report = |n: usize| format!(r#"{{"runId":"{n}","reason":"Completed","message":"","landed":{n},"totalFetched":{n}}}"#);
    let names: Vec<String> = (0..6).map(|n| format!("manual-{n}")).collect();
    let observed = deleted_runs(
        names.iter().map(|name| deleted_run(name, &complete)).collect(),
        names.iter().enumerate().map(|(n, name)| run_pod(name, &report(n))).collect(),
    );
    let mut pipeline = example::pipeline();
    let status = of(&pipeline, Ok(&applied(healthy())), &observed, now());
    let mut listed: Vec<(String, i64)> = status.runs.iter().map(|run| (run.job.clone(), run.landed)).collect();
    listed.sort();
    assert_eq!(listed, names.into_iter().zip(0..).collect::<Vec<_>>());
    assert_eq!(status.totals.as_ref().unwrap().fetched, 5);
    pipeline.status = Some(status.clone());
    assert_eq!(
        of(&pipeline, Ok(&applied(healthy())), &observed, now()).runs,
        status.runs,
        "once each"
    );
}

#[test]
fn a_run_that_was_deleted_while_it_ran_has_failed_unless_the_spec_explains_it() {
    let run = |changes: &Value| {
        let mut job = deleted_run("users-ingest-28928160", &json!({}));
        for (path, value) in changes.as_object().unwrap() {
            let (object, key) = path.rsplit_once('/').unwrap();
            if job.pointer(object).is_none() {
                job[&object[1..]] = json!({});
            }
            job.pointer_mut(object).unwrap()[key] = value.clone();
        }
        job
    };
    let mut replace = Observed::default();
    let cron_job =
        json!({"metadata": {"name": "users-ingest"}, "spec": {"concurrencyPolicy": "Replace", "schedule": "", "jobTemplate": {}}});
    replace.children.cron_jobs = vec![Arc::new(serde_json::from_value(cron_job).unwrap())];
    let of_cron_job =
        json!({"/metadata/ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "users-ingest", "uid": "c"}]});
    let listed = |observed: &Observed| of(&example::pipeline(), Ok(&applied(healthy())), observed, now()).runs;

    for changes in [json!({}), of_cron_job.clone()] {
        let runs = listed(&deleted_runs(vec![run(&changes)], vec![]));
        assert_eq!(
            (runs.len(), runs[0].outcome.as_str(), runs[0].reason.as_str()),
            (1, "Failed", "JobDeleted")
        );
        assert!(
            runs[0].message.contains("users-ingest-28928160 was deleted while it ran"),
            "{}",
            runs[0].message
        );
    }
    assert!(
        listed(&deleted_runs(
            vec![run(&json!({"/spec/suspend": true, "/spec/template": {}}))],
            vec![]
        ))
        .is_empty(),
        "suspended"
    );
    replace.deleted = deleted_runs(vec![run(&of_cron_job)], vec![]).deleted;
    assert!(listed(&replace).is_empty(), "replaced");
    let mut backfill = run(&json!({}));
    backfill["metadata"]["labels"][labels::RUN_KIND] = json!("Backfill");
    assert!(
        listed(&deleted_runs(vec![backfill], vec![])).is_empty(),
        "deleted with its back-fill"
    );

    // A Job may be deleted after its container has ended, and before the Job's controller noticed.
    let report = r#"{"runId":"r","reason":"Completed","message":"","landed":10}"#;
    let runs = listed(&deleted_runs(vec![run(&json!({}))], vec![run_pod("users-ingest-28928160", report)]));
    assert_eq!((runs[0].outcome.as_str(), runs[0].landed), ("Succeeded", 10));
}

#[test]
fn a_run_whose_pod_cannot_start_makes_the_schedule_unready_after_thirty_seconds() {
    let status = |age: i64, phase: &Value| {
        let mut observed = Observed::default();
        observed.children.jobs = vec![run("manual", &json!({}))];
        let created = now() - jiff::SignedDuration::from_secs(age);
        let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "manual", "uid": "manual", "controller": true}]);
        let pod =
            json!({"metadata": {"name": "manual-x", "ownerReferences": owners, "creationTimestamp": created.to_string()}, "status": phase});
        observed.children.pods = vec![Arc::new(serde_json::from_value(pod).unwrap())];
        let status = of(&example::pipeline(), Ok(&applied(healthy())), &observed, now());
        let (status, reason, message) = condition(&status, "ScheduleReady");
        let after = run_problem_after(&observed, now()).map(|wait| wait.as_secs());
        ((status.to_owned(), reason.to_owned(), message.to_owned()), after)
    };
    let unschedulable = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
    let waiting = json!({"reason": "ImagePullBackOff", "message": "no such image"});
    let pulling = json!({"phase": "Pending", "containerStatuses": [{"name": "ingest", "image": "ingest:9", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": waiting}}]});
    for (phase, reason, words) in [
        (
            &unschedulable,
            "Unschedulable",
            "pod manual-x cannot be scheduled: 0/1 nodes are available",
        ),
        (
            &pulling,
            "ImagePullBackOff",
            "pod manual-x cannot pull its image ingest:9: no such image",
        ),
    ] {
        let ((ready, ..), after) = status(29, phase);
        assert_eq!((ready.as_str(), after), ("True", Some(1)), "{reason}");
        let (condition, after) = status(30, phase);
        assert_eq!((condition, after), (("False".into(), reason.into(), words.into()), None));
    }
    let ((ready, ..), after) = status(30, &json!({"phase": "Running"}));
    assert_eq!((ready.as_str(), after), ("True", None));
}

#[test]
fn a_run_whose_pod_is_refused_makes_the_schedule_unready_until_it_has_ended() {
    let message = "the pod of Job manual cannot be created: exceeded quota: small";
    let with = |ended: &Value, more: &Value| {
        let mut observed = Observed::default();
        let mut job = serde_json::to_value(run("manual", ended).as_ref()).unwrap();
        job["metadata"]["labels"]
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        observed.children.jobs = vec![Arc::new(serde_json::from_value(job).unwrap())];
        observed.refusals.by_job.insert("manual".into(), message.into());
        of(&example::pipeline(), Ok(&applied(healthy())), &observed, now())
    };
    let refused = with(&json!({}), &json!({}));
    for type_ in ["ScheduleReady", "Ready"] {
        assert_eq!(condition(&refused, type_), ("False", "FailedCreate", message));
    }
    let of_backfill = with(&json!({}), &json!({labels::BACKFILL: "january"}));
    assert_eq!(condition(&of_backfill, "ScheduleReady").0, "True", "its back-fill reports it");
    let deadline = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}]});
    let ended = with(&deadline, &json!({}));
    assert_eq!(condition(&ended, "ScheduleReady").0, "True");
    assert_eq!(
        (ended.runs[0].reason.as_str(), ended.runs[0].message.as_str()),
        ("FailedCreate", message)
    );
}
