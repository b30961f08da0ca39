//! The ways in which an API has pages, and who may ask.

use anyhow::Result;
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, declared, eventually, own_source::OwnSource, stores, world::SOON};

#[tokio::test(flavor = "multi_thread")]
async fn every_item_is_fetched_in_whichever_way_an_api_has_pages() -> Result<()> {
    // Given a source that asks who is there, and a pipeline
    let world = World::new("sources").await?;
    world.set_secret("source", "ann", "pw").await?;
    let source = OwnSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}, {"name": "way", "type": "string", "from": "/way"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    world.apply(&pipeline).await?;
    world.ready().await?;

    let ways = [
        (
            "page",
            json!({"items": "/data/items", "pagination": {"type": "Page", "parameter": "page"}}),
            vec!["page?page=1", "page?page=2", "page?page=3", "page?page=4"],
        ),
        (
            "offset",
            json!({"items": "/data/items", "pagination": {"type": "Offset", "parameter": "from"}}),
            vec!["offset?from=0", "offset?from=100", "offset?from=200", "offset?from=250"],
        ),
        (
            "cursor",
            json!({"items": "/data/items", "pagination": {"type": "Cursor", "parameter": "after", "cursorFrom": "/next"}}),
            vec![
                "cursor?",
                "cursor?after=empty-100",
                "cursor?after=100",
                "cursor?after=empty-200",
                "cursor?after=200",
            ],
        ),
        (
            "link",
            json!({"items": "", "pagination": {"type": "Link"}}),
            vec!["link?", "link?from=100", "link?from=200"],
        ),
        (
            "ndjson",
            json!({"format": "NDJSON", "pagination": {"type": "Single"}}),
            vec!["ndjson?"],
        ),
        (
            "post",
            json!({"items": "/data/items", "method": "POST", "body": "{\"want\":\"{{arguments.want}}\"}", "pagination": {"type": "Single"}}),
            vec!["post?"],
        ),
    ];
    pipeline["spec"]["schedule"]["arguments"] = json!({"want": "\"all\""});
    let mut wanted = Vec::new();
    for (n, (way, spec, requests)) in (0_i64..).zip(&ways) {
        // When a run fetches 250 items in one of the ways
        let items: Vec<Value> = (0..250).map(|i| json!({"id": n * 1000 + i, "way": way})).collect();
        source.collect(&items);
        let mut http = json!({
            "url": format!("{}{way}", source.url()), "runDuration": "30s", "maxRecordsPerRun": 10_000, "rateLimit": {"requests": 100, "per": "1s"},
            "auth": {"basic": {"credentialsSecretRef": {"name": "source"}}}
        });
        http.as_object_mut()
            .into_iter()
            .for_each(|http| http.extend(spec.as_object().cloned().unwrap_or_default()));
        pipeline["spec"]["source"] = json!({"http": http});
        world.apply(&pipeline).await?;
        world.condition("ScheduleReady", "True", SOON).await?;
        world.run(way).await?;

        // Then it has asked for each page once
        assert_eq!(source.asked(), *requests);
        wanted.extend(items.iter().map(|item| {
            let text = |key: &str| (key.to_owned(), Some(item[key].to_string().trim_matches('"').to_owned()));
            declared::Row::from([text("id"), text("way")])
        }));
    }

    // And every item is stored
    world.drained(250 * i64::try_from(ways.len())?).await?;
    let db = stores::postgres(&world.client).await?;
    let found = declared::postgres(&db, &names::postgres_table(&world.id()), &declared::fields(&record)).await?;
    declared::assert_same("PostgreSQL's table", &found, &wanted);

    // And a run that may not fetch all of it says so, and whoever is not let in is told where to look
    pipeline["spec"]["source"]["http"]["maxRecordsPerRun"] = json!(100);
    world.apply(&pipeline).await?;
    world.condition("ScheduleReady", "True", SOON).await?;
    fails(&world, "cut", "Incomplete", "maxRecordsPerRun").await?;
    world.set_secret("source", "ann", "wrong").await?;
    fails(&world, "refused", "SourceRefused", "check the credentials in spec.source.http.auth").await?;
    world.leave().await
}

/// A run fails for a reason, and says what to do.
async fn fails(world: &World, job: &str, reason: &str, says: &str) -> Result<()> {
    let job = world.start_run(job).await?;
    world.finished(&job, "Failed").await?;
    eventually("the run in the history", SOON, async || {
        let runs = world.get().await?.status.unwrap_or_default().runs;
        let run = runs.iter().find(|run| run.job == job);
        let told = run.is_some_and(|run| run.reason == reason && run.message.contains(says));
        Ok(if told { Ok(()) } else { Err(format!("{run:?}")) })
    })
    .await
}
