//! The results of runs.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use userpipeline_api::{Run, RunOutcome};
use userpipeline_tests::{World, eventually, source, stores, test_source::TestSource, world::SOON};

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_starts_runs() -> Result<()> {
    // Given a pipeline that is due every minute
    let world = World::new("schedule").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["schedule"]["cron"] = json!("*/1 * * * *");

    // When it is applied
    world.apply(&pipeline).await?;

    // Then a scheduled run ends, and the ledger lists it under its scheduled time
    let run = eventually("a scheduled run", Duration::from_secs(180), async || {
        let run = world.get().await?.status.and_then(|s| s.last_run);
        Ok(run
            .filter(|run| run.scheduled_at.is_some())
            .ok_or_else(|| "no scheduled run".to_owned()))
    })
    .await?;
    assert_eq!(run.outcome, RunOutcome::Succeeded, "{run:?}");
    let scheduled = run.scheduled_at.context("a scheduled time")?;
    ensure!(scheduled.0.as_second() % 60 == 0, "{scheduled:?} is no full minute");
    let db = stores::postgres(&world.client).await?;
    let landed = stores::number(
        &db,
        &format!(
            "SELECT landed FROM userpipeline.runs WHERE pipeline = '{}' AND run_id = '{}'",
            world.id(),
            run.run_id.context("an id")?
        ),
    )
    .await?;
    assert_eq!(landed, run.landed);

    // And its interval is the minute before, and the data is fresh
    let interval = run.interval.context("an interval")?;
    assert_eq!(
        (interval.end.0, interval.end.0.as_second() - interval.start.0.as_second()),
        (scheduled.0, 60)
    );
    world.condition("DataFresh", "True", SOON).await?;
    world.clean_up().await
}

/// Waits for the run in the status.
async fn last_run(world: &World, job: &str) -> Result<Run> {
    eventually(&format!("{job} in the status"), SOON, async || {
        let status = world.get().await?.status;
        let run = status.and_then(|s| s.last_run).filter(|run| run.job == job);
        Ok(run.ok_or_else(|| "not yet".to_owned()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_source_leads_to_a_failed_run_with_a_reason() -> Result<()> {
    // Given a ready pipeline whose source answers 503
    let world = World::new("source").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["schedule"]["backoffLimit"] = json!(0);
    world.apply(&pipeline).await?;
    world.ready().await?;
    source::set_fault(&json!({"kind": "status", "status": 503, "seed": world.seed})).await?;

    // When a run is started, Then it fails with a reason
    world.start_run("hopeless").await?;
    world.finished("hopeless", "Failed").await?;
    let run = last_run(&world, "hopeless").await?;
    assert_eq!((run.outcome.as_str(), run.reason.as_str()), ("Failed", "SourceFailed"), "{run:?}");
    assert!(run.message.contains("503"), "{run:?}");
    let requests = source::requests(&world.seed).await?;
    assert!(
        requests["faults"].as_i64().is_some_and(|n| n > 1),
        "the fault did not hit, or nothing was tried again: {requests}"
    );

    // And the pipeline itself is still ready
    world.ready().await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_too_many_rejects_fails_and_its_valid_records_arrive() -> Result<()> {
    // Given a pipeline that accepts a quarter of rejects
    let world = World::new("rejects").await?;
    let source = TestSource::start(&world.client).await?;
    let field = |name: &str| json!({"name": name, "type": "string", "from": format!("/{name}")});
    let mut pipeline = world.pipeline_of(&json!({"key": ["id"], "fields": [field("id"), field("name")]}), &source.url());
    pipeline["spec"]["source"]["maxRejectedRatio"] = json!(0.25);
    pipeline["spec"]["schedule"]["backoffLimit"] = json!(0);
    world.apply(&pipeline).await?;
    world.ready().await?;
    let page = |good: usize, bad: usize| {
        let good = (0..good).map(|n| json!({"id": n.to_string(), "name": "a"}));
        good.chain((0..bad).map(|n| json!({"id": format!("bad {n}")})))
            .collect::<Vec<Value>>()
    };

    // When a quarter of the items are invalid, Then the run succeeds
    source.serve(&page(12, 4));
    world.run("fine").await?;
    let run = last_run(&world, "fine").await?;
    assert_eq!(run.reason, "Completed");
    let first = "the first reject: field `name`, Missing: from /name: missing";
    assert!(run.message.contains(first), "{run:?}");

    // When more are invalid, Then the run fails with a reason, and its records are stored
    source.serve(&page(20, 10));
    world.start_run("bad").await?;
    world.finished("bad", "Failed").await?;
    let run = last_run(&world, "bad").await?;
    assert_eq!((run.outcome.as_str(), run.reason.as_str()), ("Failed", "TooManyRejects"), "{run:?}");
    assert!(run.message.contains("rejected 10") && run.message.contains(first), "{run:?}");
    world.drained(20).await?;
    world.clean_up().await
}
