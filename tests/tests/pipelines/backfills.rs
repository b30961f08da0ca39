//! Back-fills of past intervals.

use anyhow::{Context, Result, ensure};
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use userpipeline_api::{UserPipelineBackfill, UserPipelineBackfillStatus};
use userpipeline_tests::{World, eventually, stores, world::SOON};

async fn apply(world: &World, name: &str, spec: &Value) -> kube::Result<UserPipelineBackfill> {
    let manifest =
        json!({"apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineBackfill", "metadata": {"name": name}, "spec": spec});
    let api: Api<UserPipelineBackfill> = world.api();
    api.patch(name, &PatchParams::apply("end-to-end").force(), &Patch::Apply(&manifest))
        .await
}

/// Waits until `Complete` has this status and reason for the current spec.
async fn completion(world: &World, name: &str, status: &str, reason: &str) -> Result<UserPipelineBackfillStatus> {
    eventually(&format!("back-fill {name}: Complete={status}, {reason}"), SOON, async || {
        let found = world.api::<UserPipelineBackfill>().get(name).await?;
        let is = |c: &Condition| {
            c.type_ == "Complete" && c.status == status && c.reason == reason && c.observed_generation == found.metadata.generation
        };
        let current = found.status.clone().unwrap_or_default();
        Ok(if current.conditions.iter().any(is) {
            Ok(current)
        } else {
            Err(format!("{current:?}"))
        })
    })
    .await
}

async fn runs(world: &World) -> Result<Vec<String>> {
    let db = stores::postgres(&world.client).await?;
    let rows = db
        .query(
            "SELECT to_char(interval_start AT TIME ZONE 'UTC', 'YYYY-MM-DD') || ' ' || kind || ' ' || state || ' ' || attempt FROM userpipeline.runs \
             WHERE pipeline = $1 ORDER BY interval_start, run_id",
            &[&world.id().to_string()],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_fill_runs_each_past_interval_once_within_its_concurrency() -> Result<()> {
    // Given a daily pipeline, and a dry run of a back-fill over six days of a leap year
    let world = World::new("backfill").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["schedule"] = json!({"cron": "@daily"});
    pipeline["spec"]["source"]["http"]["maxRecordsPerRun"] = json!(200);
    let mut spec = json!({
        "pipelineRef": {"name": "users"}, "from": "2024-02-26T00:00:00Z", "to": "2024-03-03T00:00:00Z", "maxActiveRuns": 2, "dryRun": true
    });
    apply(&world, "week", &spec).await?;
    completion(&world, "week", "False", "PipelineMissing").await?;
    world.apply(&pipeline).await?;
    world.ready().await?;

    // Then the intervals are listed, and nothing is executed
    let listed = completion(&world, "week", "True", "DryRun").await?;
    let days: Vec<String> = listed
        .intervals
        .iter()
        .map(|interval| interval.start.0.to_string()[..10].to_owned())
        .collect();
    assert_eq!(
        days,
        ["2024-02-26", "2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"]
    );
    ensure!(runs(&world).await?.is_empty());

    // When it starts, Then each day is executed once
    spec["dryRun"] = json!(false);
    apply(&world, "week", &spec).await?;
    let status = completion(&world, "week", "True", "Completed").await?;
    assert_eq!((status.total, status.succeeded, status.running), (6, 6, 0));
    let expected: Vec<String> = days.iter().map(|day| format!("{day} Backfill Succeeded 1")).collect();
    assert_eq!(runs(&world).await?, expected);
    let run = world.get().await?.status.and_then(|s| s.last_run).context("a run")?;
    assert_eq!(run.kind.as_str(), "Backfill");

    // When another back-fill has the same days, the newest first, Then they are skipped
    spec["order"] = json!("NewestFirst");
    apply(&world, "again", &spec).await?;
    let status = completion(&world, "again", "True", "Completed").await?;
    assert_eq!((status.succeeded, status.skipped), (0, 6));
    assert_eq!(runs(&world).await?, expected);

    // When a suspended one reprocesses all of them, Then nothing happens until it resumes
    spec["reprocess"] = json!("All");
    spec["suspend"] = json!(true);
    apply(&world, "reprocess", &spec).await?;
    completion(&world, "reprocess", "False", "Suspended").await?;
    assert_eq!(runs(&world).await?, expected);
    spec["suspend"] = json!(false);
    apply(&world, "reprocess", &spec).await?;
    assert_eq!(completion(&world, "reprocess", "True", "Completed").await?.succeeded, 6);
    assert_eq!(runs(&world).await?.len(), 12);

    // And its intervals cannot be changed
    spec["to"] = json!("2024-04-01T00:00:00Z");
    let refused = apply(&world, "reprocess", &spec).await.expect_err("an immutable field").to_string();
    ensure!(refused.contains("create another back-fill"), "{refused}");

    // When it is deleted, Then its Jobs are deleted, and the ledger stays
    delete_with_jobs(&world, "reprocess").await?;
    assert_eq!(runs(&world).await?.len(), 12);
    world.clean_up().await
}

async fn delete_with_jobs(world: &World, name: &str) -> Result<()> {
    let backfills: Api<UserPipelineBackfill> = world.api();
    backfills.delete(name, &DeleteParams::background()).await?;
    eventually("its Jobs to be gone", SOON, async || {
        let left = world
            .api::<Job>()
            .list(&ListParams::default().labels(&format!("userpipeline.dev/backfill={name}")))
            .await?;
        Ok(if left.items.is_empty() {
            Ok(())
        } else {
            Err(format!("{} left", left.items.len()))
        })
    })
    .await
}
