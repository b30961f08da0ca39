//! The ways in which an API has pages, and who may ask.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, declared, eventually, exact::node::Node, own_source::OwnSource, stores, tls::Authority, world::SOON};

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

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_no_json_or_too_much_of_it_are_kept_and_the_others_are_stored() -> Result<()> {
    // Given a source of lines, of which one is no JSON, and one is deeper than PostgreSQL would read it
    let world = World::new("lines").await?;
    world.set_secret("source", "ann", "pw").await?;
    let source = OwnSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"] = json!({"maxRejectedRatio": 0.5, "http": {
        "url": format!("{}ndjson", source.url()), "format": "NDJSON", "pagination": {"type": "Single"},
        "auth": {"basic": {"credentialsSecretRef": {"name": "source"}}}
    }});
    let bad = "{\"id\": 2, \0 caf\u{e9}";
    let deep = format!("{}{}", "[".repeat(120_000), "]".repeat(120_000));
    source.collect(&[json!({"id": 1}), json!(bad), json!({"id": 3}), json!(deep), json!({"id": 5})]);
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When it is fetched
    world.run("first").await?;

    // Then the other lines are stored
    world.drained(3).await?;
    let db = stores::postgres(&world.client).await?;
    let table = names::postgres_table(&world.id());
    let stored = stores::number(&db, &format!("SELECT count(*) FROM \"{table}\" WHERE id IN (1, 3, 5)")).await?;
    assert_eq!(stored, 3);

    // And those are kept as they came, with why
    let rejects = db
        .query(
            "SELECT class, reason, raw::text FROM userpipeline.rejects WHERE pipeline = $1 ORDER BY id",
            &[&world.id().to_string()],
        )
        .await?;
    let wanted = [
        ("Unreadable", "cannot be parsed", bad),
        ("TooLarge", "so many values", deep.as_str()),
    ];
    assert_eq!(rejects.len(), wanted.len());
    for (reject, (class, says, line)) in rejects.iter().zip(wanted) {
        let (found, reason, raw): (String, String, String) = (reject.get(0), reject.get(1), reject.get(2));
        assert!(found == class && reason.contains(says), "{found}: {reason}");
        assert!(serde_json::from_str::<Value>(&raw)? == json!(line), "{class}: not as it came");
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_between_two_pages_asks_from_where_it_began() -> Result<()> {
    // Given a source of three pages, which says with each where the next one begins, and a run that takes its time
    let world = World::new("pages").await?;
    world.set_secret("source", "ann", "pw").await?;
    let source = OwnSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"] = json!({"http": {
        "url": format!("{}feed?since={{{{cursor}}}}", source.url()), "items": "/data/items",
        "auth": {"basic": {"credentialsSecretRef": {"name": "source"}}},
        "pagination": {"type": "Cursor", "parameter": "from", "cursorFrom": "/next"},
        "cursor": {"fromItems": "/at", "initial": "0"}, "rateLimit": {"requests": 1, "per": "10s"}, "runDuration": "2m", "maxRecordsPerRun": 10_000
    }});
    source.collect(&(1..=250).map(|n| json!({"id": n, "at": n})).collect::<Vec<Value>>());
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When it is killed with two of the pages landed
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

    // Then the next attempt asks for all three, and the next run for what comes behind them
    world.finished("first", "Complete").await?;
    assert_eq!(
        source.asked(),
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
    assert_eq!(source.asked(), ["feed?since=250"]);
    world.drained(250).await?;
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_asks_for_what_has_not_landed_yet() -> Result<()> {
    // Given a source that is asked for what came behind a number, and 250 items
    let world = World::new("cursor").await?;
    world.set_secret("source", "ann", "pw").await?;
    let auth = json!({"basic": {"credentialsSecretRef": {"name": "source"}}});
    let source = OwnSource::start(&world.client).await?;
    let items = |until: i64| (1..=until).map(|n| json!({"id": n, "at": n})).collect::<Vec<Value>>();
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    let changes = json!({
        "url": format!("{}changes?after={{{{cursor}}}}", source.url()), "items": "/data/items", "auth": auth,
        "cursor": {"fromItems": "/at", "initial": "0"}, "runDuration": "30s", "maxRecordsPerRun": 10_000, "rateLimit": {"requests": 50}
    });
    pipeline["spec"]["source"] = json!({"http": changes});
    source.collect(&items(250));
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When it runs, Then each request asks for what came behind the page before
    world.run("first").await?;
    assert_eq!(
        source.asked(),
        ["changes?after=0", "changes?after=100", "changes?after=200", "changes?after=250"]
    );
    world.drained(250).await?;

    // And the next run asks for what is new: nothing, which is fine; then ten
    world.run("second").await?;
    assert_eq!(source.asked(), ["changes?after=250"]);
    source.collect(&items(260));
    world.run("third").await?;
    assert_eq!(source.asked(), ["changes?after=250", "changes?after=260"]);
    world.drained(260).await?;

    // When what is new cannot be landed, then it is asked for again
    source.collect(&items(270));
    let (db, landing) = (stores::postgres(&world.client).await?, names::landing_table(&world.id()));
    let lasting = format!("ALTER TABLE \"{landing}\" ADD CONSTRAINT no_more CHECK (id <= 260)");
    db.batch_execute(&lasting).await?;
    world.start_run("fourth").await?;
    world.finished("fourth", "Failed").await?;
    db.batch_execute(&format!("ALTER TABLE \"{landing}\" DROP CONSTRAINT no_more"))
        .await?;
    assert!(source.asked().iter().all(|asked| asked == "changes?after=260"));
    world.run("fifth").await?;
    assert_eq!(source.asked(), ["changes?after=260", "changes?after=270"]);
    world.drained(270).await?;

    // And where the answer says how far it goes, a run that has seen the last page stores that
    let sync = json!({
        "url": format!("{}sync?token={{{{cursor}}}}", source.url()), "items": "/data/items", "pagination": {"type": "Single"}, "auth": auth,
        "cursor": {"fromAnswer": "/token"}, "runDuration": "30s", "maxRecordsPerRun": 10_000
    });
    pipeline["spec"]["source"] = json!({"http": sync});
    world.apply(&pipeline).await?;
    world.ready().await?;
    source.collect(&items(275));
    world.run("sixth").await?;
    world.run("seventh").await?;
    assert_eq!(source.asked(), ["sync?token=270", "sync?token=275"]);
    world.drained(275).await?;
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_behind_tls_is_known_by_its_authority_and_knows_who_asks() -> Result<()> {
    // Given a source with a certificate that nobody else knows, which wants one of whoever asks
    let world = World::new("tls").await?;
    let authority = Authority::new()?;
    let source = OwnSource::start_with_tls(&world.client, &authority).await?;
    let (certificate, key) = authority.identity("pipeline")?.pem();
    world.keep_secret("api-ca", "Opaque", &[("ca.crt", &authority.pem())]).await?;
    world
        .keep_secret("api-client", "kubernetes.io/tls", &[("tls.crt", &certificate), ("tls.key", &key)])
        .await?;
    let record = json!({"key": ["id"], "fields": [{"name": "id", "type": "long", "from": "/id"}]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"]["http"]["runDuration"] = json!("2s");
    pipeline["spec"]["schedule"]["backoffLimit"] = json!(0);
    let ca = json!({"secretKeyRef": {"name": "api-ca", "key": "ca.crt"}});
    let both = json!({"ca": ca, "clientSecretRef": {"name": "api-client"}});
    source.serve(&[json!({"id": 1}), json!({"id": 2})]);

    // When it is asked without either, and with the authority only, Then the run fails, and says why
    for (job, tls, says) in [
        ("nobody", json!({}), "certificate"),
        ("anybody", json!({"ca": ca}), "cannot be reached"),
    ] {
        pipeline["spec"]["source"]["http"]["tls"] = tls;
        world.apply(&pipeline).await?;
        world.ready().await?;
        world.start_run(job).await?;
        world.finished(job, "Failed").await?;
        eventually("why the run failed", SOON, async || {
            let run = world.get().await?.status.unwrap_or_default().last_run.unwrap_or_default();
            let told = run.job == job && run.message.contains(says);
            Ok(if told {
                Ok(())
            } else {
                Err(format!("{}: {}", run.job, run.message))
            })
        })
        .await?;
    }

    // And with both it is fetched
    pipeline["spec"]["source"]["http"]["tls"] = both;
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("known").await?;
    world.drained(2).await?;
    world.leave().await
}
