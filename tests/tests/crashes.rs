//! The operator crashes before and after each of its writes, or the write fails in another way. The end state is the same, and no
//! object is created or deleted more than once.
//!
//! `make test` runs each scenario without a fault and a seeded sample of faults; `make test-long` runs all of them. `CRASH_SEED=7`
//! selects the sample, `CRASH_TRIALS=40` or `all` its size, `CRASH_SCENARIO=create` a single scenario.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, ensure};
use futures::{StreamExt, future::LocalBoxFuture, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::ConfigMap,
};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use userpipeline_api::{RunOutcome, UserPipeline, UserPipelineBackfill, UserPipelineConnection, names};
use userpipeline_tests::{
    cluster,
    crash::{Fault, Lease, Outcome, Sandbox, trial},
    random::SplitMix64,
};

const SEED: u64 = 1;
const TRIALS: usize = 24;
/// Concurrent trials. With more of them the cluster's controllers are too slow.
const AT_ONCE: usize = 10;

const NAMESPACE_DELETED: &str = "namespace deleted";

type Scenario = for<'a> fn(&'a Sandbox) -> LocalBoxFuture<'a, Result<()>>;

/// The actions of a user, each until the operator is idle.
const SCENARIOS: [(&str, Scenario); 19] = [
    ("create", |sandbox| Box::pin(async { sandbox.ready(&Sandbox::pipeline()).await })),
    ("edit the schedule", |sandbox| {
        Box::pin(edit(sandbox, json!({"schedule": {"cron": "0 0 2 1 *"}})))
    }),
    ("edit the workers", |sandbox| {
        Box::pin(edit(sandbox, json!({"workers": {"replicas": 2, "batch": {"maxRecords": 7}}})))
    }),
    ("edit the topic", |sandbox| {
        Box::pin(edit(sandbox, json!({"kafka": {"topic": {"partitions": 12}}})))
    }),
    ("edit the pods", |sandbox| {
        Box::pin(edit(
            sandbox,
            json!({"pods": {"workers": {"labels": {"team": "data"}}}, "owner": "data"}),
        ))
    }),
    ("edit the record", |sandbox| Box::pin(edit_record(sandbox))),
    ("suspend and resume", |sandbox| Box::pin(suspend_and_resume(sandbox))),
    ("run now", |sandbox| Box::pin(run_now(sandbox))),
    ("back-fill", |sandbox| Box::pin(backfill(sandbox))),
    ("delete, retaining the data", |sandbox| Box::pin(delete(sandbox, "Retain"))),
    ("delete with the data", |sandbox| Box::pin(delete(sandbox, "Delete"))),
    ("child deleted", |sandbox| Box::pin(child_deleted(sandbox))),
    ("child edited", |sandbox| Box::pin(child_edited(sandbox))),
    ("edit and edit back", |sandbox| Box::pin(edit_and_back(sandbox))),
    ("connection changed", |sandbox| Box::pin(connection_changed(sandbox))),
    ("connection deleted and created again", |sandbox| {
        Box::pin(connection_recreated(sandbox))
    }),
    ("delete with the data, after the connection", |sandbox| {
        Box::pin(delete_after_connection(sandbox))
    }),
    ("check requested", |sandbox| Box::pin(check_requested(sandbox))),
    (NAMESPACE_DELETED, |sandbox| Box::pin(namespace_deleted(sandbox))),
];

async fn edit(sandbox: &Sandbox, change: serde_json::Value) -> Result<()> {
    sandbox.ready(&Sandbox::pipeline()).await?;
    sandbox.edit(json!({"spec": change})).await?;
    sandbox.settled("Ready").await
}

async fn edit_record(sandbox: &Sandbox) -> Result<()> {
    let field = |name: &str, optional: bool| json!({"name": name, "type": "string", "from": format!("/{name}"), "optional": optional});
    let mut pipeline = Sandbox::pipeline();
    pipeline["spec"]["record"] = json!({"key": ["id"], "fields": [field("id", false)]});
    sandbox.ready(&pipeline).await?;
    let change = json!({"record": {"fields": [field("id", false), field("note", true)]}});
    sandbox.edit(json!({"spec": change})).await?;
    sandbox.settled("Ready").await
}

async fn edit_and_back(sandbox: &Sandbox) -> Result<()> {
    edit(sandbox, json!({"kafka": {"topic": {"config": {"retention.ms": "1000"}}}})).await?;
    sandbox.edit(json!({"spec": {"kafka": {"topic": {"config": null}}}})).await?;
    sandbox.settled("Ready").await
}

