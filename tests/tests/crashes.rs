//! The operator crashes before and after each of its writes, or the write goes wrong in some other way; what is left at the end
//! is the same, and no object was created or deleted more than once.
//!
//! `make test` plays each scenario once without a fault and a seeded sample with one; `make test-long` all of them. Which sample:
//! `CRASH_SEED=7`; how large: `CRASH_TRIALS=40`, or `all`; which scenario alone: `CRASH_SCENARIO=create`.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, ensure};
use futures::{StreamExt, future::LocalBoxFuture, stream};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::CronJob, core::v1::ConfigMap};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use userpipeline_api::{RunOutcome, UserPipeline, UserPipelineBackfill, names};
use userpipeline_tests::{
    cluster,
    crash::{Fault, Lease, Outcome, Stage, trial},
    dice::Dice,
};

const SEED: u64 = 1;
const TRIALS: usize = 24;
/// Trials at the same time: more, and the cluster's controllers are late.
const AT_ONCE: usize = 10;

const NAMESPACE_DELETED: &str = "namespace deleted";

type Scenario = for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, Result<()>>;

/// What a user does, until all is settled.
const SCENARIOS: [(&str, Scenario); 15] = [
    ("create", |stage| Box::pin(async { stage.ready(&Stage::pipeline()).await })),
    ("edit the schedule", |stage| {
        Box::pin(edit(stage, json!({"schedule": {"cron": "0 0 2 1 *"}})))
    }),
    ("edit the workers", |stage| {
        Box::pin(edit(stage, json!({"workers": {"replicas": 2, "batch": {"maxRecords": 7}}})))
    }),
    ("edit the topic", |stage| {
        Box::pin(edit(stage, json!({"kafka": {"topic": {"partitions": 12}}})))
    }),
    ("edit the pods", |stage| {
        Box::pin(edit(
            stage,
            json!({"pods": {"workers": {"labels": {"team": "data"}}}, "owner": "data"}),
        ))
    }),
    ("edit the record", |stage| Box::pin(edit_record(stage))),
    ("suspend and resume", |stage| Box::pin(suspend_and_resume(stage))),
    ("run now", |stage| Box::pin(run_now(stage))),
    ("back-fill", |stage| Box::pin(backfill(stage))),
    ("delete, retaining the data", |stage| Box::pin(delete(stage, "Retain"))),
    ("delete with the data", |stage| Box::pin(delete(stage, "Delete"))),
    ("child deleted", |stage| Box::pin(child_deleted(stage))),
    ("child edited", |stage| Box::pin(child_edited(stage))),
    ("edit and edit back", |stage| Box::pin(edit_and_back(stage))),
    (NAMESPACE_DELETED, |stage| Box::pin(namespace_deleted(stage))),
];

async fn edit(stage: &Stage, change: serde_json::Value) -> Result<()> {
    stage.ready(&Stage::pipeline()).await?;
    stage.edit(json!({"spec": change})).await?;
    stage.settled("Ready").await
}

async fn edit_record(stage: &Stage) -> Result<()> {
    let field = |name: &str, optional: bool| json!({"name": name, "type": "string", "from": format!("/{name}"), "optional": optional});
    let mut pipeline = Stage::pipeline();
    pipeline["spec"]["record"] = json!({"key": ["id"], "fields": [field("id", false)]});
    stage.ready(&pipeline).await?;
    let change = json!({"record": {"fields": [field("id", false), field("note", true)]}});
    stage.edit(json!({"spec": change})).await?;
    stage.settled("Ready").await
}

async fn edit_and_back(stage: &Stage) -> Result<()> {
    edit(stage, json!({"kafka": {"topic": {"config": {"retention.ms": "1000"}}}})).await?;
    stage.edit(json!({"spec": {"kafka": {"topic": {"config": null}}}})).await?;
    stage.settled("Ready").await
}

async fn suspend_and_resume(stage: &Stage) -> Result<()> {
    edit(stage, json!({"suspend": true})).await?;
    stage.settled("Suspended").await?;
    stage.edit(json!({"spec": {"suspend": false}})).await?;
    stage.settled("Ready").await
}

async fn run_now(stage: &Stage) -> Result<()> {
    stage.ready(&Stage::pipeline()).await?;
    stage.edit(json!({"spec": {"runNow": {"nonce": "first"}}})).await?;
    let done = |_: &UserPipeline, status: &userpipeline_api::UserPipelineStatus| {
        status
            .run_now
            .as_ref()
            .is_some_and(|run| run.outcome == Some(RunOutcome::Succeeded))
            && status.runs.len() == 1
    };
    stage.settled_where("the run that was asked for", done).await
}

