//! Scheduled runs: data intervals, missed and requested runs, and the pause after failures.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::{api::batch::v1::CronJob, jiff::Timestamp};
use serde_json::json;
use userpipeline_api::{DataInterval, RunOutcome, Ticks, names};
use userpipeline_tests::{World, eventually, source, stores, world::SOON};

/// A run of the ledger: id, kind, state, attempt, and its interval in seconds.
type Row = (String, String, String, i32, Option<i64>, Option<i64>);

async fn ledger(world: &World) -> Result<Vec<Row>> {
    let db = stores::postgres(&world.client).await?;
    let rows = db
        .query(
            "SELECT run_id, kind, state, attempt, extract(epoch FROM interval_start)::bigint, extract(epoch FROM interval_end)::bigint \
             FROM userpipeline.runs WHERE pipeline = $1 ORDER BY interval_end, run_id",
            &[&world.id().to_string()],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5)))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_intervals_are_caught_up_and_switching_catch_up_repeats_and_loses_none() -> Result<()> {
    // Given a pipeline with catch-up that is due every minute and starts ten minutes ago
    let world = World::new("catch-up").await?;
    let every_minute = Ticks::read("*/1 * * * *", "Etc/UTC").map_err(anyhow::Error::msg)?;
    let begins = every_minute
        .before(Timestamp::now().checked_sub(Duration::from_secs(600))?)
        .context("a tick")?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["source"]["http"]["maxRecordsPerRun"] = json!(200);
    pipeline["spec"]["schedule"] = json!({
        "cron": "*/1 * * * *", "startAt": begins.to_string(), "catchUp": {"enabled": true, "maxActiveRuns": 3}
    });

    // When it is applied
    world.apply(&pipeline).await?;

    // Then every interval is executed, up to the current complete one
    let caught_up = eventually("an empty backlog", Duration::from_secs(240), async || {
        let schedule = world.get().await?.status.and_then(|s| s.schedule).unwrap_or_default();
        let settled = schedule.settled_until.as_ref().map(|at| at.0);
        let now = DataInterval::complete_at(Timestamp::now(), &every_minute).context("an interval")?;
        Ok(if settled == Some(now.end) && schedule.backlog == 0 {
            Ok(now.end)
        } else {
            Err(format!("settled until {settled:?}, backlog {}", schedule.backlog))
        })
    })
    .await?;
    let rows = ledger(&world).await?;
    let kinds: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
    ensure!(kinds.iter().filter(|kind| **kind == "CatchUp").count() >= 8, "{kinds:?}");
    let cron_job = world.api::<CronJob>().get(&names::cron_job("users")).await?;
    assert_eq!(
        cron_job.spec.and_then(|spec| spec.suspend),
        Some(true),
        "there is one scheduler at a time"
    );

    // When catch-up is switched off and, two runs later, on again
    for enabled in [false, true] {
        pipeline["spec"]["schedule"]["catchUp"]["enabled"] = json!(enabled);
        world.apply(&pipeline).await?;
        let from = Timestamp::now();
        eventually(
            "a run for an interval that ended afterwards",
            Duration::from_secs(180),
            async || {
                let success = world.get().await?.status.and_then(|s| s.last_success).unwrap_or_default();
                let end = success.interval_end.map(|at| at.0);
                Ok(if end > Some(from) {
                    Ok(())
                } else {
                    Err(format!("the data ends at {end:?}"))
                })
            },
        )
        .await?;
    }

    // Then the ledger has every minute since the start, each once
    let end = assert_contiguous(&ledger(&world).await?, begins, &every_minute)?;
    ensure!(end > caught_up, "nothing was executed while catch-up was switched");

    // And the data is fresh, as the workers have reported
    world.condition("DataFresh", "True", SOON).await?;
    world.clean_up().await
}

