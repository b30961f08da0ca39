//! Records arrive in every store.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use userpipeline_api::{
    RunOutcome,
    names::{self, PipelineId},
};
use userpipeline_record::RecordSchema;
use userpipeline_record::avro::Decoder;
use userpipeline_record::message;
use userpipeline_tests::World;
use userpipeline_tests::eventually;
use userpipeline_tests::expected;
use userpipeline_tests::expected::assert_same;
use userpipeline_tests::source;
use userpipeline_tests::stores;
use userpipeline_tests::world::SOON;

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_pipeline_moves_every_user_to_both_stores() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("moves").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;

    // When two runs have ended
    world.run("first").await?;
    world.run("second").await?;
    world.drained(200).await?;

    // Then landing table, PostgreSQL and Cassandra hold every user, each field as served
    let expected = expected::rows(&source::served_users(&world.seed).await?)?;
    assert!(expected.len() >= 200, "the source served {} users", expected.len());
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let session = stores::cassandra(&world.client).await?;
    assert_same(
        "the landing table",
        &stores::postgres_rows(&db, &names::landing_table(&id)).await?,
        &expected,
    );
    assert_same(
        "PostgreSQL's table",
        &stores::postgres_rows(&db, &names::postgres_table(&id)).await?,
        &expected,
    );
    assert_same(
        "Cassandra's table",
        &stores::cassandra_rows(&session, &names::keyspace(&id), &names::cassandra_table(&id)).await?,
        &expected,
    );

    // And every key is on the topic, and every message decodes with the registered schema
    assert_eq!(keys_on_the_topic(&id).await?, expected.keys().cloned().collect::<BTreeSet<_>>());

    // And the status shows the totals and the last run
    let fetched = i64::try_from(expected.len())?;
    eventually("the totals", SOON, async || {
        let totals = world
            .get()
            .await?
            .status
            .unwrap_or_default()
            .totals
            .map(|t| (t.fetched, t.dead_lettered));
        Ok(if totals == Some((fetched, 0)) {
            Ok(())
        } else {
            Err(format!("{totals:?}"))
        })
    })
    .await?;
    let status = world.get().await?.status.context("a status")?;
    assert_eq!(
        status.last_run.map(|run| (run.outcome, run.rejected)),
        Some((RunOutcome::Succeeded, 0))
    );
    world.clean_up().await
}

/// Decodes every message with the registered schema and returns the keys.
async fn keys_on_the_topic(id: &PipelineId) -> Result<BTreeSet<String>> {
    let schema = RecordSchema::user();
    let registry = stores::registry().await?;
    let registered = registry
        .id_of(&names::subject(&names::topic(id)), &schema.avro_schema())
        .await?
        .context("the schema is registered")?;
    let decoder = Decoder::new(
        schema.clone(),
        &registry.schema(registered).await?.context("the registry knows its id")?,
    )?;
    let messages = stores::messages(&names::topic(id)).await?;
    let mut keys = BTreeSet::new();
    for message in &messages {
        let (schema_id, datum) = message::split(&message.payload)?;
        assert_eq!(schema_id, registered);
        assert_eq!(Some(decoder.decode(datum)?.key(&schema)), message.key);
        assert!(message.headers["version"].parse::<i64>()? > 0);
        keys.insert(message.key.clone().context("a key")?);
    }
    println!(
        "{} messages for {} keys: {} repeats",
        messages.len(),
        keys.len(),
        messages.len() - keys.len()
    );
    Ok(keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_message_becomes_a_dead_letter_and_the_worker_continues() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("garbage").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    let topic = names::topic(&world.id());

    // When invalid messages are on the topic, then records
    stores::produce(
        &topic,
        vec![
            ("who".into(), b"{\"not\": \"avro\"}".to_vec(), Some(1)),
            ("what".into(), vec![0, 0xff, 0xff, 0xff, 0xff, 1], Some(1)),
        ],
    )
    .await?;
    world.run("after-garbage").await?;
    world.drained(200).await?;

    // Then the invalid messages are in the dead-letter topic, unchanged, with origin and error
    let letters = stores::messages(&names::dead_letter_topic(&topic)).await?;
    assert_eq!(letters.len(), 2, "{letters:?}");
    let letter = letters
        .iter()
        .find(|l| l.key.as_deref() == Some("who"))
        .context("the first message")?;
    assert_eq!(letter.payload, b"{\"not\": \"avro\"}");
    assert_eq!(letter.headers["dlq.origin.topic"], topic);
    assert!(letter.headers["dlq.origin.partition"].parse::<i32>().is_ok() && letter.headers["dlq.origin.offset"].parse::<i64>().is_ok());
    assert!(letter.headers["dlq.error.message"].contains("0x00"), "{:?}", letter.headers);
    assert_eq!(letter.headers["version"], "1");

    // And the records are stored, and the status counts both
    let db = stores::postgres(&world.client).await?;
    let expected = expected::rows(&source::served_users(&world.seed).await?)?;
    assert_same(
        "PostgreSQL's table",
        &stores::postgres_rows(&db, &names::postgres_table(&world.id())).await?,
        &expected,
    );
    assert_eq!(world.get().await?.status.and_then(|s| s.totals).map(|t| t.dead_lettered), Some(2));
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pipelines_of_the_same_name_in_different_namespaces_are_independent() -> Result<()> {
    // Given two ready pipelines of the same name
    let (one, two) = (World::new("two").await?, World::new("two").await?);
    for world in [&one, &two] {
        world.apply(&world.pipeline()).await?;
    }
    one.ready().await?;
    two.ready().await?;

    // When both have run
    tokio::try_join!(one.run("run"), two.run("run"))?;

    // Then each has its own users and no others
    let db = stores::postgres(&one.client).await?;
    let session = stores::cassandra(&one.client).await?;
    for world in [&one, &two] {
        world.drained(200).await?;
        let (id, expected) = (world.id(), expected::rows(&source::served_users(&world.seed).await?)?);
        assert_same(
            "PostgreSQL's table",
            &stores::postgres_rows(&db, &names::postgres_table(&id)).await?,
            &expected,
        );
        assert_same(
            "Cassandra's table",
            &stores::cassandra_rows(&session, &names::keyspace(&id), &names::cassandra_table(&id)).await?,
            &expected,
        );
    }
    one.clean_up().await?;
    two.clean_up().await
}
