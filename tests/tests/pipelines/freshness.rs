//! `DataFresh` while schedules change and workers are replaced.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use k8s_openapi::{
    api::events::v1::Event,
    apimachinery::pkg::apis::meta::v1::Condition,
    jiff::{Timestamp, tz::TimeZone},
};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use userpipeline_api::Ticks;
use userpipeline_tests::{World, eventually, world::SOON};

const EVERY_MINUTE: &str = "*/1 * * * *";
/// A run that did not end this long after its tick is overdue.
const OVERDUE_AFTER: Duration = Duration::from_secs(10 + 45);

/// Workers may take this long to store what a run has published.
const STORE_WITHIN: Duration = Duration::from_secs(60);

/// A pipeline whose runs are overdue as early as possible.
fn impatient(world: &World, cron: &str, more: &Value) -> Result<Value> {
    let mut pipeline = world.pipeline();
    let mut schedule = json!({"cron": cron, "startingDeadlineSeconds": 10, "activeDeadlineSeconds": 45});
    let fields = schedule.as_object_mut().context("an object")?;
    fields.extend(more.as_object().context("fields")?.clone());
    pipeline["spec"]["schedule"] = schedule;
    Ok(pipeline)
}

async fn data_fresh(world: &World) -> Result<Condition> {
    let conditions = world.get().await?.status.unwrap_or_default().conditions;
    conditions
        .into_iter()
        .find(|condition| condition.type_ == "DataFresh")
        .context("DataFresh")
}

/// The Events that say that data is missing or late.
async fn alarms(world: &World) -> Result<Vec<String>> {
    let events = world.api::<Event>().list(&ListParams::default()).await?.items;
    let reasons = events.into_iter().filter_map(|event| event.reason);
    Ok(reasons
        .filter(|reason| ["RunOverdue", "SinksUnknown", "SinksBehind"].contains(&reason.as_str()))
        .collect())
}

/// Pipelines before and after a change of their schedule, by which ticks before the change become due.
async fn changes() -> Result<Vec<(World, Value, Value)>> {
    let (more_often, earlier, zone, resumed) = (
        World::new("more-often").await?,
        World::new("starts-earlier").await?,
        World::new("other-zone").await?,
        World::new("resumed").await?,
    );
    // In Tokyo a daily run is due within the next minute, in UTC nine hours later.
    let soon = Timestamp::now()
        .checked_add(Duration::from_secs(60))?
        .to_zoned(TimeZone::get("Asia/Tokyo")?);
    let daily = format!("{} {} * * *", soon.minute(), soon.hour());
    let mut suspended = impatient(&resumed, EVERY_MINUTE, &json!({}))?;
    suspended["spec"]["suspend"] = json!(true);
    let plans = [
        (
            impatient(&more_often, "0 0 1 1 *", &json!({}))?,
            impatient(&more_often, EVERY_MINUTE, &json!({}))?,
        ),
        (
            impatient(&earlier, EVERY_MINUTE, &json!({"startAt": "2099-01-01T00:00:00Z"}))?,
            impatient(&earlier, EVERY_MINUTE, &json!({"startAt": "2025-01-01T00:00:00Z"}))?,
        ),
        (
            impatient(&zone, &daily, &json!({"timeZone": "Etc/UTC"}))?,
            impatient(&zone, &daily, &json!({"timeZone": "Asia/Tokyo"}))?,
        ),
        (suspended, impatient(&resumed, EVERY_MINUTE, &json!({}))?),
    ];
    let worlds = [more_often, earlier, zone, resumed];
    Ok(worlds
        .into_iter()
        .zip(plans)
        .map(|(world, (before, after))| (world, before, after))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_schedule_makes_no_run_overdue_that_was_due_before_the_change() -> Result<()> {
    // Given pipelines that are ready, one of them with a run
    let changes = changes().await?;
    try_join_all(changes.iter().map(|(world, before, _)| world.apply(before))).await?;
    try_join_all(changes.iter().map(|(world, ..)| world.ready())).await?;
    let created = Timestamp::now();
    let more_often = &changes[0].0;
    more_often.run("earlier").await?;
    more_often.condition("DataFresh", "True", SOON).await?;

    // And a minute's tick that has passed so long ago that its run would be overdue
    let every_minute = Ticks::read(EVERY_MINUTE, "Etc/UTC").map_err(anyhow::Error::msg)?;
    let tick = every_minute.after(created).context("a tick")?;
    let overdue = tick.checked_add(OVERDUE_AFTER)?;
    eventually("a run to be overdue by the changed schedule", SOON, async || {
        let now = Timestamp::now();
        Ok(if now > overdue {
            Ok(())
        } else {
            Err(format!("{now}, until {overdue}"))
        })
    })
    .await?;

    // When the schedules change, Then no alarm is raised
    let edited_at = Timestamp::now();
    for (world, _, after) in &changes {
        let generation = world.apply(after).await?.metadata.generation;
        world.settled(generation).await?;
        let fresh = data_fresh(world).await?;
        assert_ne!(fresh.status, "False", "{}: {fresh:?}", world.namespace);
        assert_eq!(fresh.observed_generation, generation);
    }

    // And the data stays fresh until a run by the new schedule has fetched more
    eventually("a run by the new schedule", Duration::from_secs(150), async || {
        let fresh = data_fresh(more_often).await?;
        assert_eq!(fresh.status, "True", "{fresh:?}");
        let success = more_often
            .get()
            .await?
            .status
            .and_then(|status| status.last_success)
            .unwrap_or_default();
        let end = success.interval_end.map(|at| at.0);
        Ok(if end > Some(edited_at) {
            Ok(())
        } else {
            Err(format!("the data ends at {end:?}"))
        })
    })
    .await?;
    for (world, ..) in changes {
        assert_eq!(alarms(&world).await?, Vec::<String>::new(), "{}", world.namespace);
        world.clean_up().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replacing_the_only_worker_raises_no_alarm() -> Result<()> {
    // Given a pipeline with one worker, and data that is fresh for longer than the workers may take to store it
    let world = World::new("one-worker").await?;
    let mut pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("run").await?;
    world.drained(200).await?;
    world.condition("DataFresh", "True", SOON).await?;
    let stored = Timestamp::now();
    eventually("the records to be stored for a minute", SOON, async || {
        let age = Timestamp::now().duration_since(stored).unsigned_abs();
        Ok(if age > STORE_WITHIN { Ok(()) } else { Err(format!("{age:?}")) })
    })
    .await?;
    let before = data_fresh(&world).await?;
    let old: Vec<_> = world.pods("worker").await?.iter().map(ResourceExt::uid).collect();
    assert_eq!(old.len(), 1);

    // When the worker is replaced
    pipeline["spec"]["workers"] = json!({"batch": {"maxRecords": 17}});
    world.apply(&pipeline).await?;
    world.ready().await?;
    eventually("the new worker alone", SOON, async || {
        let pods = world.pods("worker").await?;
        let left = pods.iter().filter(|pod| old.contains(&pod.uid())).count();
        Ok(if (left, pods.len()) == (0, 1) {
            Ok(())
        } else {
            Err(format!("{left} of {} are old", pods.len()))
        })
    })
    .await?;
    world.drained(200).await?;

    // Then the data was fresh all the time
    let after = data_fresh(&world).await?;
    assert_eq!(after.last_transition_time, before.last_transition_time, "{after:?}");
    assert_eq!(alarms(&world).await?, Vec::<String>::new());
    world.clean_up().await
}
