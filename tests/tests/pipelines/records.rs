//! Records that a pipeline declares: of every type, and evolved.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use proptest::{
    prelude::ProptestConfig,
    strategy::{Strategy, ValueTree},
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{
    World,
    declared::{self, Row, assert_same, in_both_stores},
    eventually,
    own_source::OwnSource,
    stores,
    world::SOON,
};

use crate::{
    every_type::{TYPES, any_of, every_type, row_of},
    plans::plan,
};

#[tokio::test(flavor = "multi_thread")]
async fn records_of_every_type_arrive_in_both_stores_as_they_were_served() -> Result<()> {
    // Given a pipeline whose record has every type, and items with extremes, scripts, nulls and values drawn at random
    let world = World::new("types").await?;
    let source = OwnSource::start(&world.client).await?;
    let record = every_type();
    let seed = world.seed.bytes().fold([7_u8; 32], |mut seed, byte| {
        seed.rotate_left(1);
        seed[0] ^= byte;
        seed
    });
    println!("seed {seed:?}");
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let mut draw = |field_type| {
        any_of(field_type)
            .new_tree(&mut runner)
            .map(|tree| tree.current())
            .unwrap_or_default()
    };
    let mut items = Vec::new();
    for n in 0..400_i64 {
        let a: BTreeMap<_, _> = TYPES.iter().map(|t| (*t, draw(t))).collect();
        let o: BTreeMap<_, _> = TYPES
            .iter()
            .enumerate()
            .map(|(i, t)| (*t, if (n >> (i % 5)) & 1 == 0 { Value::Null } else { draw(t) }))
            .collect();
        let mut item = json!({"device": format!("dévice {}", n % 7), "seq": n, "a": a, "o": o});
        if n % 3 == 0 {
            item["level"] = json!(n);
        }
        items.push(item);
    }
    // And some that no store could hold
    let mut planted = Vec::new();
    for (pointer, bad, says) in [
        ("/a/string", json!("x\0y"), "NUL"),
        ("/a/json", json!({"x": ["\0"]}), "NUL"),
        ("/a/date", json!("-000001-12-31"), "0001 to 9999"),
        ("/a/long", json!(9.3e18), "whole number of 64 bits"),
        ("/a/bytes", json!("?"), "not base64"),
        ("/device", json!(""), "empty"),
    ] {
        let mut item = items[0].clone();
        item["seq"] = json!(100_000 + planted.len());
        *item.pointer_mut(pointer).context("a place")? = bad;
        planted.push(says);
        items.push(item);
    }
    world.apply(&world.pipeline_of(&record, &source.url())).await?;
    world.ready().await?;

    // When they are served, in three pages
    for page in items.chunks(150) {
        source.serve(page);
    }
    world.run("first").await?;
    world.drained(400).await?;

    // Then both stores hold each field of each record as it was served
    let wanted = items[..400].iter().map(row_of).collect::<Result<Vec<_>>>()?;
    in_both_stores(&world, &record, &wanted).await?;

    // And the others are rejects, with a reason, and as they were served
    let db = stores::postgres(&world.client).await?;
    let rejects = db
        .query(
            "SELECT reason, raw::text FROM userpipeline.rejects WHERE pipeline = $1 ORDER BY id",
            &[&world.id().to_string()],
        )
        .await?;
    assert_eq!(rejects.len(), planted.len());
    for (reject, says) in rejects.iter().zip(planted) {
        let (reason, raw): (String, String) = (reject.get(0), reject.get(1));
        assert!(reason.contains(says), "{reason}");
        let raw: Value = serde_json::from_str(&raw)?;
        assert!(items.contains(&raw), "{raw}");
    }
    world.leave().await
}

