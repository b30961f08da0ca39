//! Dead letters: listing, showing, redriving, and the limit of their share.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{
    World,
    declared::{self, Row},
    eventually, stores,
    test_source::TestSource,
    world::SOON,
};

/// A reading with its own version.
fn readings() -> Value {
    json!({"key": ["id"], "orderBy": "version", "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "version", "type": "long", "from": "/version"},
        {"name": "name", "type": "string", "from": "/name"},
    ]})
}

fn item(id: &str, version: i64, name: &str) -> Value {
    json!({"id": id, "version": version, "name": name})
}

async fn in_postgres(world: &World) -> Result<Vec<(String, i64)>> {
    let db = stores::postgres(&world.client).await?;
    let rows = declared::postgres(&db, &names::postgres_table(&world.id()), &declared::fields(&readings())).await?;
    let pair = |row: &Row| Some((row["name"].clone()?, row["version"].as_ref()?.parse().ok()?));
    rows.iter().map(|row| pair(row).context("a row without nulls")).collect()
}

/// Runs `stream-worker dead-letters` in the pod of a worker.
async fn dead_letters(world: &World, arguments: &[&str]) -> Result<(bool, String)> {
    let pods = world.pods("worker").await?;
    let pod = pods.first().and_then(|pod| pod.metadata.name.clone()).context("a worker")?;
    let command: Vec<&str> = ["stream-worker", "dead-letters"].iter().chain(arguments).copied().collect();
    world.exec(&pod, &command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_redriven() -> Result<()> {
    // Given a table with a constraint on a name, and records that violate it
    let world = World::new("letters").await?;
    let source = TestSource::start(&world.client).await?;
    world.apply(&world.pipeline_of(&readings(), &source.url())).await?;
    world.ready().await?;
    let table = names::postgres_table(&world.id());
    let db = stores::postgres(&world.client).await?;
    db.batch_execute(&format!("ALTER TABLE \"{table}\" ADD CONSTRAINT polite CHECK (name <> 'rude')"))
        .await?;
    source.serve(&[item("a", 1, "rude"), item("b", 1, "rude"), item("c", 1, "kind")]);
    world.run("first").await?;
    // And invalid messages
    stores::produce(&names::topic(&world.id()), vec![("x".to_owned(), b"garbage".to_vec(), Some(1))]).await?;
    world.drained(1).await?;
    let counted = async || anyhow::Ok(world.get().await?.status.unwrap_or_default().totals.map_or(0, |t| t.dead_lettered));
    eventually("three dead letters", SOON, async || {
        let letters: i64 = counted().await?;
        Ok(if letters == 3 { Ok(()) } else { Err(letters.to_string()) })
    })
    .await?;

    // When they are listed by class and by key
    let (_, listed) = dead_letters(&world, &["list"]).await?;
    assert_eq!(listed.lines().count(), 4, "a title, and three: {listed}");
    let (_, listed) = dead_letters(&world, &["list", "--class", "PostgresRefused", "--key", "a", "--since", "1h"]).await?;
    let line = listed.lines().nth(1).with_context(|| listed.clone())?;
    assert!(line.contains("PostgresRefused") && line.contains("\ta\t"), "{line}");
    let letter = line.split('\t').nth(2).context("where it is")?.to_owned();

    // Then each can be shown, with its record as far as it can be decoded
    let (_, shown) = dead_letters(&world, &["show", &letter]).await?;
    let shown: Value = serde_json::from_str(&shown)?;
    assert_eq!(
        (&shown["class"], &shown["key"]),
        (&json!("PostgresRefused"), &json!("a")),
        "{shown}"
    );
    assert!(shown["error"].as_str().unwrap_or_default().contains("polite"), "{shown}");
    assert_eq!(shown["record"], json!({"id": "a", "version": 1, "name": "rude"}));
    assert_eq!(shown["origin"]["topic"], json!(names::topic(&world.id())));
    let (done, _) = dead_letters(&world, &["show", "0:999"]).await?;
    assert!(!done, "there is no such letter");

    // When the constraint is dropped, one of them has a newer version, and they are redriven
    db.batch_execute(&format!("ALTER TABLE \"{table}\" DROP CONSTRAINT polite")).await?;
    source.serve(&[item("b", 2, "newer")]);
    world.run("second").await?;
    world.drained(2).await?;
    let (_, dry) = dead_letters(&world, &["redrive", "--class", "PostgresRefused", "--dry-run"]).await?;
    assert!(dry.contains("2 dead letters would go"), "{dry}");
    assert_eq!(in_postgres(&world).await?.len(), 2, "a dry run sends nothing");
    let (done, went) = dead_letters(&world, &["redrive", "--class", "PostgresRefused"]).await?;
    assert!(done && went.contains("2 dead letters went"), "{went}");
    world.drained(4).await?;

    // Then they are stored, except for the one with a newer version
    let expected = [("rude", 1), ("newer", 2), ("kind", 1)].map(|(name, version)| (name.to_owned(), version));
    assert_eq!(in_postgres(&world).await?, expected);
    assert_eq!(counted().await?, 3, "none of them died again");
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_pauses_when_most_messages_of_a_topic_would_become_dead_letters() -> Result<()> {
    // Given a pipeline, and invalid messages on its topic
    let world = World::new("breaker").await?;
    let source = TestSource::start(&world.client).await?;
    let mut pipeline = world.pipeline_of(&readings(), &source.url());
    pipeline["spec"]["kafka"]["topic"]["partitions"] = json!(1);
    world.apply(&pipeline).await?;
    world.ready().await?;
    let garbage = (0..150).map(|n| (n.to_string(), format!("garbage {n}").into_bytes(), Some(1)));
    stores::produce(&names::topic(&world.id()), garbage.collect()).await?;

    // Then the worker reports it and pauses
    let (_, message) = world
        .condition_where("WorkersReady", "False", SOON, |reason, _| reason == "TooManyDeadLetters")
        .await?;
    assert!(
        message.contains("spec.deadLetter.maxRatio") && message.contains("FrameInvalid"),
        "{message}"
    );
    let letters = stores::messages(&names::dead_letter_topic(&names::topic(&world.id()))).await?.len();
    assert!(letters < 100, "{letters} dead letters");

    // And when the limit is raised, Then it resumes
    pipeline["spec"]["deadLetter"] = json!({"maxRatio": 1});
    world.apply(&pipeline).await?;
    source.serve(&[item("a", 1, "good")]);
    world.run("first").await?;
    world.drained(1).await?;
    world.ready().await?;
    let letters = stores::messages(&names::dead_letter_topic(&names::topic(&world.id()))).await?.len();
    assert_eq!(letters, 150);
    world.clean_up().await
}
