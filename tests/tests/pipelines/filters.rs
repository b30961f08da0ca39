//! Filters: a record that does not pass is not stored, one that no longer passes is deleted, and one that passes again returns.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{
    World,
    declared::{Row, assert_in_both_stores},
    eventually,
    stores::{self, TopicMessage},
    test_source::TestSource,
    world::SOON,
};

/// Adults in Switzerland with a code that is a number.
fn adults() -> Value {
    json!({"key": ["id"], "orderBy": "revision", "where": "country == 'CH' && age >= 18 && int(code) > 0", "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "revision", "type": "long", "from": "/revision"},
        {"name": "country", "type": "string", "from": "/country"},
        {"name": "age", "type": "long", "from": "/age", "optional": true},
        {"name": "code", "type": "string", "from": "/code", "default": "1"},
    ]})
}

fn item(id: &str, revision: i64, country: &str, age: impl Into<Value>) -> Value {
    json!({"id": id, "revision": revision, "country": country, "age": age.into()})
}

/// A stored record, which passes.
fn adult(id: &str, revision: i64, age: i64) -> Row {
    let fields = [
        ("id", id.to_owned()),
        ("revision", revision.to_string()),
        ("country", "CH".to_owned()),
        ("age", age.to_string()),
        ("code", "1".to_owned()),
    ];
    fields.map(|(name, text)| (name.to_owned(), Some(text))).into()
}

async fn assert_stored(world: &World, record: &Value, rows: &[Row]) -> Result<()> {
    let mut rows = rows.to_vec();
    rows.sort();
    assert_in_both_stores(world, record, &rows).await
}

/// The keys of the messages of a topic.
fn keys(messages: &[TopicMessage]) -> BTreeSet<&str> {
    messages.iter().filter_map(|message| message.key.as_deref()).collect()
}

/// Waits until the status has this total.
async fn filtered(world: &World, expected: i64) -> Result<()> {
    eventually("the total of filtered records", SOON, async || {
        let totals = world.get().await?.status.unwrap_or_default().totals.unwrap_or_default();
        Ok(if totals.filtered == expected {
            Ok(())
        } else {
            Err(format!("{totals:?}"))
        })
    })
    .await
}

/// Waits until the last run has these counts: landed, filtered, published and rejected.
async fn counted(world: &World, expected: (i64, i64, i64, i64)) -> Result<()> {
    eventually("the counts of the run", SOON, async || {
        let run = world.get().await?.status.unwrap_or_default().last_run.unwrap_or_default();
        let counts = (run.landed, run.filtered, run.published, run.rejected);
        Ok(if counts == expected { Ok(()) } else { Err(format!("{run:?}")) })
    })
    .await
}

