//! Versions: in any order of delivery, the newest version of a record wins.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::ResourceExt;
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{
    World,
    declared::{Row, assert_in_both_stores},
    random::SplitMix64,
    stores::{self, Outgoing},
    test_source::TestSource,
};

/// A reading with its own version, which can be deleted.
fn versioned() -> Value {
    json!({"key": ["device", "seq"], "clusterBy": ["seq"], "orderBy": "version", "deleteWhen": "has(item.gone)", "fields": [
        {"name": "device", "type": "string", "from": "/device"},
        {"name": "seq", "type": "int", "from": "/seq"},
        {"name": "version", "type": "long", "from": "/version"},
        {"name": "name", "type": "string", "from": "/name"},
    ]})
}

fn reading(device: &str, seq: i64, version: i64, name: &str) -> Row {
    let text = |text: &str| Some(text.to_owned());
    Row::from([
        ("device".to_owned(), text(device)),
        ("seq".to_owned(), text(&seq.to_string())),
        ("version".to_owned(), text(&version.to_string())),
        ("name".to_owned(), text(name)),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_version_wins_and_a_deleted_record_does_not_reappear() -> Result<()> {
    // Given three readings in both stores
    let world = World::new("versions").await?;
    let source = TestSource::start(&world.client).await?;
    let record = versioned();
    let item = |device: &str, seq: i64, version: i64, name: &str| json!({"device": device, "seq": seq, "version": version, "name": name});
    source.serve(&[item("d1", 1, 10, "a"), item("d1", 2, 10, "b"), item("d2", 1, 10, "c")]);
    world.apply(&world.pipeline_of(&record, &source.url())).await?;
    world.ready().await?;
    world.run("first").await?;
    world.drained(3).await?;
    let first = [reading("d1", 1, 10, "a"), reading("d1", 2, 10, "b"), reading("d2", 1, 10, "c")];
    assert_in_both_stores(&world, &record, &first).await?;

    // When one is updated, one deleted, one served in an older version, and an unknown one deleted
    let gone = |device: &str, seq: i64, version: i64| json!({"device": device, "seq": seq, "version": version, "gone": true});
    source.serve(&[
        item("d1", 1, 20, "a2"),
        gone("d1", 2, 20),
        item("d2", 1, 5, "older"),
        gone("d3", 1, 7),
    ]);
    world.run("second").await?;
    world.drained(6).await?;
    let second = [reading("d1", 1, 20, "a2"), reading("d2", 1, 10, "c")];
    assert_in_both_stores(&world, &record, &second).await?;

    // And when the messages are redelivered on other partitions, the newest first
    let topic = names::topic(&world.id());
    let mut messages = stores::messages(&topic).await?;
    messages.sort_by_key(|message| std::cmp::Reverse(message.headers["version"].parse::<i64>().unwrap_or(0)));
    let again = messages.iter().enumerate().map(|(i, message)| {
        let version = message.headers["version"].parse().ok();
        let payload = Some(message.payload.clone()).filter(|payload| !payload.is_empty());
        let partition = i32::try_from(i % 3).ok();
        (partition, message.key.clone().unwrap_or_default(), payload, version)
    });
    stores::produce_to(&topic, again.collect()).await?;

    // Then nothing has changed
    world.drained(12).await?;
    assert_in_both_stores(&world, &record, &second).await?;

    // And when a newer version of the deleted one is served, Then it is stored; and one that is deleted in its stored version is gone
    source.serve(&[item("d1", 2, 30, "back"), gone("d2", 1, 10)]);
    world.run("third").await?;
    world.drained(14).await?;
    let third = [reading("d1", 1, 20, "a2"), reading("d1", 2, 30, "back")];
    assert_in_both_stores(&world, &record, &third).await?;
    world.clean_up().await
}

/// Small batches, and a topic with an external producer.
fn read_topic(pipeline: &mut Value) {
    let spec = &mut pipeline["spec"];
    spec["source"] = json!({"topic": {"format": "JSON"}});
    spec["workers"] = json!({"replicas": 2, "batch": {"maxRecords": 7, "maxLatency": "50ms"}});
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("schedule");
        spec.remove("schemaRegistry");
    }
}

/// Revisions of some keys in random order on random partitions, some of them twice. Adds the resulting rows to `expected`.
fn in_any_order(random: &mut SplitMix64, case: usize, partitions: usize, expected: &mut BTreeMap<i64, Row>) -> Vec<Outgoing> {
    const KEYS: usize = 40;
    let mut items = Vec::new();
    for key in 0..KEYS {
        let seq = i64::try_from(case * KEYS + key).unwrap_or_default();
        let device = format!("d{}", key % 5);
        let mut newest: Option<(i64, Option<Row>)> = None;
        let mut version = 0;
        for _ in 0..=random.index(8) {
            version += 1 + i64::try_from(random.index(1000)).unwrap_or_default();
            let name = format!("{version} of {seq}");
            items.push(json!({"device": device, "seq": seq, "version": version, "name": name}));
            newest = Some((version, Some(reading(&device, seq, version, &name))));
            // A deletion in the previous version, in this version, or of an unknown key.
            if random.index(4) == 0 {
                let gone = (version - 1 + i64::try_from(random.index(3)).unwrap_or_default()).max(1);
                items.push(json!({"device": device, "seq": seq, "version": gone, "gone": true}));
                if gone >= version {
                    (version, newest) = (gone, Some((gone, None)));
                }
            }
        }
        if let Some((_, Some(row))) = newest {
            expected.insert(seq, row);
        }
    }
    for i in 0..items.len() {
        if random.index(3) == 0 {
            items.push(items[i].clone());
        }
    }
    random.shuffle(&mut items);
    let place = |item: Value, random: &mut SplitMix64| {
        let partition = i32::try_from(random.index(partitions)).ok();
        (partition, "any key".to_owned(), Some(item.to_string().into_bytes()), None)
    };
    items.into_iter().map(|item| place(item, random)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_version_wins_in_any_order_on_any_partition_and_across_rebalances() -> Result<()> {
    const CASES: usize = 8;
    // Given workers with small batches, and a topic with an external producer
    let world = World::new("orders").await?;
    let record = versioned();
    let mut pipeline = world.pipeline_of(&record, "");
    read_topic(&mut pipeline);
    world.apply(&pipeline).await?;
    world.ready().await?;
    let seed = u64::from_le_bytes(uuid::Uuid::new_v4().into_bytes()[..8].try_into()?);
    println!("seed {seed}");
    let (mut random, topic, mut sent, mut partitions) = (SplitMix64::new(seed), names::topic(&world.id()), 0, 3);
    let mut expected = BTreeMap::new();

    for case in 0..CASES {
        // When records arrive in random order, while a worker is killed, workers are scaled, or partitions are added
        let messages = in_any_order(&mut random, case, partitions, &mut expected);
        let middle = messages.len() / 2;
        sent += messages.len();
        stores::produce_to(&topic, messages[..middle].to_vec()).await?;
        match case % 4 {
            1 => {
                if let Some(pod) = world.pods("worker").await?.first() {
                    world.kill(&pod.name_any()).await?;
                }
            }
            2 => {
                pipeline["spec"]["workers"]["replicas"] = json!(1 + random.index(3));
                world.apply(&pipeline).await?;
            }
            3 => {
                partitions += 2;
                pipeline["spec"]["kafka"]["topic"]["partitions"] = json!(partitions);
                world.apply(&pipeline).await?;
                // The producer learns of new partitions when they exist.
                world.ready().await?;
            }
            _ => {}
        }
        stores::produce_to(&topic, messages[middle..].to_vec()).await?;
        world.drained(i64::try_from(sent)?).await?;

        // Then both stores hold the newest version of each, and none whose newest version is a deletion
        let mut rows: Vec<Row> = expected.values().cloned().collect();
        rows.sort();
        assert_in_both_stores(&world, &record, &rows).await?;
    }
    world.clean_up().await
}

/// Messages of some records with few versions, each record on one partition. Adds the rows that the rule names to `expected`: of the
/// greatest version a delete, otherwise the later message.
fn with_equal_versions(
    random: &mut SplitMix64,
    case: usize,
    partitions: usize,
    expected: &mut BTreeMap<i64, (i64, bool, Row)>,
) -> Vec<Outgoing> {
    const KEYS: usize = 12;
    let mut messages = Vec::new();
    for message in 0..120 {
        let key = random.index(KEYS);
        let (seq, device) = (i64::try_from(key).unwrap_or_default(), format!("d{}", key % 5));
        let version = i64::try_from(1 + case / 2 + random.index(2)).unwrap_or_default();
        // Columns that Cassandra would take from different messages.
        let name = format!("{}", (message * 7919 + case) % 1000);
        let deleted = random.index(12) == 0;
        let mut item = json!({"device": device, "seq": seq, "version": version, "name": name, "note": 1000 - message});
        if deleted {
            item["gone"] = json!(true);
        }
        let mut row = reading(&device, seq, version, &name);
        row.insert("note".to_owned(), Some((1000 - message).to_string()));
        let entry = expected.entry(seq).or_insert_with(|| (version, deleted, row.clone()));
        if (version, deleted) >= (entry.0, entry.1) {
            *entry = (version, deleted, row);
        }
        let partition = i32::try_from(key % partitions).ok();
        messages.push((partition, "any key".to_owned(), Some(item.to_string().into_bytes()), None));
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn of_equal_versions_the_later_message_of_a_partition_wins_in_both_stores() -> Result<()> {
    const CASES: usize = 6;
    // Given workers with small batches, and a topic whose producer often repeats a version
    let world = World::new("equals").await?;
    let mut record = versioned();
    if let Some(fields) = record["fields"].as_array_mut() {
        fields.push(json!({"name": "note", "type": "long", "from": "/note"}));
    }
    let mut pipeline = world.pipeline_of(&record, "");
    read_topic(&mut pipeline);
    pipeline["spec"]["kafka"]["topic"]["partitions"] = json!(3);
    world.apply(&pipeline).await?;
    world.ready().await?;
    let seed = u64::from_le_bytes(uuid::Uuid::new_v4().into_bytes()[..8].try_into()?);
    println!("seed {seed}");
    let (mut random, topic, mut sent) = (SplitMix64::new(seed), names::topic(&world.id()), 0);
    let mut expected = BTreeMap::new();

    for case in 0..CASES {
        // When messages arrive, while a worker is killed
        let messages = with_equal_versions(&mut random, case, 3, &mut expected);
        let middle = messages.len() / 2;
        sent += messages.len();
        stores::produce_to(&topic, messages[..middle].to_vec()).await?;
        if case % 2 == 1
            && let Some(pod) = world.pods("worker").await?.first()
        {
            world.kill(&pod.name_any()).await?;
        }
        stores::produce_to(&topic, messages[middle..].to_vec()).await?;
        world.drained(i64::try_from(sent)?).await?;

        // Then both stores have the same rows, and those that the rule names
        let rows = expected.values().filter(|(_, deleted, _)| !deleted);
        let mut rows: Vec<Row> = rows.map(|(_, _, row)| row.clone()).collect();
        rows.sort();
        assert_in_both_stores(&world, &record, &rows).await?;
    }
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_equal_versions_the_response_that_was_requested_later_wins_in_both_stores() -> Result<()> {
    // Given a source whose versions are coarse
    let world = World::new("coarse").await?;
    let source = TestSource::start(&world.client).await?;
    let record = versioned();
    world.apply(&world.pipeline_of(&record, &source.url())).await?;
    world.ready().await?;
    let seed = u64::from_le_bytes(uuid::Uuid::new_v4().into_bytes()[..8].try_into()?);
    println!("seed {seed}");
    let mut random = SplitMix64::new(seed);
    let mut expected: BTreeMap<i64, (i64, bool, Row)> = BTreeMap::new();
    for run in 0..8 {
        // When runs serve older, equal and newer versions with other contents
        let mut items = Vec::new();
        for seq in 0..20_i64 {
            let version = i64::try_from(10 + run / 2 + random.index(3)).unwrap_or_default();
            let (name, deleted) = (format!("run {run}"), random.index(8) == 0);
            let mut item = json!({"device": "d", "seq": seq, "version": version, "name": name});
            if deleted {
                item["gone"] = json!(true);
            }
            items.push(item);
            let row = reading("d", seq, version, &name);
            let entry = expected.entry(seq).or_insert_with(|| (version, deleted, row.clone()));
            if (version, deleted) >= (entry.0, entry.1) {
                *entry = (version, deleted, row);
            }
        }
        source.serve(&items);
        world.run(&format!("run-{run}")).await?;
    }
    // Then both stores have the rows that the rule names
    let rows = expected.values().filter(|(_, deleted, _)| !deleted);
    let mut rows: Vec<Row> = rows.map(|(_, _, row)| row.clone()).collect();
    rows.sort();
    let db = stores::postgres(&world.client).await?;
    let landed = format!(
        "SELECT sum(landed)::bigint FROM userpipeline.runs WHERE pipeline = '{}'",
        world.id()
    );
    world.drained(stores::number(&db, &landed).await?).await?;
    assert_in_both_stores(&world, &record, &rows).await?;
    world.clean_up().await
}
