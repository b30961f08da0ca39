//! Records that a pipeline declares: of every type, and evolved.

use std::collections::BTreeMap;

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

use crate::every_type::{TYPES, any_of, every_type, row_of};

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
    source.serve(&items(0..100));
    world.apply(&world.pipeline_of(&before, &source.url())).await?;
    world.ready().await?;
    world.run("first").await?;
    world.drained(100).await?;

    // When a field that is optional and one that has a default are added
    let mut note = field("note");
    note["optional"] = json!(true);
    let level = json!({"name": "level", "type": "int", "from": "/level", "default": -1});
    let after = with(&[note, level]);
    world.apply(&world.pipeline_of(&after, &source.url())).await?;
    world.ready().await?;
    source.serve(&items(50..200));
    world.run("second").await?;
    world.drained(250).await?;

    // Then what was served since has them, and what was there before has null, or the default where a store knows of defaults
    let (db, id, fields) = (stores::postgres(&world.client).await?, world.id(), declared::fields(&after));
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
    let in_postgres = declared::postgres(&db, &names::postgres_table(&id), &fields).await?;
    assert_same("PostgreSQL's table", &in_postgres, &wanted(Some(-1)));
    let in_cassandra = declared::cassandra(&session, &names::keyspace(&id), &names::cassandra_table(&id), &fields).await?;
    assert_same("Cassandra's table", &in_cassandra, &wanted(None));

    // When they are taken back, then rows go on, and the columns stay
    world.apply(&world.pipeline_of(&before, &source.url())).await?;
    world.ready().await?;
    source.serve(&items(200..250));
    world.run("third").await?;
    world.drained(300).await?;
    let count: i64 = stores::number(
        &db,
        &format!("SELECT count(*) FROM \"{}\" WHERE level = -1", names::postgres_table(&id)),
    )
    .await?;
    assert_eq!(count, 100, "fifty from before, and fifty since");

    // When a field is added that every row must have, then it is refused by name, and rows go on
    let refused = with(&[field("must")]);
    world.apply(&world.pipeline_of(&refused, &source.url())).await?;
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
    world.drained(310).await?;
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
    let refused =
        |reason: &str, message: &str| reason == "SchemaIncompatible" && message.contains("field `name` is no longer in spec.record");
    world.condition_where("SchemaReady", "False", SOON, refused).await?;
    world.apply(&of(&[field("id"), field("name")])).await?;
    world.ready().await?;
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_may_be_as_large_as_the_topic_takes() -> Result<()> {
    // Given a topic of messages of up to 5,000,000 bytes
    let world = World::new("large").await?;
    let source = OwnSource::start(&world.client).await?;
    let field = |name: &str| json!({"name": name, "type": "string", "from": format!("/{name}")});
    let mut pipeline = world.pipeline_of(&json!({"key": ["id"], "fields": [field("id"), field("name")]}), &source.url());
    pipeline["spec"]["kafka"]["topic"]["config"] = json!({"max.message.bytes": "5000000"});
    pipeline["spec"]["source"]["maxRejectedRatio"] = json!(1);
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When a record of four mebibytes comes, and one that fills the message
    let item = |id: &str, bytes: usize| json!({"id": id, "name": "x".repeat(bytes)});
    source.serve(&[item("large", 4 << 20)]);
    source.serve(&[item("too large", 4_900_000)]);
    world.run("first").await?;

    // Then the one is in both stores, and the other is a reject that says why: nothing waits in the outbox
    world.drained(1).await?;
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let session = stores::cassandra(&world.client).await?;
    let length = format!("SELECT sum(length(name)) FROM \"{}\"", names::postgres_table(&id));
    assert_eq!(stores::number(&db, &length).await?, 4 << 20);
    let in_cassandra = format!("SELECT name FROM \"{}\".\"{}\"", names::keyspace(&id), names::cassandra_table(&id));
    let (found,) = session
        .query_unpaged(in_cassandra, ())
        .await?
        .into_rows_result()?
        .single_row::<(String,)>()?;
    assert_eq!(found.len(), 4 << 20);
    let rejects = db
        .query(
            "SELECT class, reason FROM userpipeline.rejects WHERE pipeline = $1",
            &[&id.to_string()],
        )
        .await?;
    let told: Vec<(String, String)> = rejects.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(
        matches!(&told[..], [(class, reason)] if class == "TooLarge" && reason.contains("max.message.bytes")),
        "{told:?}"
    );
    world.leave().await
}
