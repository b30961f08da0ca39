//! Declared records: fields of every type, and the evolution of a schema.

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
    declared::{self, Row, assert_in_both_stores, assert_same},
    stores,
    test_source::TestSource,
    world::SOON,
};

use crate::{
    every_type::{TYPES, any_of, every_type, row_of},
    plans::plan,
};

#[tokio::test(flavor = "multi_thread")]
async fn records_of_every_type_arrive_in_both_stores_as_they_were_served() -> Result<()> {
    // Given a pipeline whose record has every type, and items with extremes, scripts, nulls and random values
    let world = World::new("types").await?;
    let source = TestSource::start(&world.client).await?;
    let record = every_type();
    let mut items = random_items(&world);
    // And some that no store can hold
    let reasons = append_invalid_items(&mut items)?;
    world.apply(&world.pipeline_of(&record, &source.url())).await?;
    world.ready().await?;

    // When they are served in three pages
    for page in items.chunks(150) {
        source.serve(page);
    }
    world.run("first").await?;
    world.drained(400).await?;

    // Then both stores hold each field of each record as it was served
    let expected = items[..400].iter().map(row_of).collect::<Result<Vec<_>>>()?;
    assert_in_both_stores(&world, &record, &expected).await?;

    // And the invalid items are rejects with a reason, as they were served
    let db = stores::postgres(&world.client).await?;
    let rejects = db
        .query(
            "SELECT reason, raw::text FROM userpipeline.rejects WHERE pipeline = $1 ORDER BY id",
            &[&world.id().to_string()],
        )
        .await?;
    assert_eq!(rejects.len(), reasons.len());
    for (reject, expected) in rejects.iter().zip(reasons) {
        let (reason, raw): (String, String) = (reject.get(0), reject.get(1));
        assert!(reason.contains(expected), "{reason}");
        let raw: Value = serde_json::from_str(&raw)?;
        assert!(items.contains(&raw), "{raw}");
    }
    world.clean_up().await
}

fn random_items(world: &World) -> Vec<Value> {
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
    items
}

/// Returns the expected reason of each.
fn append_invalid_items(items: &mut Vec<Value>) -> Result<Vec<&'static str>> {
    let mut reasons = Vec::new();
    for (pointer, invalid, reason) in [
        ("/a/string", json!("x\0y"), "NUL"),
        ("/a/json", json!({"x": ["\0"]}), "NUL"),
        ("/a/date", json!("-000001-12-31"), "0001 to 9999"),
        ("/a/long", json!(9.3e18), "whole number of 64 bits"),
        ("/a/bytes", json!("?"), "not base64"),
        ("/device", json!(""), "empty"),
    ] {
        let mut item = items[0].clone();
        item["seq"] = json!(100_000 + reasons.len());
        *item.pointer_mut(pointer).context("the pointer exists")? = invalid;
        reasons.push(reason);
        items.push(item);
    }
    Ok(reasons)
}

/// Serves page after page until `work` is done. Returns the number of items.
async fn serve_during(source: &TestSource, page: impl Fn(i64) -> Vec<Value>, work: impl Future<Output = Result<()>>) -> Result<i64> {
    let mut served = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(40));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done.map(|()| served),
            _ = tick.tick() => {
                let items = page(served);
                source.serve(&items);
                served += i64::try_from(items.len())?;
            }
        }
    }
}

/// A pipeline whose record has `id` and `name`, and then more fields.
struct Evolution {
    world: World,
    source: TestSource,
}

impl Evolution {
    fn pipeline(&self, record: &Value) -> Value {
        let mut pipeline = self.world.pipeline_of(record, &self.source.url());
        pipeline["spec"]["source"]["http"]["rateLimit"] = json!({"requests": 20});
        pipeline["spec"]["source"]["http"]["runDuration"] = json!("2m");
        pipeline
    }

