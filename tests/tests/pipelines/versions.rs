//! Records in several versions, and deleted: whatever the order of their delivery, the newest stays.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::ResourceExt;
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{
    World,
    declared::{Row, in_both_stores},
    dice::Dice,
    own_source::OwnSource,
    stores::{self, Outgoing},
};

/// A reading with a version of its own, which can be deleted.
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
async fn the_newest_version_stays_and_what_was_deleted_does_not_come_back() -> Result<()> {
    // Given three readings in both stores
    let world = World::new("versions").await?;
    let source = OwnSource::start(&world.client).await?;
    let record = versioned();
    let item = |device: &str, seq: i64, version: i64, name: &str| json!({"device": device, "seq": seq, "version": version, "name": name});
    source.serve(&[item("d1", 1, 10, "a"), item("d1", 2, 10, "b"), item("d2", 1, 10, "c")]);
    world.apply(&world.pipeline_of(&record, &source.url())).await?;
    world.ready().await?;
    world.run("first").await?;
    world.drained(3).await?;
    let first = [reading("d1", 1, 10, "a"), reading("d1", 2, 10, "b"), reading("d2", 1, 10, "c")];
    in_both_stores(&world, &record, &first).await?;

    // When one is updated, one deleted, one served in an older version, and one deleted that there never was
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
    in_both_stores(&world, &record, &second).await?;

    // And when what is on the topic is delivered once more, on other partitions and in the order of its age backwards
    let topic = names::topic(&world.id());
    let mut messages = stores::topic(&topic).await?;
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
    in_both_stores(&world, &record, &second).await?;

    // And when the deleted one is there again, newer than before, then it is stored; and one that is deleted in the very version
    // that is stored is gone
    source.serve(&[item("d1", 2, 30, "back"), gone("d2", 1, 10)]);
    world.run("third").await?;
    world.drained(14).await?;
    let third = [reading("d1", 1, 20, "a2"), reading("d1", 2, 30, "back")];
    in_both_stores(&world, &record, &third).await?;
    world.leave().await
}

/// The revisions of some keys in any order, some of them twice, each on any partition; what must come of them is added to `wanted`.
fn in_any_order(dice: &mut Dice, case: usize, partitions: usize, wanted: &mut BTreeMap<i64, Row>) -> Vec<Outgoing> {
    const KEYS: usize = 40;
    let mut items = Vec::new();
    for key in 0..KEYS {
        let seq = i64::try_from(case * KEYS + key).unwrap_or_default();
        let device = format!("d{}", key % 5);
        let mut newest: Option<(i64, Option<Row>)> = None;
        let mut version = 0;
        for _ in 0..=dice.index(8) {
            version += 1 + i64::try_from(dice.index(1000)).unwrap_or_default();
            let name = format!("{version} of {seq}");
            items.push(json!({"device": device, "seq": seq, "version": version, "name": name}));
            newest = Some((version, Some(reading(&device, seq, version, &name))));
            // A deletion of the version before it, of that very one, or of one that there never was.
            if dice.index(4) == 0 {
                let gone = (version - 1 + i64::try_from(dice.index(3)).unwrap_or_default()).max(1);
                items.push(json!({"device": device, "seq": seq, "version": gone, "gone": true}));
                if gone >= version {
                    (version, newest) = (gone, Some((gone, None)));
                }
            }
        }
        if let Some((_, Some(row))) = newest {
            wanted.insert(seq, row);
        }
    }
    for i in 0..items.len() {
        if dice.index(3) == 0 {
            items.push(items[i].clone());
        }
    }
    dice.shuffle(&mut items);
    let place = |item: Value, dice: &mut Dice| {
        let partition = i32::try_from(dice.index(partitions)).ok();
        (partition, "any key".to_owned(), Some(item.to_string().into_bytes()), None)
    };
    items.into_iter().map(|item| place(item, dice)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_any_order_on_any_partition_and_over_rebalances_the_newest_version_stays() -> Result<()> {
    const CASES: usize = 8;
    // Given workers with small batches, and a topic to which others write what they like where they like
    let world = World::new("orders").await?;
    let record = versioned();
    let mut pipeline = world.pipeline_of(&record, "");
    let spec = &mut pipeline["spec"];
    spec["source"] = json!({"topic": {"format": "JSON"}});
    spec["workers"] = json!({"replicas": 2, "batch": {"maxRecords": 7, "maxLatency": "50ms"}});
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("schedule");
        spec.remove("schemaRegistry");
    }
    world.apply(&pipeline).await?;
    world.ready().await?;
    let seed = u64::from_le_bytes(uuid::Uuid::new_v4().into_bytes()[..8].try_into()?);
    println!("seed {seed}");
    let (mut dice, topic, mut sent, mut partitions) = (Dice::new(seed), names::topic(&world.id()), 0, 3);
    let mut wanted = BTreeMap::new();

    for case in 0..CASES {
        // When records come in any order, and meanwhile a worker is killed, or there are others, or more partitions
        let messages = in_any_order(&mut dice, case, partitions, &mut wanted);
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
                pipeline["spec"]["workers"]["replicas"] = json!(1 + dice.index(3));
                world.apply(&pipeline).await?;
            }
            3 => {
                partitions += 2;
                pipeline["spec"]["kafka"]["topic"]["partitions"] = json!(partitions);
                world.apply(&pipeline).await?;
                // Whoever writes knows of them once they are there.
                world.ready().await?;
            }
            _ => {}
        }
        stores::produce_to(&topic, messages[middle..].to_vec()).await?;
        world.drained(i64::try_from(sent)?).await?;

        // Then each is in both stores in its newest version, and what was deleted last is not
        let mut rows: Vec<Row> = wanted.values().cloned().collect();
        rows.sort();
        in_both_stores(&world, &record, &rows).await?;
    }
    world.leave().await
}
