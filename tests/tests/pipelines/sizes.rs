//! The size of records, which the topic limits.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use userpipeline_api::{MAX_MESSAGE_BYTES, names};
use userpipeline_stores::kafka::admin::Admin;
use userpipeline_tests::{World, random::SplitMix64, stores, test_source::TestSource, world::SOON};

/// Items with two fields; the second one makes them large.
fn pipeline(world: &World, source: &TestSource) -> Value {
    let field = |name: &str| json!({"name": name, "type": "string", "from": format!("/{name}")});
    let mut pipeline = world.pipeline_of(&json!({"key": ["id"], "fields": [field("id"), field("name")]}), &source.url());
    pipeline["spec"]["source"]["maxRejectedRatio"] = json!(1);
    pipeline
}

/// Class and reason of each reject.
async fn rejects(world: &World) -> Result<Vec<(String, String)>> {
    let db = stores::postgres(&world.client).await?;
    let rows = db
        .query(
            "SELECT class, reason FROM userpipeline.rejects WHERE pipeline = $1",
            &[&world.id().to_string()],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The effective limit of the messages of the topic.
async fn bound(admin: &Admin, topic: &str) -> Result<String> {
    admin.config(topic).await?.remove(MAX_MESSAGE_BYTES).context(MAX_MESSAGE_BYTES)
}

fn bounded_by(bytes: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(MAX_MESSAGE_BYTES.to_owned(), bytes.to_owned())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_may_be_as_large_as_the_topic_allows() -> Result<()> {
    // Given a topic of messages of up to 5,000,000 bytes
    let world = World::new("large").await?;
    let source = TestSource::start(&world.client).await?;
    let mut pipeline = pipeline(&world, &source);
    pipeline["spec"]["kafka"]["topic"]["config"] = json!({MAX_MESSAGE_BYTES: "5000000"});
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When a record of four mebibytes is served, and one that exceeds the limit
    let mut random = SplitMix64::new(3);
    let text = random.text(4 << 20);
    source.serve(&[json!({"id": "large", "name": text})]);
    source.serve(&[json!({"id": "too large", "name": random.text(4_900_000)})]);
    world.run("first").await?;

    // Then the first one is in both stores, the second one is a reject with a reason, and the outbox is empty
    world.drained(1).await?;
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let session = stores::cassandra(&world.client).await?;
    let in_postgres = format!("SELECT name FROM \"{}\"", names::postgres_table(&id));
    assert!(db.query_one(&in_postgres, &[]).await?.get::<_, String>(0) == text);
    let in_cassandra = format!("SELECT name FROM \"{}\".\"{}\"", names::keyspace(&id), names::cassandra_table(&id));
    let found = session.query_unpaged(in_cassandra, ()).await?.into_rows_result()?;
    assert!(found.single_row::<(String,)>()?.0 == text);
    let found = rejects(&world).await?;
    assert!(
        matches!(&found[..], [(class, reason)] if class == "TooLarge" && reason.contains(MAX_MESSAGE_BYTES)),
        "{found:?}"
    );
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_topic_limits_the_size_of_records_and_a_managed_one_is_configured_for_it() -> Result<()> {
    // Given existing topics for small messages
    let world = World::new("small").await?;
    let source = TestSource::start(&world.client).await?;
    let topic = names::topic(&world.id());
    let admin = stores::kafka_admin().await?;
    admin.create(&topic, 3, 1, &bounded_by("200000")).await?;
    admin.create(&names::dead_letter_topic(&topic), 1, 1, &bounded_by("300000")).await?;

    // When a pipeline uses them, Then it reports that its records may be larger
    let mut pipeline = pipeline(&world, &source);
    pipeline["spec"]["kafka"]["topic"]["management"] = json!("None");
    world.apply(&pipeline).await?;
    let mismatch = |reason: &str, message: &str| reason == "TopicMismatch" && message.contains("up to 200000 bytes");
    world.condition_where("SchemaReady", "False", SOON, mismatch).await?;

    // When it declares the limit, Then all records that fit are published, and the others are rejected
    pipeline["spec"]["kafka"]["topic"]["config"] = json!({MAX_MESSAGE_BYTES: "200000"});
    world.apply(&pipeline).await?;
    world.ready().await?;
    let mut random = SplitMix64::new(5);
    let item = |random: &mut SplitMix64, n: usize, bytes: usize| json!({"id": n.to_string(), "name": random.text(bytes)});
    let mut items: Vec<Value> = (0..1000).map(|n| item(&mut random, n, 2_000)).collect();
    items.push(item(&mut random, 1000, 180_000));
    items.push(item(&mut random, 1001, 200_000));
    source.serve(&items);
    world.run("first").await?;
    world.drained(1001).await?;
    let found = rejects(&world).await?;
    assert!(matches!(&found[..], [(class, _)] if class == "TooLarge"), "{found:?}");

    // When the pipeline takes the topics over, Then a limit that is too low is raised, and a higher one stays
    pipeline["spec"]["kafka"]["topic"] = json!({"partitions": 3, "adopt": true});
    world.apply(&pipeline).await?;
    world.ready().await?;
    assert_eq!(bound(&admin, &topic).await?, "1179648");
    admin.alter(&topic, &bounded_by("9000000")).await?;
    pipeline["spec"]["kafka"]["topic"] = json!({"partitions": 4, "adopt": true});
    world.apply(&pipeline).await?;
    world.ready().await?;
    assert_eq!(bound(&admin, &topic).await?, "9000000");
    assert_eq!(
        bound(&admin, &names::dead_letter_topic(&topic)).await?,
        (9_000_000 + (64 << 10)).to_string()
    );
    world.clean_up().await
}
