//! Topics with external producers: devices that write JSON, applications that write Avro.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use apache_avro::{Schema, types::Value as Avro, writer::datum::GenericDatumWriter};
use k8s_openapi::api::batch::v1::CronJob;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, names};
use userpipeline_record::message;
use userpipeline_tests::{
    World,
    declared::{Row, assert_in_both_stores},
    eventually, stores,
    world::SOON,
};

fn readings() -> Value {
    json!({"key": ["device", "at"], "clusterBy": ["at"], "orderBy": "revision", "deleteWhen": "has(item.gone) && item.gone", "fields": [
        {"name": "device", "type": "string", "from": "/device/id"},
        {"name": "at", "type": "timestamp", "from": "/at", "epoch": "Milliseconds"},
        {"name": "revision", "type": "long", "from": "/revision"},
        {"name": "celsius", "type": "double", "from": "/celsius", "optional": true},
    ]})
}

/// A pipeline with a topic as its source.
fn pipeline(world: &World, format: &str) -> Value {
    let mut pipeline = world.pipeline();
    let spec = &mut pipeline["spec"];
    spec["source"] = json!({"topic": {"format": format}});
    spec["record"] = readings();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("schedule");
        if format == "JSON" {
            spec.remove("schemaRegistry");
        }
    }
    pipeline
}