async fn suspend_and_resume(sandbox: &Sandbox) -> Result<()> {
    edit(sandbox, json!({"suspend": true})).await?;
    sandbox.settled("Suspended").await?;
    sandbox.edit(json!({"spec": {"suspend": false}})).await?;
    sandbox.settled("Ready").await
}

async fn run_now(sandbox: &Sandbox) -> Result<()> {
    sandbox.ready(&Sandbox::pipeline()).await?;
    sandbox.edit(json!({"spec": {"runNow": {"nonce": "first"}}})).await?;
    let done = |_: &UserPipeline, status: &userpipeline_api::UserPipelineStatus| {
        status
            .run_now
            .as_ref()
            .is_some_and(|run| run.outcome == Some(RunOutcome::Succeeded))
            && status.runs.len() == 1
    };
    sandbox.settled_where("the run that was asked for", done).await
}

async fn backfill(sandbox: &Sandbox) -> Result<()> {
    let mut pipeline = Sandbox::pipeline();
    pipeline["spec"]["schedule"]["cron"] = json!("0 0 1 * *");
    pipeline["spec"]["schedule"]["catchUp"] = json!({"enabled": false});
    sandbox.ready(&pipeline).await?;
    let backfill = json!({
        "apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineBackfill", "metadata": {"name": "spring"},
        "spec": {"pipelineRef": {"name": "users"}, "from": "2024-03-01T00:00:00Z", "to": "2024-06-01T00:00:00Z", "maxActiveRuns": 1}
    });
    sandbox.apply::<UserPipelineBackfill>(&backfill).await?;
    sandbox.backfilled("spring").await
}

async fn delete(sandbox: &Sandbox, policy: &str) -> Result<()> {
    let mut pipeline = Sandbox::pipeline();
    pipeline["spec"]["deletionPolicy"] = json!(policy);
    sandbox.ready(&pipeline).await?;
    sandbox.delete::<UserPipeline>("users").await?;
    sandbox.gone().await
}

/// Applies a pipeline that takes its addresses from a connection, and waits until it is ready and the connection is checked.
async fn connected(sandbox: &Sandbox, policy: &str) -> Result<()> {
    sandbox.apply::<UserPipelineConnection>(&Sandbox::connection()).await?;
    let mut pipeline = Sandbox::connected_pipeline();
    pipeline["spec"]["deletionPolicy"] = json!(policy);
    sandbox.ready(&pipeline).await?;
    checked(sandbox, None).await
}

async fn connection_changed(sandbox: &Sandbox) -> Result<()> {
    connected(sandbox, "Delete").await?;
    let moved = json!({"spec": {"postgres": {"host": "moved.example"}}});
    sandbox
        .api::<UserPipelineConnection>()
        .patch("stores", &PatchParams::default(), &Patch::Merge(moved))
        .await?;
    let follows = |_: &UserPipeline, status: &userpipeline_api::UserPipelineStatus| {
        let version = status.connections.first().map(|connection| connection.generation);
        let is_ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        version == Some(2) && status.connection_rollout.is_none() && is_ready
    };
    sandbox.settled_where("the changed connection", follows).await?;
    checked(sandbox, None).await
}

async fn connection_recreated(sandbox: &Sandbox) -> Result<()> {
    connected(sandbox, "Retain").await?;
    sandbox.delete::<UserPipelineConnection>("stores").await?;
    let misses = |_: &UserPipeline, status: &userpipeline_api::UserPipelineStatus| {
        let mut conditions = status.conditions.iter();
        conditions.any(|c| c.type_ == "Ready" && c.reason == "ConnectionMissing")
    };
    sandbox.settled_where("the missing connection", misses).await?;
    // An edit takes effect with the last version of the connection.
    sandbox.edit(json!({"spec": {"schedule": {"cron": "0 0 2 1 *"}}})).await?;
    let edited = |pipeline: &UserPipeline, status: &userpipeline_api::UserPipelineStatus| {
        misses(pipeline, status) && status.observed_generation == pipeline.metadata.generation
    };
    sandbox.settled_where("the edit", edited).await?;
    let cron_job = sandbox.api::<CronJob>().get(&names::cron_job("users")).await?;
    let cron = cron_job.spec.map(|spec| spec.schedule);
    ensure!(cron.as_deref() == Some("0 0 2 1 *"), "{cron:?}");
    sandbox.apply::<UserPipelineConnection>(&Sandbox::connection()).await?;
    sandbox.settled("Ready").await?;
    checked(sandbox, None).await
}