/// Writes all messages again, the newest first, on other partitions.
async fn redeliver(topic: &str) -> Result<()> {
    let mut messages = stores::messages(topic).await?;
    messages.sort_by_key(|message| std::cmp::Reverse(message.headers["version"].parse::<i64>().unwrap_or(0)));
    let again = messages.iter().enumerate().map(|(i, message)| {
        let version = message.headers["version"].parse().ok();
        let payload = Some(message.payload.clone()).filter(|payload| !payload.is_empty());
        (i32::try_from(i % 3).ok(), message.key.clone().unwrap_or_default(), payload, version)
    });
    stores::produce_to(topic, again.collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetched_record_is_stored_while_it_passes_and_never_published_if_it_never_did() -> Result<()> {
    // Given a pipeline with a filter, and a source with records that pass, that do not, and one that cannot be judged
    let world = World::new("filters").await?;
    let source = TestSource::start(&world.client).await?;
    let record = adults();
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"]["maxRejectedRatio"] = json!(1);
    let mut invalid = item("e", 1, "CH", 40);
    invalid["code"] = json!("x");
    source.serve(&[
        item("a", 1, "CH", 20),
        item("b", 1, "CH", 17),
        item("c", 1, "AT", 30),
        item("d", 1, "CH", Value::Null),
        invalid,
    ]);
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When a run fetches them
    world.run("first").await?;
    world.drained(1).await?;

    // Then the one that passes is published and stored, the others are counted
    assert_stored(&world, &record, &[adult("a", 1, 20)]).await?;
    let topic = names::topic(&world.id());
    assert_eq!(keys(&stores::messages(&topic).await?), BTreeSet::from(["a"]));
    filtered(&world, 3).await?;
    counted(&world, (4, 3, 1, 1)).await?;
    let db = stores::postgres(&world.client).await?;
    let rejected = format!(
        "SELECT field || ' ' || class FROM userpipeline.rejects WHERE pipeline = '{}'",
        world.id()
    );
    assert_eq!(db.query_one(&rejected, &[]).await?.get::<_, &str>(0), "where FilterInvalid");

    // When newer versions are served: one no longer passes, one passes now, one still does not
    source.serve(&[item("a", 2, "CH", 17), item("c", 2, "CH", 30), item("b", 2, "CH", 16)]);
    world.run("second").await?;
    world.drained(3).await?;

    // Then the first is deleted, the second is stored, and of the third nothing is on the topic
    assert_stored(&world, &record, &[adult("c", 2, 30)]).await?;
    let messages = stores::messages(&topic).await?;
    assert_eq!(keys(&messages), BTreeSet::from(["a", "c"]));
    assert_eq!(
        messages.iter().filter(|message| message.payload.is_empty()).count(),
        1,
        "one deletion"
    );
    filtered(&world, 5).await?;

    // When it passes again, Then it returns; and when all messages are redelivered in another order, Then nothing changes
    source.serve(&[item("a", 3, "CH", 21)]);
    world.run("third").await?;
    world.drained(4).await?;
    assert_stored(&world, &record, &[adult("a", 3, 21), adult("c", 2, 30)]).await?;
    redeliver(&topic).await?;
    world.drained(8).await?;
    assert_stored(&world, &record, &[adult("a", 3, 21), adult("c", 2, 30)]).await?;

    // When the filter changes, Then it applies to what is fetched from then on, also where the source has not changed it
    pipeline["spec"]["record"]["where"] = json!("age >= 16");
    world.apply(&pipeline).await?;
    world.ready().await?;
    source.serve(&[item("b", 2, "CH", 16)]);
    world.run("fourth").await?;
    world.drained(9).await?;
    assert_stored(&world, &record, &[adult("a", 3, 21), adult("b", 2, 16), adult("c", 2, 30)]).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_an_external_producer_is_stored_while_its_record_passes() -> Result<()> {
    // Given a pipeline with a filter that reads a topic of others
    let world = World::new("filtered-topic").await?;
    let record = adults();
    let mut pipeline = world.pipeline_of(&record, "");
    let spec = pipeline["spec"].as_object_mut().context("a spec")?;
    spec.insert("source".to_owned(), json!({"topic": {"format": "JSON"}}));
    spec.remove("schedule");
    spec.remove("schemaRegistry");
    world.apply(&pipeline).await?;
    world.ready().await?;
    let topic = names::topic(&world.id());
    let write = async |messages: Vec<(i32, Value)>| {
        let outgoing = messages
            .into_iter()
            .map(|(partition, item)| (Some(partition), "any key".to_owned(), Some(item.to_string().into_bytes()), None));
        stores::produce_to(&topic, outgoing.collect()).await
    };

    // When records arrive that pass, and one that does not, Then the former are stored
    write(vec![
        (0, item("x", 1, "CH", 20)),
        (0, item("y", 1, "AT", 20)),
        (0, item("z", 1, "CH", 20)),
    ])
    .await?;
    world.drained(3).await?;
    assert_stored(&world, &record, &[adult("x", 1, 20), adult("z", 1, 20)]).await?;

    // When two no longer pass, one of them with an equal value of orderBy, Then both are gone
    write(vec![(0, item("x", 2, "AT", 20)), (0, item("z", 1, "CH", Value::Null))]).await?;
    world.drained(5).await?;
    assert_stored(&world, &record, &[]).await?;

    // When an older version arrives late, one returns with an equal value, one passes now, and one cannot be judged
    let mut invalid = item("w", 1, "CH", 50);
    invalid["code"] = json!("x");
    write(vec![
        (1, item("x", 1, "CH", 20)),
        (0, item("z", 1, "CH", 30)),
        (0, item("y", 2, "CH", 18)),
        (0, invalid),
    ])
    .await?;
    world.drained(8).await?;

    // Then the late one changes nothing, the others are stored, and the last one is a dead letter
    assert_stored(&world, &record, &[adult("y", 2, 18), adult("z", 1, 30)]).await?;
    let letters = stores::messages(&names::dead_letter_topic(&topic)).await?;
    let classes: Vec<&str> = letters.iter().map(|letter| letter.headers["dlq.error.class"].as_str()).collect();
    assert_eq!(classes, ["FilterInvalid"]);
    filtered(&world, 3).await?;

    // When its records are declared as events, Then nothing is kept of one that does not pass
    let db = stores::postgres(&world.client).await?;
    let table = names::postgres_table(&world.id());
    let tombstones = format!("SELECT count(*) FROM userpipeline.tombstones WHERE table_name = '{table}'");
    let before = stores::number(&db, &tombstones).await?;
    pipeline["spec"]["record"]["changes"] = json!("Never");
    world.apply(&pipeline).await?;
    world.ready().await?;
    write(vec![(0, item("e", 1, "CH", 40)), (1, item("f", 1, "AT", 40))]).await?;
    world.drained(10).await?;
    assert_stored(&world, &record, &[adult("e", 1, 40), adult("y", 2, 18), adult("z", 1, 30)]).await?;
    filtered(&world, 4).await?;
    assert_eq!(stores::number(&db, &tombstones).await?, before);
    world.clean_up().await
}