fn row(device: &str, at: i64, revision: i64, celsius: Option<f64>) -> Row {
    Row::from([
        ("device".to_owned(), Some(device.to_owned())),
        ("at".to_owned(), Some(at.to_string())),
        ("revision".to_owned(), Some(revision.to_string())),
        ("celsius".to_owned(), celsius.map(|celsius| format!("{celsius:?}"))),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn json_messages_of_devices_are_stored_in_their_newest_version() -> Result<()> {
    // Given a pipeline without schedule and registry
    let world = World::new("telemetry").await?;
    let applied = pipeline(&world, "JSON");
    world.apply(&applied).await?;
    world.ready().await?;
    let runs = world.api::<CronJob>().list(&ListParams::default()).await?.items.len();
    assert_eq!(runs, 0, "there are no runs");

    // When devices write readings, corrections, a late older version on another partition, a deletion, and invalid messages
    let item = |device: &str, at: i64, revision: i64, celsius: Value| {
        json!({"device": {"id": device}, "at": at, "revision": revision, "celsius": celsius})
            .to_string()
            .into_bytes()
    };
    let gone = json!({"device": {"id": "d2"}, "at": 2000, "revision": 9, "gone": true})
        .to_string()
        .into_bytes();
    let topic = names::topic(&world.id());
    let write = async |messages: Vec<(i32, Vec<u8>)>| {
        let outgoing = messages
            .into_iter()
            .map(|(partition, value)| (Some(partition), "any key".to_owned(), Some(value), None));
        stores::produce_to(&topic, outgoing.collect()).await
    };
    write(vec![
        (0, item("d1", 1000, 1, json!(20.5))),
        (0, item("d1", 1000, 3, json!(21.5))),
        (0, item("d2", 2000, 1, json!(7))),
        (1, item("d3", 3000, 1, Value::Null)),
    ])
    .await?;
    world.drained(4).await?;
    write(vec![
        (1, item("d1", 1000, 2, json!(99.0))),
        (2, gone),
        (0, item("d4", 4000, 1, json!("warm"))),
        (1, b"{\"device\": ".to_vec()),
    ])
    .await?;
    world.drained(6).await?;
    write(vec![(0, item("d2", 2000, 8, json!(8)))]).await?;
    world.drained(7).await?;

    // Then each is stored in its newest version, the deleted one is gone, and the invalid messages are dead letters
    let expected = [row("d1", 1000, 3, Some(21.5)), row("d3", 3000, 1, None)];
    assert_in_both_stores(&world, &readings(), &expected).await?;
    let letters = stores::messages(&names::dead_letter_topic(&topic)).await?;
    let mut classes: Vec<&str> = letters.iter().map(|letter| letter.headers["dlq.error.class"].as_str()).collect();
    classes.sort_unstable();
    assert_eq!(classes, ["JsonInvalid", "RecordInvalid"]);

    // And the data is fresh, without any run
    world.condition("DataFresh", "True", SOON).await?;

    // When it is suspended while devices continue to write, Then it is suspended, and stores their messages when it resumes
    let suspend = |suspend: bool| Patch::Merge(json!({"spec": {"suspend": suspend}}));
    let pipelines = world.api::<UserPipeline>();
    pipelines.patch("users", &PatchParams::default(), &suspend(true)).await?;
    world.condition("Suspended", "True", SOON).await?;
    write(vec![(2, item("d5", 5000, 1, json!(1.5)))]).await?;
    pipelines.patch("users", &PatchParams::default(), &suspend(false)).await?;
    world.drained(8).await?;
    let expected = [
        row("d1", 1000, 3, Some(21.5)),
        row("d3", 3000, 1, None),
        row("d5", 5000, 1, Some(1.5)),
    ];
    assert_in_both_stores(&world, &readings(), &expected).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_value_deletes_in_every_encoding_of_the_key() -> Result<()> {
    // Given a pipeline with a topic as its source
    let world = World::new("tombstones").await?;
    let mut applied = pipeline(&world, "JSON");
    applied["spec"]["record"]["fields"][0]["type"] = json!("uuid");
    let record = applied["spec"]["record"].clone();
    world.apply(&applied).await?;
    world.ready().await?;
    let topic = names::topic(&world.id());
    let device = "2f1b7a52-6f0e-4c8f-9a51-0c8d1f6c8a11";
    let item = |at: i64, revision: i64| {
        let item = json!({"device": {"id": device}, "at": at, "revision": revision, "celsius": 1.5});
        (Some(0), String::new(), Some(item.to_string().into_bytes()), None)
    };
    let gone = |key: String, version: i64| (Some(0), key, None, Some(version));

    // When it receives readings, and deletes at once and later, with keys that have spaces, capitals, or a time as text
    let written = vec![
        item(1000, 1),
        gone(format!("[\"{}\", 1000]", device.to_uppercase()), 2),
        item(2000, 1),
        item(3000, 5),
    ];
    stores::produce_to(&topic, written).await?;
    world.drained(4).await?;
    let written = vec![
        gone(format!("[ \"{device}\", \"1970-01-01T00:00:02Z\" ]"), 2),
        gone(format!("[\"{device}\", 3000]"), 4),
    ];
    stores::produce_to(&topic, written).await?;
    world.drained(6).await?;
    // And the readings are delivered again
    stores::produce_to(&topic, vec![item(1000, 1), item(2000, 1)]).await?;
    world.drained(8).await?;

    // Then only the reading that is newer than its delete is left
    assert_in_both_stores(&world, &record, &[row(device, 3000, 5, Some(1.5))]).await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_messages_of_applications_are_decoded_with_their_registered_schemas() -> Result<()> {
    // Given a pipeline, and an application whose schema has more than the record, with other types
    let world = World::new("activity").await?;
    world.apply(&pipeline(&world, "Avro")).await?;
    world.ready().await?;
    let text = json!({"type": "record", "name": "Measured", "fields": [
        {"name": "device", "type": {"type": "record", "name": "Device", "fields": [{"name": "id", "type": "string"}, {"name": "room", "type": "int"}]}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "revision", "type": "int"},
        {"name": "celsius", "type": ["null", "float"]},
    ]});
    let topic = names::topic(&world.id());
    let registry = stores::registry().await?;
    let schema_id = registry.register(&names::subject(&topic), &text).await?;
    let schema = Schema::parse_str(&text.to_string())?;
    let message = |device: &str, micros: i64, revision: i32, celsius: Option<f32>| -> Result<Vec<u8>> {
        let mut payload = message::frame(schema_id).to_vec();
        let device = Avro::Record(vec![("id".into(), Avro::String(device.into())), ("room".into(), Avro::Int(7))]);
        let celsius = celsius.map_or(Avro::Union(0, Box::new(Avro::Null)), |c| Avro::Union(1, Box::new(Avro::Float(c))));
        let value = Avro::Record(vec![
            ("device".into(), device),
            ("at".into(), Avro::TimestampMicros(micros)),
            ("revision".into(), Avro::Int(revision)),
            ("celsius".into(), celsius),
        ]);
        GenericDatumWriter::builder(&schema).build()?.write_value(&mut payload, value)?;
        Ok(payload)
    };

    // When it writes
    let written = vec![
        (String::new(), message("d1", 1_000_999, 1, Some(20.1))?, None),
        (String::new(), message("d1", 1_000_999, 2, Some(0.1))?, None),
        (String::new(), message("d2", 2_000_000, 1, None)?, None),
    ];
    stores::produce(&topic, written).await?;
    world.drained(3).await?;

    // Then the records of the application are stored as the pipeline maps them
    assert_in_both_stores(&world, &readings(), &[row("d1", 1000, 2, Some(0.1)), row("d2", 2000, 1, None)]).await?;

    // And its subject is not changed
    let versions: Value = stores::registry_answer(&format!("/subjects/{}/versions", names::subject(&topic))).await?;
    assert_eq!(versions.as_array().context("versions")?.len(), 1, "{versions}");
    eventually("the status to show an external producer", SOON, async || {
        let (reason, message) = world.condition("ScheduleReady", "True", SOON).await?;
        Ok(if reason == "NoRuns" {
            Ok(())
        } else {
            Err(format!("{reason}: {message}"))
        })
    })
    .await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_topics_are_used_and_are_not_deleted() -> Result<()> {
    // Given a pipeline that does not create its topics, and no topics
    let world = World::new("own-topics").await?;
    let mut applied = pipeline(&world, "JSON");
    applied["spec"]["kafka"]["topic"] = json!({"management": "None"});
    applied["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&applied).await?;
    let mismatch_names = async |field: &'static str| {
        world
            .condition_where("SchemaReady", "False", SOON, |reason, message| {
                reason == "TopicMissing" && message.contains(field)
            })
            .await
    };
    mismatch_names("spec.kafka.topic.name").await?;

    // When they are created
    let topic = names::topic(&world.id());
    let letters = names::dead_letter_topic(&topic);
    let admin = stores::kafka_admin().await?;
    admin.create(&topic, 2, 1, &BTreeMap::new()).await?;
    mismatch_names("spec.deadLetter.topic").await?;
    admin.create(&letters, 1, 1, &BTreeMap::new()).await?;
    world
        .condition_where("SchemaReady", "False", SOON, |reason, message| {
            reason == "TopicMismatch" && message.contains(&format!("dead-letter topic `{letters}` takes"))
        })
        .await?;
    let room = BTreeMap::from([("max.message.bytes".to_owned(), "1200000".to_owned())]);
    admin.alter(&letters, &room).await?;

    // Then they are used
    world.ready().await?;
    let written = json!({"device": {"id": "d1"}, "at": 1000, "revision": 1, "celsius": 2})
        .to_string()
        .into_bytes();
    stores::produce(&topic, vec![(String::new(), written, None)]).await?;
    world.drained(1).await?;
    assert_in_both_stores(&world, &readings(), &[row("d1", 1000, 1, Some(2.0))]).await?;

    // And they stay when the pipeline is deleted with its data
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    eventually("the pipeline to be gone", SOON, async || {
        let left = world.api::<UserPipeline>().get_opt("users").await?;
        Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status.map(|status| status.deletion)))))
    })
    .await?;
    let left = stores::topics().await?;
    assert!(left.contains(&topic) && left.contains(&letters), "{left:?}");
    admin.delete_topic(&topic).await?;
    admin.delete_topic(&letters).await?;
    world.clean_up().await
}