/// Every minute is in the ledger once and succeeded at the first attempt; the last one may be running. Returns the end of the last.
fn assert_contiguous(rows: &[Row], begins: Timestamp, every_minute: &Ticks) -> Result<Timestamp> {
    let mut end = begins;
    for (id, _, state, attempt, from, to) in rows {
        let next = every_minute.after(end).context("a tick")?;
        assert_eq!(
            (*from, *to, id.as_str()),
            (Some(end.as_second()), Some(next.as_second()), next.to_string().as_str()),
            "{rows:?}"
        );
        ensure!(
            state == "Succeeded" || (state == "Running" && to == &rows[rows.len() - 1].5),
            "{rows:?}"
        );
        assert_eq!(*attempt, 1, "{id}");
        end = next;
    }
    Ok(end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requested_run_is_executed_once_per_nonce_with_its_arguments_and_interval() -> Result<()> {
    // Given a pipeline whose request has an argument and the interval
    let world = World::new("run-now").await?;
    let other = format!("{}-other", world.seed);
    let mut pipeline = world.pipeline();
    pipeline["spec"]["schedule"]["arguments"] = json!({"seed": world.seed});
    pipeline["spec"]["source"]["http"]["query"] = json!([
        {"name": "results", "value": "200"},
        {"name": "seed", "value": "{{arguments.seed}}"},
        {"name": "since", "value": "{{interval.start.date}}"}
    ]);
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When a run with another argument is requested
    let ended = async |nonce: &str| {
        eventually(&format!("the run {nonce}"), SOON, async || {
            let status = world.get().await?.status.and_then(|s| s.run_now);
            Ok(status
                .clone()
                .filter(|run| run.nonce == nonce && run.outcome.is_some())
                .ok_or_else(|| format!("{status:?}")))
        })
        .await
    };
    pipeline["spec"]["runNow"] = json!({
        "nonce": "first", "arguments": {"seed": other}, "interval": {"start": "2024-02-01T00:00:00Z", "end": "2024-02-02T00:00:00Z"}
    });
    world.apply(&pipeline).await?;
    let first = ended("first").await?;
    assert_eq!(first.outcome, Some(RunOutcome::Succeeded));

    // Then it is executed with these, and status and ledger show it
    ensure!(
        source::requests(&other).await?["requests"].as_i64().unwrap_or(0) > 0,
        "the argument did not reach the source"
    );
    let run = world.get().await?.status.and_then(|s| s.last_run).context("a run")?;
    assert_eq!((run.kind.as_str(), run.attempt, run.landed), ("Manual", 1, 200));
    assert_eq!(run.interval.context("an interval")?.end.0.to_string(), "2024-02-02T00:00:00Z");

    // When the same is applied again, with another change, and its Job is deleted
    pipeline["spec"]["description"] = json!("applied again");
    world.apply(&pipeline).await?;
    world.delete_job(&first.job).await?;
    world.ready().await?;

    // And when another nonce requests another run, and the first nonce is applied again
    pipeline["spec"]["runNow"] = json!({"nonce": "second"});
    world.apply(&pipeline).await?;
    ended("second").await?;
    pipeline["spec"]["runNow"] = json!({"nonce": "first", "arguments": {"seed": other}});
    world.apply(&pipeline).await?;
    ended("first").await?;

    // Then each nonce was executed once, as the ledger shows
    let db = stores::postgres(&world.client).await?;
    let arguments: String = db
        .query_one(
            "SELECT string_agg(run_id || ' ' || attempt || ' ' || (arguments ->> 'seed'), ', ' ORDER BY run_id) FROM userpipeline.runs WHERE pipeline = $1",
            &[&world.id().to_string()],
        )
        .await?
        .get(0);
    assert_eq!(arguments, format!("now:first 1 {other}, now:second 1 {}", world.seed));
    let last = world.get().await?.status.and_then(|s| s.last_run).context("a run")?;
    assert_eq!(last.reason, "AlreadyDone");
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_schedule_is_paused_and_a_successful_requested_run_ends_the_pause() -> Result<()> {
    // Given a pipeline that is due every minute, and whose source answers 503
    let world = World::new("pause").await?;
    source::set_fault(&json!({"kind": "status", "status": 503, "seed": world.seed})).await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["owner"] = json!("team-a");
    pipeline["spec"]["schedule"] = json!({"cron": "*/1 * * * *", "backoffLimit": 0, "pauseAfterFailures": 1});

    // When its run has failed
    world.apply(&pipeline).await?;

    // Then the schedule is paused in its status and not in the spec, and the data is reported as stale
    let (_, message) = world
        .condition_where("ScheduleReady", "False", Duration::from_secs(240), |reason, _| {
            reason == "PausedAfterFailures"
        })
        .await?;
    ensure!(message.contains("spec.runNow"), "{message}");
    world
        .condition_where("DataFresh", "False", SOON, |reason, _| reason == "RunFailed")
        .await?;
    let cron_job = world.api::<CronJob>().get(&names::cron_job("users")).await?;
    assert_eq!(cron_job.spec.as_ref().and_then(|spec| spec.suspend), Some(true));
    assert_eq!(
        cron_job
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get("userpipeline.dev/owner"))
            .map(String::as_str),
        Some("team-a")
    );
    ensure!(!world.get().await?.spec.suspend, "the spec is the user's");

    // When the source recovers and a run is requested
    source::clear_fault(&world.seed).await?;
    pipeline["spec"]["runNow"] = json!({"nonce": "recovered"});
    world.apply(&pipeline).await?;

    // Then its success ends the pause
    world.condition("ScheduleReady", "True", SOON).await?;
    world.ready().await?;
    world.clean_up().await
}