async fn backfill(stage: &Stage) -> Result<()> {
    let mut pipeline = Stage::pipeline();
    pipeline["spec"]["schedule"]["cron"] = json!("0 0 1 * *");
    pipeline["spec"]["schedule"]["catchUp"] = json!({"enabled": false});
    stage.ready(&pipeline).await?;
    let backfill = json!({
        "apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineBackfill", "metadata": {"name": "spring"},
        "spec": {"pipelineRef": {"name": "users"}, "from": "2024-03-01T00:00:00Z", "to": "2024-06-01T00:00:00Z", "maxActiveRuns": 1}
    });
    stage.apply::<UserPipelineBackfill>(&backfill).await?;
    stage.backfilled("spring").await
}

async fn delete(stage: &Stage, policy: &str) -> Result<()> {
    let mut pipeline = Stage::pipeline();
    pipeline["spec"]["deletionPolicy"] = json!(policy);
    stage.ready(&pipeline).await?;
    stage.delete::<UserPipeline>("users").await?;
    stage.gone().await
}

async fn namespace_deleted(stage: &Stage) -> Result<()> {
    let mut pipeline = Stage::pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    stage.ready(&pipeline).await?;
    stage.namespace_gone().await
}

async fn child_deleted(stage: &Stage) -> Result<()> {
    stage.ready(&Stage::pipeline()).await?;
    let (cron_job, workers) = (names::cron_job("users"), names::workers("users"));
    let before = (stage.uid::<CronJob>(&cron_job).await?, stage.uid::<Deployment>(&workers).await?);
    stage.delete::<CronJob>(&cron_job).await?;
    stage.delete::<Deployment>(&workers).await?;
    stage
        .quiet("both to be made anew", async || {
            let now = (stage.uid::<CronJob>(&cron_job).await?, stage.uid::<Deployment>(&workers).await?);
            let anew = now.0.is_some() && now.1.is_some() && now.0 != before.0 && now.1 != before.1;
            Ok(if anew { Ok(()) } else { Err(format!("{now:?}")) })
        })
        .await?;
    stage.settled("Ready").await
}

async fn child_edited(stage: &Stage) -> Result<()> {
    stage.ready(&Stage::pipeline()).await?;
    let workers = names::workers("users");
    let api = stage.api::<Deployment>();
    let evil = json!({"spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "evil"}]}}}});
    api.patch(&workers, &PatchParams::default(), &Patch::Strategic(evil)).await?;
    stage
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
    let there = stage
        .api::<ConfigMap>()
        .list(&kube::api::ListParams::default().labels("app.kubernetes.io/component=worker"))
        .await?;
    ensure!(there.items.len() == 1, "{:?}", there.items);
    stage.settled("Ready").await
}

/// Plays scenarios on threads of their own, so many at once, each with a fault or without.
async fn play(trials: Vec<(usize, Option<(usize, Fault)>)>) -> Vec<(usize, Option<(usize, Fault)>, Result<Outcome>)> {
    stream::iter(trials)
        .map(|(scenario, fault)| async move {
            let played = tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(trial(async |stage: &Stage| SCENARIOS[scenario].1(stage).await, fault))
            });
            (scenario, fault, played.await.map_err(Into::into).flatten())
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// What differs from the trial without a fault, if anything.
fn difference(scenario: &str, expected: &Outcome, found: &Outcome) -> Option<String> {
    // A namespace that goes takes its objects along by itself; which of them the operator deletes first is chance.
    let same = if scenario == NAMESPACE_DELETED {
        expected.tally.created == found.tally.created
    } else {
        expected.tally == found.tally
    };
    if !same {
        return Some(format!(
            "{:?}\ninstead of\n{:?}\nafter {:#?}",
            found.tally, expected.tally, found.writes
        ));
    }
    if expected.end != found.end {
        let (expected, found) = (format!("{:#}", expected.end), format!("{:#}", found.end));
        let there: HashSet<&str> = expected.lines().collect();
        let here: HashSet<&str> = found.lines().collect();
        let lines = expected.lines().filter(|line| !here.contains(line)).map(|line| format!("- {line}"));
        let lines = lines.chain(found.lines().filter(|line| !there.contains(line)).map(|line| format!("+ {line}")));
        return Some(lines.collect::<Vec<_>>().join("\n"));
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_at_a_write_the_end_is_the_same() -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    let mut dice = Dice::new(variable("CRASH_SEED").map_or(Ok(SEED), |seed| seed.parse())?);
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

    // When one write of each trial goes wrong
    let wanted = match variable("CRASH_TRIALS").as_deref() {
        Some("all") => total,
        Some(number) => number.parse()?,
        None => TRIALS,
    };
    while all.len() > wanted {
        let out = dice.index(all.len());
        all.swap_remove(out);
    }
    let (trials, started) = (all.len(), std::time::Instant::now());
    let outcomes = play(all).await;

    // Then the end is the same
    let mut wrong = Vec::new();
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let mut missed = 0;
    for (scenario, fault, outcome) in outcomes {
        let name = SCENARIOS[scenario].0;
        let kind = fault.map_or_else(String::new, |(_, fault)| format!("{fault:?}"));
        let difference = match outcome {
            Ok(found) => {
                // Two events a moment apart make one status or two, so there may be a write less than without the fault.
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