    /// The plan lists each change.
    async fn assert_plan(&self, after: &Value) -> Result<()> {
        let (code, output, errors) = plan(&self.pipeline(after), &["--schema"]).await?;
        assert_eq!(code, 1, "{output}{errors}");
        let id = self.world.id();
        for line in [
            format!("! PostgreSQL: ALTER TABLE \"{}\" ADD COLUMN", names::postgres_table(&id)),
            format!("! Cassandra: ALTER TABLE \"{}\"", names::keyspace(&id)),
            format!(
                "! registry: subject {} gets another version, which adds `note`, adds `level`",
                names::subject(&names::topic(&id))
            ),
        ] {
            assert!(output.contains(&line), "{line} in {output}");
        }
        Ok(())
    }

    /// Applies `after` during a run whose source always has more items. Returns how many items were served meanwhile.
    async fn roll_out_during_a_run(&self, after: &Value) -> Result<i64> {
        let roll_out = async {
            self.world.start_run("during").await?;
            self.world.apply(&self.pipeline(after)).await?;
            self.world.ready().await
        };
        let served = serve_during(&self.source, |served| items(1000 + served..1010 + served), Box::pin(roll_out)).await?;
        self.world.finished("during", "Complete").await?;
        println!("{served} items while the fields were added");
        Ok(served)
    }

    /// Items from 50 on, which were served again, have the new fields. Earlier rows have null, or the default in PostgreSQL.
    async fn assert_added_fields(&self, after: &Value) -> Result<()> {
        let (id, fields) = (self.world.id(), declared::fields(after));
        let row = |n: i64, default: Option<i64>| {
            let is_known = n >= 50;
            let level = if is_known { Some(n) } else { default };
            Row::from([
                ("id".to_owned(), Some(n.to_string())),
                ("name".to_owned(), Some(format!("name {n}"))),
                ("note".to_owned(), is_known.then(|| format!("note {n}"))),
                ("level".to_owned(), level.map(|level| level.to_string())),
            ])
        };
        let expected = |default| (0..200).map(|n| row(n, default)).collect::<Vec<_>>();
        let without_items_of_the_run = |rows: Vec<Row>| {
            let is_early = |row: &Row| row["id"].as_ref().is_some_and(|id| id.len() < 4);
            rows.into_iter().filter(is_early).collect::<Vec<_>>()
        };
        let db = stores::postgres(&self.world.client).await?;
        let found = declared::postgres(&db, &names::postgres_table(&id), &fields).await?;
        assert_same("PostgreSQL's table", &without_items_of_the_run(found), &expected(Some(-1)));
        let session = stores::cassandra(&self.world.client).await?;
        let found = declared::cassandra(&session, &names::keyspace(&id), &names::cassandra_table(&id), &fields).await?;
        assert_same("Cassandra's table", &without_items_of_the_run(found), &expected(None));
        Ok(())
    }

    /// A new default is refused by name.
    async fn assert_default_is_immutable(&self, changed: &Value) -> Result<()> {
        self.world.apply(&self.pipeline(changed)).await?;
        let refused = |reason: &str, message: &str| {
            reason == "SchemaIncompatible" && message.contains("field `level`") && message.contains("its default becomes 5")
        };
        self.world.condition_where("SchemaReady", "False", SOON, refused).await.map(drop)
    }

    /// A new required field is refused by name.
    async fn assert_required_field_is_refused(&self, name: &str) -> Result<()> {
        self.world.apply(&self.pipeline(&record_with(&[field(name)]))).await?;
        let expected = format!("field `{name}` of spec.record is neither optional nor has a default");
        let refused = |reason: &str, message: &str| reason == "TableMismatch" && message.contains(&expected);
        self.world.condition_where("SchemaReady", "False", SOON, refused).await.map(drop)
    }

    async fn becomes_ready(&self, more: &[Value]) -> Result<()> {
        self.world.apply(&self.pipeline(&record_with(more))).await?;
        self.world.ready().await
    }
}

fn field(name: &str) -> Value {
    json!({"name": name, "type": "string", "from": format!("/{name}")})
}