async fn delete_after_connection(sandbox: &Sandbox) -> Result<()> {
    connected(sandbox, "Delete").await?;
    sandbox.delete::<UserPipelineConnection>("stores").await?;
    sandbox.delete::<UserPipeline>("users").await?;
    sandbox.gone().await
}

async fn check_requested(sandbox: &Sandbox) -> Result<()> {
    sandbox.apply::<UserPipelineConnection>(&Sandbox::connection()).await?;
    checked(sandbox, None).await?;
    let request = json!({"metadata": {"annotations": {"userpipeline.dev/check-now": "again"}}});
    sandbox
        .api::<UserPipelineConnection>()
        .patch("stores", &PatchParams::default(), &Patch::Merge(request))
        .await?;
    checked(sandbox, Some("again")).await
}

/// Waits until the result of the check with this nonce is recorded for the current spec, and its Job and the ConfigMaps of earlier
/// checks are gone. A check has a pace of its own, so its writes are counted only once it has ended.
async fn checked(sandbox: &Sandbox, nonce: Option<&str>) -> Result<()> {
    let of_connection = ListParams::default().labels("userpipeline.dev/connection=stores");
    sandbox
        .quiet("the check", async || {
            let connection = sandbox.api::<UserPipelineConnection>().get("stores").await?;
            let generation = connection.metadata.generation;
            let status = connection.status.unwrap_or_default();
            let is_current = status
                .conditions
                .iter()
                .any(|c| c.type_ == "Checked" && c.observed_generation == generation);
            let check = status.check.unwrap_or_default();
            let jobs = sandbox.api::<Job>().list(&of_connection).await?.items.len();
            let config_maps = sandbox.api::<ConfigMap>().list(&of_connection).await?.items.len();
            let is_recorded = is_current && check.checked_at.is_some() && check.nonce.as_deref() == nonce;
            Ok(if is_recorded && jobs == 0 && config_maps == 1 {
                Ok(())
            } else {
                Err(format!("{jobs} Jobs, {config_maps} ConfigMaps, {check:?}"))
            })
        })
        .await
}

async fn namespace_deleted(sandbox: &Sandbox) -> Result<()> {
    connected(sandbox, "Delete").await?;
    sandbox.namespace_gone().await
}

async fn child_deleted(sandbox: &Sandbox) -> Result<()> {
    sandbox.ready(&Sandbox::pipeline()).await?;
    let (cron_job, workers) = (names::cron_job("users"), names::workers("users"));
    let before = (sandbox.uid::<CronJob>(&cron_job).await?, sandbox.uid::<Deployment>(&workers).await?);
    sandbox.delete::<CronJob>(&cron_job).await?;
    sandbox.delete::<Deployment>(&workers).await?;
    sandbox
        .quiet("both to be re-created", async || {
            let now = (sandbox.uid::<CronJob>(&cron_job).await?, sandbox.uid::<Deployment>(&workers).await?);
            let recreated = now.0.is_some() && now.1.is_some() && now.0 != before.0 && now.1 != before.1;
            Ok(if recreated { Ok(()) } else { Err(format!("{now:?}")) })
        })
        .await?;
    sandbox.settled("Ready").await
}

