//! Masks: nothing that the pipeline writes has the values of the source.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, declared, eventually, stores, test_source::TestSource, world::SOON};

/// Values that must not be stored.
const SECRETS: [&str; 6] = [
    "ann-7f3a",
    "ann@example.com",
    "+41791234567",
    "SW1A 2AA",
    "1990-05-17",
    "minor-81c2",
];
/// HMAC of the e-mail address with the key of the test, by openssl.
const EMAIL: &str = "20e2f9adc2926c2390ebdaee1a8d4d4e4b076c9f4727898a662441bf2fd32700";

fn record() -> Value {
    let key = |key: &str| json!({"with": "HMAC", "keySecretRef": {"name": "masks", "key": key}});
    json!({"key": ["id"], "where": "born < timestamp('2006-01-01T00:00:00Z')", "fields": [
        {"name": "id", "type": "string", "from": "/id", "mask": key("id")},
        {"name": "email", "type": "string", "from": "/contact/email", "mask": key("email")},
        {"name": "phone", "type": "string", "from": "/contact/phone", "mask": {"with": "Redact"}},
        {"name": "post_code", "type": "string", "from": "/post_code", "mask": {"with": "Truncate", "length": 2}},
        {"name": "born", "type": "date", "from": "/born", "mask": {"with": "Bucket", "period": "Year"}},
        {"name": "city", "type": "string", "from": "/city"},
    ]})
}

fn ann(city: &str) -> Value {
    json!({"id": SECRETS[0], "contact": {"email": SECRETS[1], "phone": SECRETS[2]}, "post_code": SECRETS[3], "born": SECRETS[4], "city": city})
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_written_has_a_masked_value() -> Result<()> {
    // Given a record with masks, and a source with a person, a minor, and an item that is no record
    let world = World::new("masks").await?;
    let source = TestSource::start(&world.client).await?;
    let record = record();
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"]["maxRejectedRatio"] = json!(1);
    let mut minor = ann("Bern");
    (minor["id"], minor["born"]) = (json!(SECRETS[5]), json!("2015-01-01"));
    let mut invalid = ann("Bern");
    invalid["city"] = json!(["no city"]);
    source.serve(&[ann("Bern"), minor, invalid]);
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When a run has no key, Then it fails, and says which one is missing
    world.start_run("early").await?;
    world.finished("early", "Failed").await?;
    eventually("the failed run in the status", SOON, async || {
        let run = world.get().await?.status.unwrap_or_default().last_run.unwrap_or_default();
        let names_field = run.message.contains("spec.record.fields[0].mask.keySecretRef");
        Ok(if run.reason == "CredentialsMissing" && names_field {
            Ok(())
        } else {
            Err(format!("{run:?}"))
        })
    })
    .await?;

    // When it has the keys, and the person changes
    let keys = [("id", "i".repeat(32)), ("email", "e".repeat(32))];
    let keys: Vec<(&str, &str)> = keys.iter().map(|(name, key)| (*name, key.as_str())).collect();
    world.set_secret_of_type("masks", "Opaque", &keys).await?;
    world.run("first").await?;
    source.serve(&[ann("Basel")]);
    world.run("second").await?;
    world.drained(2).await?;

    // Then both stores have one row, with masked values, in its newest version
    let (db, id, fields) = (stores::postgres(&world.client).await?, world.id(), declared::fields(&record));
    let rows = declared::postgres(&db, &names::postgres_table(&id), &fields).await?;
    let [row] = rows.as_slice() else { anyhow::bail!("{rows:?}") };
    let text = |name: &str| row[name].clone().unwrap_or_default();
    assert_eq!(
        ["email", "phone", "post_code", "born", "city"].map(text),
        [EMAIL, "***", "SW", "1990-01-01", "Basel"].map(str::to_owned)
    );
    ensure!(text("id").len() == 64, "{row:?}");
    declared::assert_in_both_stores(&world, &record, &rows).await?;

    // And neither landing table, rejects, topic nor status has a value of the source
    let landing = names::landing_table(&id);
    let written = format!(
        "SELECT t::text FROM \"{landing}\" AS t UNION ALL SELECT raw::text || reason FROM userpipeline.rejects WHERE pipeline = '{id}'"
    );
    let mut written: Vec<String> = db.query(&written, &[]).await?.iter().map(|row| row.get(0)).collect();
    assert_eq!(written.len(), 3, "the person, the minor and the reject: {written:?}");
    for message in stores::messages(&names::topic(&id)).await? {
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        written.push(format!("{} {payload}", message.key.unwrap_or_default()));
    }
    written.push(serde_json::to_string(&world.get().await?.status)?);
    for secret in SECRETS {
        let found: Vec<&String> = written.iter().filter(|text| text.contains(secret)).collect();
        ensure!(found.is_empty(), "{secret} is in {found:#?}");
    }
    world.clean_up().await
}
