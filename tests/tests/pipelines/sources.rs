//! Pagination, cursors and authentication of sources.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, declared, eventually, exact::node::Node, stores, test_source::TestSource, tls::Authority, world::SOON};

#[tokio::test(flavor = "multi_thread")]
async fn every_item_is_fetched_with_every_kind_of_pagination() -> Result<()> {
    // Given a source with authentication, and a pipeline
    let world = World::new("sources").await?;
    world.set_secret("source", "ann", "pw").await?;
    let source = TestSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}, {"name": "way", "type": "string", "from": "/way"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    world.apply(&pipeline).await?;
    world.ready().await?;

    let ways = paginations();
    pipeline["spec"]["schedule"]["arguments"] = json!({"want": "\"all\""});
    let mut expected = Vec::new();
    for (n, (way, spec, requests)) in (0_i64..).zip(&ways) {
        // When a run fetches 250 items
        let items: Vec<Value> = (0..250).map(|i| json!({"id": n * 1000 + i, "way": way})).collect();
        source.serve_collection(&items);
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

        // Then it has requested each page once
        assert_eq!(source.take_requests(), **requests);
        expected.extend(items.iter().map(|item| {
            let text = |key: &str| (key.to_owned(), Some(item[key].to_string().trim_matches('"').to_owned()));
            declared::Row::from([text("id"), text("way")])
        }));
    }

    // And every item is stored
    world.drained(250 * i64::try_from(ways.len())?).await?;
    let db = stores::postgres(&world.client).await?;
    let found = declared::postgres(&db, &names::postgres_table(&world.id()), &declared::fields(&record)).await?;
    declared::assert_same("PostgreSQL's table", &found, &expected);

    // And a run that may not fetch all items fails, and one with wrong credentials reports the field to check
    pipeline["spec"]["source"]["http"]["maxRecordsPerRun"] = json!(100);
    world.apply(&pipeline).await?;
    world.condition("ScheduleReady", "True", SOON).await?;
    fails(&world, "cut", "Incomplete", "maxRecordsPerRun").await?;
    world.set_secret("source", "ann", "wrong").await?;
    fails(&world, "refused", "SourceRefused", "check the credentials in spec.source.http.auth").await?;
    world.clean_up().await
}

