//! Keys of every type.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use userpipeline_tests::{
    World,
    declared::{self, Row, assert_in_both_stores},
    test_source::TestSource,
};

use crate::every_type::hexadecimal;

/// Two values of each type of key, some of them extremes.
const PARTS: [(&str, &str, [&str; 2]); 7] = [
    ("word", "string", ["\"日本, \\\"語\\\"\"", "\" \""]),
    ("flag", "boolean", ["false", "true"]),
    ("n", "int", ["-9223372036854775808", "9223372036854775807"]),
    ("day", "date", ["\"0001-01-01\"", "\"9999-12-31\""]),
    ("at", "timestamp", ["\"0001-01-01T00:00:00Z\"", "\"9999-12-31T23:59:59.999Z\""]),
    (
        "who",
        "uuid",
        [
            "\"00000000-0000-0000-0000-000000000000\"",
            "\"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\"",
        ],
    ),
    ("raw", "bytes", ["\"AP+A\"", "\"XHgwMA==\""]),
];

/// The record whose key has one of two values in each part, selected by the bits of `n`.
fn item(n: usize) -> Result<Value> {
    let mut item = json!({"version": 1});
    for (i, (name, _, values)) in PARTS.iter().enumerate() {
        item[*name] = serde_json::from_str(values[n >> i & 1])?;
    }
    Ok(item)
}

/// The expected row of an item.
fn row(item: &Value, record: &Value) -> Result<Row> {
    let cell = |(name, field_type): (String, String)| {
        let value = &item[&name];
        let text = match &*field_type {
            "bytes" => Some(hexadecimal(value.as_str().context("text")?)?),
            _ => declared::text(&field_type, value)?,
        };
        Ok((name, text))
    };
    declared::fields(record).into_iter().map(cell).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_distinguished_and_deleted_by_keys_of_every_type() -> Result<()> {
    // Given a record whose key has a part of every type, and records that differ in any part
    let world = World::new("keys").await?;
    let source = TestSource::start(&world.client).await?;
    let mut fields: Vec<Value> = PARTS
        .iter()
        .map(|(name, field_type, _)| json!({"name": name, "type": field_type, "from": format!("/{name}")}))
        .collect();
    fields.push(json!({"name": "version", "type": "long", "from": "/version"}));
    let record = json!({
        "key": PARTS.map(|(name, ..)| name), "clusterBy": ["flag", "day", "raw"], "orderBy": "version",
        "deleteWhen": "has(item.gone)", "fields": fields,
    });
    let all = (0..1 << PARTS.len()).map(item).collect::<Result<Vec<_>>>()?;
    world.apply(&world.pipeline_of(&record, &source.url())).await?;
    world.ready().await?;

    // When they are served, every third is deleted, and some of the deleted ones are served again unchanged
    source.serve(&all);
    world.run("first").await?;
    let mut served = all.len();
    world.drained(i64::try_from(served)?).await?;
    let deleted: Vec<Value> = all.iter().step_by(3).cloned().collect();
    let gone: Vec<Value> = deleted
        .iter()
        .map(|item| {
            let mut item = item.clone();
            item["version"] = json!(2);
            item["gone"] = json!(true);
            item
        })
        .collect();
    source.serve(&gone);
    source.serve(&deleted[..5]);
    world.run("second").await?;
    served += gone.len();
    world.drained(i64::try_from(served)?).await?;

    // Then both stores hold the others, and nothing else
    let remaining = all.iter().filter(|item| !deleted.contains(item));
    let mut expected = remaining.map(|item| row(item, &record)).collect::<Result<Vec<_>>>()?;
    expected.sort();
    assert_in_both_stores(&world, &record, &expected).await?;
    world.clean_up().await
}