/// Serves page after page until `work` is done: how many items.
async fn fed_during(source: &OwnSource, page: impl Fn(i64) -> Vec<Value>, work: impl Future<Output = Result<()>>) -> Result<i64> {
    let mut fed = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(40));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done.map(|()| fed),
            _ = tick.tick() => {
                let items = page(fed);
                source.serve(&items);
                fed += i64::try_from(items.len())?;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_added_and_taken_back_without_a_lost_row() -> Result<()> {
    // Given a pipeline of two fields with rows in both stores
    let world = World::new("evolution").await?;
    let source = OwnSource::start(&world.client).await?;
    let field = |name: &str| json!({"name": name, "type": "string", "from": format!("/{name}")});
    let with = |more: &[Value]| {
        let mut fields = vec![field("id"), field("name")];
        fields.extend_from_slice(more);
        json!({"key": ["id"], "fields": fields})
    };
    let items = |range: std::ops::Range<i64>| -> Vec<Value> {
        range
            .map(|n| json!({"id": n.to_string(), "name": format!("name {n}"), "note": format!("note {n}"), "level": n}))
            .collect()
    };
    let before = with(&[]);
    let pipeline_of = |record: &Value| {
        let mut pipeline = world.pipeline_of(record, &source.url());
        pipeline["spec"]["source"]["http"]["rateLimit"] = json!({"requests": 20});
        pipeline["spec"]["source"]["http"]["runDuration"] = json!("2m");
        pipeline
    };
    source.serve(&items(0..100));
    world.apply(&pipeline_of(&before)).await?;
    world.ready().await?;
    world.run("first").await?;
    world.drained(100).await?;

    // When a field that is optional and one that has a default are planned, then it is told what would change
    let mut note = field("note");
    note["optional"] = json!(true);
    let level = |default: i64| json!({"name": "level", "type": "int", "from": "/level", "default": default});
    let after = with(&[note.clone(), level(-1)]);
    let (code, told, errors) = plan(&pipeline_of(&after), &["--schema"]).await?;
    assert_eq!(code, 1, "{told}{errors}");
    let id = world.id();
    for line in [
        format!("! PostgreSQL: ALTER TABLE \"{}\" ADD COLUMN", names::postgres_table(&id)),
        format!("! Cassandra: ALTER TABLE \"{}\"", names::keyspace(&id)),
        format!(
            "! registry: subject {} gets another version, which adds `note`, adds `level`",
            names::subject(&names::topic(&id))
        ),
    ] {
        assert!(told.contains(&line), "{line} in {told}");
    }

    // And when they are added while a run is under way, to which the source always has more
    let roll_out = async {
        world.start_run("during").await?;
        world.apply(&pipeline_of(&after)).await?;
        world.ready().await
    };
    let fed = fed_during(&source, |fed| items(1000 + fed..1010 + fed), Box::pin(roll_out)).await?;
    world.finished("during", "Complete").await?;
    source.serve(&items(50..200));
    world.run("second").await?;

    // Then no row is lost and none is stalled, whichever record the run knew that fetched it
    world.drained(250 + fed).await?;
    println!("{fed} items while the fields were added");
    let named = |n: i64| {
        Row::from([
            ("id".to_owned(), Some(n.to_string())),
            ("name".to_owned(), Some(format!("name {n}"))),
        ])
    };
    let mut all: Vec<Row> = (0..200).chain(1000..1000 + fed).map(named).collect();
    all.sort();
    in_both_stores(&world, &before, &all).await?;

    // Then what was served since has them, and what was there before has null, or the default where a store knows of defaults
    let (db, fields) = (stores::postgres(&world.client).await?, declared::fields(&after));
    let session = stores::cassandra(&world.client).await?;
    let row = |n: i64, level: Option<i64>| {
        let known = n >= 50;
        Row::from([
            ("id".to_owned(), Some(n.to_string())),
            ("name".to_owned(), Some(format!("name {n}"))),
            ("note".to_owned(), known.then(|| format!("note {n}"))),
            (
                "level".to_owned(),
                if known {
                    Some(n.to_string())
                } else {
                    level.map(|level| level.to_string())
                },
            ),
        ])
    };
    let wanted = |level| (0..200).map(|n| row(n, level)).collect::<Vec<_>>();
    let but_those_fed = |rows: Vec<Row>| {
        let early = |row: &Row| row["id"].as_ref().is_some_and(|id| id.len() < 4);
        rows.into_iter().filter(early).collect::<Vec<_>>()
    };
    let in_postgres = declared::postgres(&db, &names::postgres_table(&id), &fields).await?;
    assert_same("PostgreSQL's table", &but_those_fed(in_postgres), &wanted(Some(-1)));
    let in_cassandra = declared::cassandra(&session, &names::keyspace(&id), &names::cassandra_table(&id), &fields).await?;
    assert_same("Cassandra's table", &but_those_fed(in_cassandra), &wanted(None));

    // When the default is changed, then that is refused by name
    world.apply(&pipeline_of(&with(&[note, level(5)]))).await?;
    let refused = |reason: &str, message: &str| {
        reason == "SchemaIncompatible" && message.contains("field `level`") && message.contains("its default becomes 5")
    };
    world.condition_where("SchemaReady", "False", SOON, refused).await?;

    // When they are taken back, then rows go on, and the columns stay
    world.apply(&pipeline_of(&before)).await?;
    world.ready().await?;
    source.serve(&items(200..250));
    world.run("third").await?;
    world.drained(300 + fed).await?;
    let count: i64 = stores::number(
        &db,
        &format!(
            "SELECT count(*) FROM \"{}\" WHERE level = -1 AND id::int < 1000",
            names::postgres_table(&id)
        ),
    )
    .await?;
    assert_eq!(count, 100, "fifty from before, and fifty since");

    // When a field is added that every row must have, then it is refused by name, and rows go on
    let refused = with(&[field("must")]);
    world.apply(&pipeline_of(&refused)).await?;
    let (reason, message) = world.condition("SchemaReady", "False", SOON).await?;
    eventually("the refusal", SOON, async || {
        let (reason, message) = world.condition("SchemaReady", "False", SOON).await?;
        let told = reason == "TableMismatch" && message.contains("field `must` of spec.record is neither optional nor has a default");
        Ok(if told { Ok(()) } else { Err(format!("{reason}: {message}")) })
    })
    .await
    .with_context(|| format!("at first {reason}: {message}"))?;
    source.serve(&items(250..260));
    world.run("fourth").await?;
    world.drained(310 + fed).await?;
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_every_row_has_is_not_taken_back_also_where_the_table_would_let_it() -> Result<()> {
    // Given a pipeline whose rows have a name each, and whose only sink is Cassandra, where any column may be null
    let world = World::new("required").await?;
    let field = |name: &str| json!({"name": name, "type": "string", "from": format!("/{name}")});
    let of = |fields: &[Value]| {
        let mut pipeline = world.pipeline_of(
            &json!({"key": ["id"], "fields": fields}),
            "http://source.services.svc.cluster.local/api/",
        );
        pipeline["spec"]["sinks"] = json!({"cassandra": {"replication": {"datacenter1": 1}}});
        pipeline
    };
    world.apply(&of(&[field("id"), field("name")])).await?;
    world.ready().await?;

    // When the name is taken back, then that is refused by name, and the pipeline is ready again once it is there again
    world.apply(&of(&[field("id")])).await?;
    let refused = |reason: &str, message: &str| {
        reason == "SchemaIncompatible" && message.contains("field `name` of spec.record") && message.contains("it is gone")
    };
    world.condition_where("SchemaReady", "False", SOON, refused).await?;
    world.apply(&of(&[field("id"), field("name")])).await?;
    world.ready().await?;
    world.leave().await
}