fn level(default: i64) -> Value {
    json!({"name": "level", "type": "int", "from": "/level", "default": default})
}

fn record_with(more: &[Value]) -> Value {
    let mut fields = vec![field("id"), field("name")];
    fields.extend_from_slice(more);
    json!({"key": ["id"], "fields": fields})
}

fn items(range: std::ops::Range<i64>) -> Vec<Value> {
    range
        .map(|n| json!({"id": n.to_string(), "name": format!("name {n}"), "note": format!("note {n}"), "level": n}))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_added_and_removed_without_a_lost_row() -> Result<()> {
    // Given a pipeline of two fields with rows in both stores
    let world = World::new("evolution").await?;
    let source = TestSource::start(&world.client).await?;
    let evolution = Evolution { world, source };
    let (world, source) = (&evolution.world, &evolution.source);
    let before = record_with(&[]);
    source.serve(&items(0..100));
    world.apply(&evolution.pipeline(&before)).await?;
    world.ready().await?;
    world.run("first").await?;
    world.drained(100).await?;

    // When an optional field and one with a default are planned, Then the plan lists the changes
    let mut note = field("note");
    note["optional"] = json!(true);
    let after = record_with(&[note.clone(), level(-1)]);
    evolution.assert_plan(&after).await?;

    // When they are added during a run
    let served = evolution.roll_out_during_a_run(&after).await?;
    source.serve(&items(50..200));
    world.run("second").await?;

    // Then no row is lost and none is blocked, whichever schema its run knew
    world.drained(250 + served).await?;
    let named = |n: i64| {
        Row::from([
            ("id".to_owned(), Some(n.to_string())),
            ("name".to_owned(), Some(format!("name {n}"))),
        ])
    };
    let mut all: Vec<Row> = (0..200).chain(1000..1000 + served).map(named).collect();
    all.sort();
    assert_in_both_stores(world, &before, &all).await?;
    evolution.assert_added_fields(&after).await?;

    // And the default cannot be changed
    evolution.assert_default_is_immutable(&record_with(&[note, level(5)])).await?;

    // When the fields are removed, Then rows continue to arrive, and the columns stay
    world.apply(&evolution.pipeline(&before)).await?;
    world.ready().await?;
    source.serve(&items(200..250));
    world.run("third").await?;
    world.drained(300 + served).await?;
    let table = names::postgres_table(&world.id());
    let statement = format!("SELECT count(*) FROM \"{table}\" WHERE level = -1 AND id::int < 1000");
    let count = stores::number(&stores::postgres(&world.client).await?, &statement).await?;
    assert_eq!(count, 100, "fifty from before, and fifty since");

    // When a required field is added, Then it is refused by name, and rows continue to arrive
    evolution.assert_required_field_is_refused("must").await?;
    source.serve(&items(250..260));
    world.run("fourth").await?;
    world.drained(310 + served).await?;

    // When either advice of the refusal is followed, Then the pipeline is ready
    let mut must = field("must");
    must["default"] = json!("");
    evolution.becomes_ready(&[must]).await?;
    evolution.assert_required_field_is_refused("shall").await?;
    evolution.becomes_ready(&[]).await?;
    let mut shall = field("shall");
    shall["optional"] = json!(true);
    evolution.becomes_ready(&[shall]).await?;
    evolution.world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_field_cannot_be_removed_even_if_the_table_allows_it() -> Result<()> {
    // Given a pipeline with a required name, and Cassandra as its only sink, where any column may be null
    let world = World::new("required").await?;
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

    // When the name is removed, Then that is refused by name, and the pipeline is ready again when it is back
    world.apply(&of(&[field("id")])).await?;
    let refused = |reason: &str, message: &str| {
        reason == "SchemaIncompatible" && message.contains("field `name` of spec.record") && message.contains("it is gone")
    };
    world.condition_where("SchemaReady", "False", SOON, refused).await?;
    world.apply(&of(&[field("id"), field("name")])).await?;
    world.ready().await?;
    world.clean_up().await
}