/// The path of each pagination, its spec, and the requests for 250 items.
fn paginations() -> [(&'static str, Value, &'static [&'static str]); 6] {
    [
        (
            "page",
            json!({"items": "/data/items", "pagination": {"type": "Page", "parameter": "page"}}),
            &["page?page=1", "page?page=2", "page?page=3", "page?page=4"],
        ),
        (
            "offset",
            json!({"items": "/data/items", "pagination": {"type": "Offset", "parameter": "from"}}),
            &["offset?from=0", "offset?from=100", "offset?from=200", "offset?from=250"],
        ),
        (
            "cursor",
            json!({"items": "/data/items", "pagination": {"type": "Cursor", "parameter": "after", "cursorFrom": "/next"}}),
            &[
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
            &["link?", "link?from=100", "link?from=200"],
        ),
        (
            "ndjson",
            json!({"format": "NDJSON", "pagination": {"type": "Single"}}),
            &["ndjson?"],
        ),
        (
            "post",
            json!({"items": "/data/items", "method": "POST", "body": "{\"want\":\"{{arguments.want}}\"}", "pagination": {"type": "Single"}}),
            &["post?"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_and_oversized_lines_are_rejected_and_the_others_are_stored() -> Result<()> {
    // Given a source of lines, one of which is not JSON, and one is nested more deeply than PostgreSQL accepts
    let world = World::new("lines").await?;
    world.set_secret("source", "ann", "pw").await?;
    let source = TestSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"] = json!({"maxRejectedRatio": 0.5, "http": {
        "url": format!("{}ndjson", source.url()), "format": "NDJSON", "pagination": {"type": "Single"},
        "auth": {"basic": {"credentialsSecretRef": {"name": "source"}}}
    }});
    let bad = "{\"id\": 2, \0 caf\u{e9}";
    let deep = format!("{}{}", "[".repeat(120_000), "]".repeat(120_000));
    source.serve_collection(&[json!({"id": 1}), json!(bad), json!({"id": 3}), json!(deep), json!({"id": 5})]);
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When they are fetched
    world.run("first").await?;

    // Then the other lines are stored
    world.drained(3).await?;
    let db = stores::postgres(&world.client).await?;
    let table = names::postgres_table(&world.id());
    let stored = stores::number(&db, &format!("SELECT count(*) FROM \"{table}\" WHERE id IN (1, 3, 5)")).await?;
    assert_eq!(stored, 3);

    // And those two are rejects with their content and a reason
    let rejects = db
        .query(
            "SELECT class, reason, raw::text FROM userpipeline.rejects WHERE pipeline = $1 ORDER BY id",
            &[&world.id().to_string()],
        )
        .await?;
    let expected = [
        ("Unreadable", "cannot be parsed", bad),
        ("TooLarge", "so many values", deep.as_str()),
    ];
    assert_eq!(rejects.len(), expected.len());
    for (reject, (class, message, line)) in rejects.iter().zip(expected) {
        let (found, reason, raw): (String, String, String) = (reject.get(0), reject.get(1), reject.get(2));
        assert!(found == class && reason.contains(message), "{found}: {reason}");
        assert!(serde_json::from_str::<Value>(&raw)? == json!(line), "{class}: not as it came");
    }
    world.clean_up().await
}

/// A run fails with this reason and message.
async fn fails(world: &World, job: &str, reason: &str, message: &str) -> Result<()> {
    let job = world.start_run(job).await?;
    world.finished(&job, "Failed").await?;
    eventually("the run in the history", SOON, async || {
        let runs = world.get().await?.status.unwrap_or_default().runs;
        let run = runs.iter().find(|run| run.job == job);
        let is_reported = run.is_some_and(|run| run.reason == reason && run.message.contains(message));
        Ok(if is_reported { Ok(()) } else { Err(format!("{run:?}")) })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_between_two_pages_restarts_at_its_first_cursor() -> Result<()> {
    // Given a source of three pages with a cursor in each answer, and a slow run
    let world = World::new("pages").await?;
    world.set_secret("source", "ann", "pw").await?;
    let source = TestSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"] = json!({"http": {
        "url": format!("{}feed?since={{{{cursor}}}}", source.url()), "items": "/data/items",
        "auth": {"basic": {"credentialsSecretRef": {"name": "source"}}},
        "pagination": {"type": "Cursor", "parameter": "from", "cursorFrom": "/next"},
        "cursor": {"fromItems": "/at", "initial": "0"}, "rateLimit": {"requests": 1, "per": "10s"}, "runDuration": "2m", "maxRecordsPerRun": 10_000
    }});
    source.serve_collection(&(1..=250).map(|n| json!({"id": n, "at": n})).collect::<Vec<Value>>());
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When it is killed after two of the pages have landed
    world.start_run("first").await?;
    let (db, landing) = (stores::postgres(&world.client).await?, names::landing_table(&world.id()));
    let landed = format!("SELECT count(*) FROM \"{landing}\"");
    eventually("two pages to be landed", SOON, async || {
        let landed = stores::number(&db, &landed).await?;
        Ok(if landed == 200 { Ok(()) } else { Err(format!("{landed} rows")) })
    })
    .await?;
    let runs = world.pods("ingest").await?;
    let pod = runs.first().context("the run's pod")?;
    let node = Node::enter()?;
    let processes = node.processes(&pod.uid().context("a uid")?, "ingest-job").await?;
    ensure!(
        node.signal(*processes.first().context("the run's process")?, "KILL").await?,
        "the run had ended"
    );

    // Then the next attempt requests all three, and the next run the items after them
    world.finished("first", "Complete").await?;
    assert_eq!(
        source.take_requests(),
        [
            "feed?since=0",
            "feed?from=100&since=0",
            "feed?since=0",
            "feed?from=100&since=0",
            "feed?from=200&since=0"
        ]
    );
    assert_eq!(stores::number(&db, &landed).await?, 250);
    world.run("second").await?;
    assert_eq!(source.take_requests(), ["feed?since=250"]);
    world.drained(250).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_requests_the_items_that_have_not_landed() -> Result<()> {
    // Given a source of items after a number, and 250 items
    let world = World::new("cursor").await?;
    world.set_secret("source", "ann", "pw").await?;
    let auth = json!({"basic": {"credentialsSecretRef": {"name": "source"}}});
    let source = TestSource::start(&world.client).await?;
    let items = |until: i64| (1..=until).map(|n| json!({"id": n, "at": n})).collect::<Vec<Value>>();
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    let changes = json!({
        "url": format!("{}changes?after={{{{cursor}}}}", source.url()), "items": "/data/items", "auth": auth,
        "pagination": {"type": "Repeat"}, "cursor": {"fromItems": "/at", "initial": "0"}, "runDuration": "30s", "maxRecordsPerRun": 10_000, "rateLimit": {"requests": 50}
    });
    pipeline["spec"]["source"] = json!({"http": changes});
    source.serve_collection(&items(250));
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When a run starts, Then each request continues after the previous page
    world.run("first").await?;
    assert_eq!(
        source.take_requests(),
        ["changes?after=0", "changes?after=100", "changes?after=200", "changes?after=250"]
    );
    world.drained(250).await?;

    // And the next run requests new items: first there are none, which is no error, then ten
    world.run("second").await?;
    assert_eq!(source.take_requests(), ["changes?after=250"]);
    source.serve_collection(&items(260));
    world.run("third").await?;
    assert_eq!(source.take_requests(), ["changes?after=250", "changes?after=260"]);
    world.drained(260).await?;

    // When new items cannot be landed, Then they are requested again
    source.serve_collection(&items(270));
    let (db, landing) = (stores::postgres(&world.client).await?, names::landing_table(&world.id()));
    let lasting = format!("ALTER TABLE \"{landing}\" ADD CONSTRAINT no_more CHECK (id <= 260)");
    db.batch_execute(&lasting).await?;
    world.start_run("fourth").await?;
    world.finished("fourth", "Failed").await?;
    db.batch_execute(&format!("ALTER TABLE \"{landing}\" DROP CONSTRAINT no_more"))
        .await?;
    assert!(source.take_requests().iter().all(|request| request == "changes?after=260"));
    world.run("fifth").await?;
    assert_eq!(source.take_requests(), ["changes?after=260", "changes?after=270"]);
    world.drained(270).await?;

    // And with a cursor in the answer, a run that has reached the last page stores it
    let sync = json!({
        "url": format!("{}sync?token={{{{cursor}}}}", source.url()), "items": "/data/items", "pagination": {"type": "Single"}, "auth": auth,
        "cursor": {"fromAnswer": "/token"}, "runDuration": "30s", "maxRecordsPerRun": 10_000
    });
    pipeline["spec"]["source"] = json!({"http": sync});
    world.apply(&pipeline).await?;
    world.ready().await?;
    source.serve_collection(&items(275));
    world.run("sixth").await?;
    world.run("seventh").await?;
    assert_eq!(source.take_requests(), ["sync?token=270", "sync?token=275"]);
    world.drained(275).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_tls_is_verified_by_its_authority_and_verifies_the_client() -> Result<()> {
    // Given a source with a private certificate that requires a client certificate
    let world = World::new("tls").await?;
    let authority = Authority::new()?;
    let source = TestSource::start_with_tls(&world.client, &authority).await?;
    let (certificate, key) = authority.identity("pipeline")?.pem();
    world
        .set_secret_of_type("api-ca", "Opaque", &[("ca.crt", &authority.pem())])
        .await?;
    world
        .set_secret_of_type("api-client", "kubernetes.io/tls", &[("tls.crt", &certificate), ("tls.key", &key)])
        .await?;
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"]["http"]["runDuration"] = json!("2s");
    pipeline["spec"]["schedule"]["backoffLimit"] = json!(0);
    let ca = json!({"secretKeyRef": {"name": "api-ca", "key": "ca.crt"}});
    let both = json!({"ca": ca, "clientSecretRef": {"name": "api-client"}});
    source.serve(&[json!({"id": 1}), json!({"id": 2})]);

    // When a run has neither, or only the authority, Then it fails with a reason
    for (job, tls, message) in [
        ("no-certificates", json!({}), "certificate"),
        ("authority-only", json!({"ca": ca}), "cannot be reached"),
    ] {
        pipeline["spec"]["source"]["http"]["tls"] = tls;
        world.apply(&pipeline).await?;
        world.ready().await?;
        world.start_run(job).await?;
        world.finished(job, "Failed").await?;
        eventually("the reason of the failed run", SOON, async || {
            let run = world.get().await?.status.unwrap_or_default().last_run.unwrap_or_default();
            let is_reported = run.job == job && run.message.contains(message);
            Ok(if is_reported {
                Ok(())
            } else {
                Err(format!("{}: {}", run.job, run.message))
            })
        })
        .await?;
    }

    // And with both it succeeds
    pipeline["spec"]["source"]["http"]["tls"] = both;
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("known").await?;
    world.drained(2).await?;
    world.clean_up().await
}
