//! Compares what the source served with the landing table, the topic, PostgreSQL and Cassandra, field by field.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use userpipeline_api::{RecordSpec, names};
use userpipeline_record::{Record, RecordSchema, avro::Decoder, message, postgres::quote};

use super::{
    Trial,
    garbage::Garbage,
    rejected,
    source_model::{Revision, aggregates, record},
};
use crate::{
    declared::{self, Row},
    stores::{self, TopicMessage},
    totals::{Snapshot, await_mirror},
};

/// The number of compared records and messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    pub records: usize,
    pub deleted: usize,
    /// Whose last revision does not pass the filter.
    pub filtered: usize,
    pub messages: usize,
    pub dead_letters: usize,
    /// Distinct rejects.
    pub rejects: usize,
}

/// `last_invalid`: the invalid items that were served after the load.
pub async fn compare(trial: &Trial, last_invalid: &BTreeSet<String>) -> Result<Compared> {
    let last = trial.source_model.last();
    let rows: Vec<Row> = {
        let mut rows: Vec<Row> = last.iter().filter_map(|revision| revision.row.clone()).collect();
        rows.sort();
        rows
    };
    let (id, fields) = (trial.world.id(), declared::fields(&record()));
    let db = stores::postgres(&trial.world.client).await?;
    landing(trial, &db, &last).await.context("the landing table")?;
    let found = declared::postgres(&db, &names::postgres_table(&id), &fields).await?;
    same("PostgreSQL's table", &found, &rows)?;
    let session = stores::cassandra(&trial.world.client).await?;
    let found = declared::cassandra(&session, &names::keyspace(&id), &names::cassandra_table(&id), &fields).await?;
    same("Cassandra's table", &found, &rows)?;

    let messages = stores::messages(&trial.topic()).await?;
    let planted = trial.planted.lock().await.clone();
    let dead_letters = rejected::dead_letters(trial, &messages, &planted)
        .await
        .context("the dead letters")?;
    topic(trial, &messages, &planted, &last).await.context("the topic")?;
    totals(trial, &db, &messages, &planted).await?;
    check_aggregates(trial).await?;
    check_mirrors(trial).await?;
    let rejects = rejected::rejects(trial, &db, last_invalid).await.context("the rejects")?;
    Ok(Compared {
        records: rows.len(),
        deleted: last.iter().filter(|revision| revision.landed.is_none()).count(),
        filtered: last.iter().filter(|revision| revision.is_filtered()).count(),
        messages: messages.len(),
        dead_letters,
        rejects,
    })
}

fn same(what: &str, found: &[Row], expected: &[Row]) -> Result<()> {
    let (expected_rows, found_rows): (BTreeSet<&Row>, BTreeSet<&Row>) = (expected.iter().collect(), found.iter().collect());
    let missing: Vec<_> = expected_rows.difference(&found_rows).take(3).collect();
    let unexpected: Vec<_> = found_rows.difference(&expected_rows).take(3).collect();
    ensure!(
        found.len() == expected.len() && missing.is_empty() && unexpected.is_empty(),
        "{what}: {} rows of {}, missing {missing:#?}, unexpected {unexpected:#?}",
        found.len(),
        expected.len()
    );
    Ok(())
}

/// Every row has its last revision, and that is published.
async fn landing(trial: &Trial, db: &tokio_postgres::Client, last: &[Revision]) -> Result<()> {
    db.batch_execute("SET TimeZone = 'UTC'; SET extra_float_digits = 3").await?;
    let fields = declared::fields(&record());
    let table = &trial.tables()[0];
    let rows = db.query(&format!("SELECT to_jsonb(t)::text FROM \"{table}\" AS t"), &[]).await?;
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for row in &rows {
        let row: Value = serde_json::from_str(row.get(0))?;
        found.insert(serde_json::json!([row["device"], row["seq"]]).to_string(), row);
    }
    ensure!(
        found.len() == last.len() && rows.len() == last.len(),
        "{} rows of {}",
        rows.len(),
        last.len()
    );
    for revision in last {
        let row = found.get(&revision.key()).with_context(|| format!("{revision:?} is missing"))?;
        ensure!(
            row["_version"] == revision.revision && row["_published_version"] == revision.revision,
            "{row} is not {revision:?}"
        );
        ensure!(
            row["_deleted"] == revision.landed.is_none() && row["_filtered"] == revision.is_filtered(),
            "{row} is not {revision:?}"
        );
        for (name, field_type) in fields.iter().filter(|_| revision.landed.is_some()) {
            let (found, expected) = (
                declared::text(field_type, &row[name])?,
                &revision.landed.as_ref().context("a row")?[name],
            );
            ensure!(found == *expected, "{name} is {found:?} and must be {expected:?}: {row}");
        }
    }
    Ok(())
}

