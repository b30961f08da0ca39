//! How large a record may be: as its topic says, whoever makes that.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use userpipeline_api::{MAX_MESSAGE_BYTES, names};
use userpipeline_stores::kafka::{self, admin::Admin};
use userpipeline_tests::{World, cluster::host, dice::Dice, own_source::OwnSource, stores, world::SOON};

/// Items of a pipeline of two fields, of which the second makes them large.
fn pipeline(world: &World, source: &OwnSource) -> Value {
    let field = |name: &str| json!({"name": name, "type": "string", "from": format!("/{name}")});
    let mut pipeline = world.pipeline_of(&json!({"key": ["id"], "fields": [field("id"), field("name")]}), &source.url());
    pipeline["spec"]["source"]["maxRejectedRatio"] = json!(1);
    pipeline
}

/// Class and reason of each item that was no record.
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

/// The bound of the topic's messages that is in force.
async fn bound(admin: &Admin, topic: &str) -> Result<String> {
    admin.config(topic).await?.remove(MAX_MESSAGE_BYTES).context(MAX_MESSAGE_BYTES)
}

fn bounded_by(bytes: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(MAX_MESSAGE_BYTES.to_owned(), bytes.to_owned())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_may_be_as_large_as_the_topic_takes() -> Result<()> {
    // Given a topic of messages of up to 5,000,000 bytes
    let world = World::new("large").await?;
    let source = OwnSource::start(&world.client).await?;
    let mut pipeline = pipeline(&world, &source);
    pipeline["spec"]["kafka"]["topic"]["config"] = json!({MAX_MESSAGE_BYTES: "5000000"});
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When a record of four mebibytes comes, and one that fills the message
    let mut dice = Dice::new(3);
    let text = dice.text(4 << 20);
    source.serve(&[json!({"id": "large", "name": text})]);
    source.serve(&[json!({"id": "too large", "name": dice.text(4_900_000)})]);
    world.run("first").await?;

    // Then the one is in both stores, and the other is a reject that says why: nothing waits in the outbox
    world.drained(1).await?;
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let session = stores::cassandra(&world.client).await?;
    let in_postgres = format!("SELECT name FROM \"{}\"", names::postgres_table(&id));
    assert!(db.query_one(&in_postgres, &[]).await?.get::<_, String>(0) == text);
    let in_cassandra = format!("SELECT name FROM \"{}\".\"{}\"", names::keyspace(&id), names::cassandra_table(&id));
    let found = session.query_unpaged(in_cassandra, ()).await?.into_rows_result()?;
    assert!(found.single_row::<(String,)>()?.0 == text);
    let told = rejects(&world).await?;
    assert!(
        matches!(&told[..], [(class, reason)] if class == "TooLarge" && reason.contains(MAX_MESSAGE_BYTES)),
        "{told:?}"
    );
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_somebody_elses_says_how_large_records_may_be_and_one_of_ours_is_given_room() -> Result<()> {
    // Given topics that somebody else has made, for small messages only
    let world = World::new("small").await?;
    let source = OwnSource::start(&world.client).await?;
    let topic = names::topic(&world.id());
    let admin = Admin::connect(&kafka::Connection::new(host::KAFKA), "tests")?;
    admin.create(&topic, 3, 1, &bounded_by("200000")).await?;
    admin.create(&names::dead_letter_topic(&topic), 1, 1, &bounded_by("300000")).await?;

    // When a pipeline is to use them, then it says that its records may be larger
    let mut pipeline = pipeline(&world, &source);
    pipeline["spec"]["kafka"]["topic"]["management"] = json!("None");
    world.apply(&pipeline).await?;
    let says = |reason: &str, message: &str| reason == "TopicMismatch" && message.contains("up to 200000 bytes");
    world.condition_where("SchemaReady", "False", SOON, says).await?;

    // When it is told so, then what fits is published, however much there is of it, and what does not is rejected
    pipeline["spec"]["kafka"]["topic"]["config"] = json!({MAX_MESSAGE_BYTES: "200000"});
    world.apply(&pipeline).await?;
    world.ready().await?;
    let mut dice = Dice::new(5);
    let item = |dice: &mut Dice, n: usize, bytes: usize| json!({"id": n.to_string(), "name": dice.text(bytes)});
    let mut items: Vec<Value> = (0..1000).map(|n| item(&mut dice, n, 2_000)).collect();
    items.push(item(&mut dice, 1000, 180_000));
    items.push(item(&mut dice, 1001, 200_000));
    source.serve(&items);
    world.run("first").await?;
    world.drained(1001).await?;
    let told = rejects(&world).await?;
    assert!(matches!(&told[..], [(class, _)] if class == "TooLarge"), "{told:?}");

    // When the pipeline takes the topics over, then they are given room, and what is more than that stays
    pipeline["spec"]["kafka"]["topic"] = json!({"partitions": 3});
    world.apply(&pipeline).await?;
    world.ready().await?;
    assert_eq!(bound(&admin, &topic).await?, "1179648");
    admin.alter(&topic, &bounded_by("9000000")).await?;
    pipeline["spec"]["kafka"]["topic"] = json!({"partitions": 4});
    world.apply(&pipeline).await?;
    world.ready().await?;
    assert_eq!(bound(&admin, &topic).await?, "9000000");
    assert_eq!(
        bound(&admin, &names::dead_letter_topic(&topic)).await?,
        (9_000_000 + (64 << 10)).to_string()
    );
    world.leave().await
}