async fn child_edited(sandbox: &Sandbox) -> Result<()> {
    sandbox.ready(&Sandbox::pipeline()).await?;
    let workers = names::workers("users");
    let api = sandbox.api::<Deployment>();
    let evil = json!({"spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "evil"}]}}}});
    api.patch(&workers, &PatchParams::default(), &Patch::Strategic(evil)).await?;
    sandbox
        .quiet("the image to be put right", async || {
            let image = api
                .get(&workers)
                .await?
                .spec
                .and_then(|spec| spec.template.spec?.containers.into_iter().next()?.image);
            Ok(if image.as_deref() == Some("evil") {
                Err("evil".to_owned())
            } else {
                Ok(())
            })
        })
        .await?;
    let there = sandbox
        .api::<ConfigMap>()
        .list(&ListParams::default().labels("app.kubernetes.io/component=worker"))
        .await?;
    ensure!(there.items.len() == 1, "{:?}", there.items);
    sandbox.settled("Ready").await
}

/// Runs scenarios in parallel, each with or without a fault.
async fn play(trials: Vec<(usize, Option<(usize, Fault)>)>) -> Vec<(usize, Option<(usize, Fault)>, Result<Outcome>)> {
    stream::iter(trials)
        .map(|(scenario, fault)| async move {
            let played = tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(trial(async |sandbox: &Sandbox| SCENARIOS[scenario].1(sandbox).await, fault))
            });
            (scenario, fault, played.await.map_err(Into::into).flatten())
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// The difference to the trial without a fault.
fn difference(scenario: &str, expected: &Outcome, found: &Outcome) -> Option<String> {
    // The namespace controller deletes objects too; which of them the operator deletes first is a race.
    let same = if scenario == NAMESPACE_DELETED {
        expected.write_counts.created == found.write_counts.created
    } else {
        expected.write_counts == found.write_counts
    };
    if !same {
        return Some(format!(
            "{:?}\ninstead of\n{:?}\nafter {:#?}",
            found.write_counts, expected.write_counts, found.writes
        ));
    }
    if expected.end_state != found.end_state {
        let (expected, found) = (format!("{:#}", expected.end_state), format!("{:#}", found.end_state));
        let expected_lines: HashSet<&str> = expected.lines().collect();
        let found_lines: HashSet<&str> = found.lines().collect();
        let lines = expected
            .lines()
            .filter(|line| !found_lines.contains(line))
            .map(|line| format!("- {line}"));
        let lines = lines.chain(
            found
                .lines()
                .filter(|line| !expected_lines.contains(line))
                .map(|line| format!("+ {line}")),
        );
        return Some(lines.collect::<Vec<_>>().join("\n"));
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_in_every_write_leads_to_the_same_end_state() -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    let mut random = SplitMix64::new(variable("CRASH_SEED").map_or(Ok(SEED), |seed| seed.parse())?);
    let only = variable("CRASH_SCENARIO");
    let lease = Lease::take(cluster::connect().await?).await?;

    // Given each scenario without a fault
    let chosen = (0..SCENARIOS.len()).filter(|&i| only.as_deref().is_none_or(|only| only == SCENARIOS[i].0));
    let mut expected = BTreeMap::new();
    for (scenario, _, outcome) in play(chosen.map(|i| (i, None)).collect()).await {
        let outcome = outcome.with_context(|| format!("`{}` without a fault", SCENARIOS[scenario].0))?;
        expected.insert(scenario, Arc::new(outcome));
    }
    let mut all: Vec<(usize, Option<(usize, Fault)>)> = Vec::new();
    for (&scenario, outcome) in &expected {
        let faults = (0..outcome.writes.len()).flat_map(|write| Fault::ALL.map(|fault| (write, fault)));
        all.extend(faults.map(|fault| (scenario, Some(fault))));
    }
    let total = all.len();

    // When one write of each trial has a fault
    let sample_size = match variable("CRASH_TRIALS").as_deref() {
        Some("all") => total,
        Some(number) => number.parse()?,
        None => TRIALS,
    };
    while all.len() > sample_size {
        let out = random.index(all.len());
        all.swap_remove(out);
    }
    let (trials, started) = (all.len(), std::time::Instant::now());
    let outcomes = play(all).await;

    // Then the end state is the same
    let mut wrong = Vec::new();
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let mut missed = 0;
    for (scenario, fault, outcome) in outcomes {
        let name = SCENARIOS[scenario].0;
        let kind = fault.map_or_else(String::new, |(_, fault)| format!("{fault:?}"));
        let difference = match outcome {
            Ok(found) => {
                // Two events in short succession lead to one status or two, so there may be fewer writes than without the fault.
                if found.hit {
                    *hits.entry(kind).or_default() += 1;
                } else {
                    missed += 1;
                }
                difference(name, &expected[&scenario], &found)
            }
            Err(error) => Some(format!("{error:#}")),
        };
        wrong.extend(difference.map(|difference| format!("`{name}` with {fault:?}: {difference}")));
    }
    drop(lease);
    for (scenario, outcome) in &expected {
        println!("{}: {} writes", SCENARIOS[*scenario].0, outcome.writes.len());
    }
    println!(
        "{trials} of {total} trials in {:?}, {} wrong, {missed} without the fault: {hits:?}",
        started.elapsed(),
        wrong.len()
    );
    ensure!(missed * 10 <= trials, "{missed} of {trials} faults did not happen");
    wrong.is_empty().then_some(()).ok_or_else(|| anyhow!("{}", wrong.join("\n\n")))
}