fn row_of(schema: &RecordSchema, record: &Record) -> Result<Row> {
    let fields = declared::fields(&super::source_model::record());
    ensure!(schema.fields.len() == fields.len(), "as many fields");
    let text = |value: &userpipeline_record::Value, field_type: &str| -> Result<Option<String>> {
        use userpipeline_record::Value as V;
        Ok(match value {
            V::Null => None,
            V::Json(text) => declared::text(field_type, &serde_json::from_str(text)?)?,
            V::String(text) => Some(text.clone()),
            V::Boolean(truth) => Some(truth.to_string()),
            V::Long(number) | V::Timestamp(number) => Some(number.to_string()),
            V::Double(number) => Some(format!("{:?}", number + 0.0)),
            V::Date(days) => Some(days.to_string()),
            V::Uuid(uuid) => Some(uuid.to_string()),
            V::Bytes(bytes) => Some(super::source_model::hexadecimal(bytes)),
        })
    };
    fields
        .iter()
        .zip(&record.0)
        .map(|((name, field_type), value)| Ok((name.clone(), text(value, field_type)?)))
        .collect()
}

/// Every message is a served revision, and the newest one of each record is its last revision, or has deleted it before revisions that
/// do not pass.
async fn topic(trial: &Trial, messages: &[TopicMessage], planted: &BTreeMap<Vec<u8>, Garbage>, last: &[Revision]) -> Result<()> {
    let spec: RecordSpec = serde_json::from_value(record())?;
    let schema = RecordSchema::read(Some(&spec)).map_err(anyhow::Error::msg)?;
    let subject = names::subject(&trial.topic());
    let text = stores::registry_answer(&format!("/subjects/{subject}/versions/latest")).await?;
    let decoder = Decoder::new(schema.clone(), text["schema"].as_str().context("a schema")?)?;
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    for message in messages.iter().filter(|message| !planted.contains_key(&message.payload)) {
        let key = message.key.clone().context("a key")?;
        let version: i64 = message.headers.get("version").context("a version")?.parse()?;
        let [device, seq]: [Value; 2] = serde_json::from_str(&key)?;
        let number = trial
            .source_model
            .key(device.as_str().unwrap_or_default(), seq.as_i64().unwrap_or(-1));
        let revision = trial
            .source_model
            .revision(number.with_context(|| format!("no record has the key {key}"))?, version);
        let row = if message.payload.is_empty() {
            None
        } else {
            let (_, datum) = message::split(&message.payload)?;
            Some(row_of(&schema, &decoder.decode(datum)?)?)
        };
        ensure!(
            row == revision.row,
            "{key} in version {version} is {row:?} and must be {revision:?}"
        );
        let newest = newest.entry(key).or_insert(version);
        *newest = (*newest).max(version);
    }
    for revision in last {
        let version = newest.get(&revision.key()).copied();
        let key = trial.source_model.key(&revision.device, revision.seq).context("a key")?;
        let is_last = version == Some(revision.revision);
        let is_gone = version.is_none_or(|version| trial.source_model.revision(key, version).row.is_none());
        ensure!(
            is_last || revision.row.is_none() && is_gone,
            "the newest is {version:?} of {revision:?}"
        );
    }
    Ok(())
}

/// The totals are those of the rows, at any moment.
pub async fn check_aggregates(trial: &Trial) -> Result<()> {
    let mut db = stores::postgres(&trial.world.client).await?;
    let table = names::postgres_table(&trial.world.id());
    let declared: Vec<Value> = serde_json::from_value(aggregates())?;
    let views: Vec<String> = declared
        .iter()
        .map(|aggregate| quote(&names::aggregate_view(&table, aggregate["name"].as_str().unwrap_or_default())))
        .collect();
    let snapshot = Snapshot::take(&mut db, &quote(&table), &views).await?;
    snapshot.check(&declared).context("the aggregates")
}

/// Once nothing changes, Cassandra has the same totals.
async fn check_mirrors(trial: &Trial) -> Result<()> {
    let declared: Vec<Value> = serde_json::from_value(aggregates())?;
    for mirrored in declared.iter().filter(|aggregate| aggregate["sinks"]["cassandra"].is_object()) {
        await_mirror(&trial.world, &record(), mirrored).await?;
    }
    Ok(())
}

/// STORED counts every offset once, despite redelivery.
async fn totals(trial: &Trial, db: &tokio_postgres::Client, messages: &[TopicMessage], planted: &BTreeMap<Vec<u8>, Garbage>) -> Result<()> {
    let row = db
        .query_one(
            "SELECT sum(stored)::bigint, sum(dead_lettered)::bigint FROM userpipeline.progress WHERE group_id = $1",
            &[&names::group_id(&trial.world.id())],
        )
        .await?;
    let (stored, dead): (i64, i64) = (row.get(0), row.get(1));
    let bad = messages.iter().filter(|message| planted.contains_key(&message.payload)).count();
    ensure!(
        (usize::try_from(stored)?, usize::try_from(dead)?) == (messages.len() - bad, bad),
        "STORED is {stored} and {dead} dead-lettered of {} messages, of which {bad} are invalid",
        messages.len()
    );
    Ok(())
}
