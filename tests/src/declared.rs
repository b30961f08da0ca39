//! Reads the rows of declared records from both stores with plain clients, and converts every value to text.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use scylla::{client::session::Session, value::CqlValue};
use serde_json::Value;
use userpipeline_api::names;

use crate::{World, stores};

/// A text for each field; `None` is null.
pub type Row = BTreeMap<String, Option<String>>;

/// Names and types.
pub type Fields = Vec<(String, String)>;

/// The fields of a `spec.record`.
pub fn fields(record: &Value) -> Fields {
    let fields = record["fields"].as_array().cloned().unwrap_or_default();
    let text = |field: &Value, key: &str| field[key].as_str().unwrap_or_default().to_owned();
    fields.iter().map(|field| (text(field, "name"), text(field, "type"))).collect()
}

/// The text of a JSON value, from a source or from PostgreSQL.
pub fn text(field_type: &str, value: &Value) -> Result<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    let string = || value.as_str().context("text").map(str::to_owned);
    let text = match field_type {
        "boolean" => value.as_bool().context("a boolean")?.to_string(),
        "int" | "long" => value.as_i64().context("a whole number")?.to_string(),
        // PostgreSQL's JSON has no negative zero.
        "double" => format!("{:?}", value.as_f64().context("a number")? + 0.0),
        "string" | "date" => string()?,
        "timestamp" => match value.as_i64() {
            Some(millis) => millis.to_string(),
            None => milliseconds(&string()?)?.to_string(),
        },
        "uuid" => string()?.to_lowercase(),
        // Hexadecimal, as in PostgreSQL.
        "bytes" => string()?.trim_start_matches("\\x").to_owned(),
        "json" => sorted(value).to_string(),
        other => bail!("no such type: {other}"),
    };
    Ok(Some(text))
}

/// Milliseconds since 1970. jiff's timestamps end before the last day of 9999.
fn milliseconds(text: &str) -> Result<i64> {
    let last = text.starts_with("9999-12-31") && text.ends_with(['Z', '0']);
    if last && let Some((date, _)) = text.split_once(['Z', '+']) {
        let time: jiff::civil::DateTime = date.parse()?;
        let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
        return Ok(i64::try_from(time.duration_since(epoch).as_millis())?);
    }
    Ok(text.parse::<jiff::Timestamp>()?.as_millisecond())
}

/// JSON with sorted keys, and with one form for equal numbers.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            serde_json::json!(sorted)
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Number(number) if number.as_i64().is_none() => number.as_f64().into(),
        other => other.clone(),
    }
}

/// Sorted.
pub async fn postgres(db: &tokio_postgres::Client, table: &str, fields: &Fields) -> Result<Vec<Row>> {
    db.batch_execute("SET TimeZone = 'UTC'; SET extra_float_digits = 3").await?;
    let rows = db.query(&format!("SELECT to_jsonb(t)::text FROM \"{table}\" AS t"), &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let row: Value = serde_json::from_str(row.get(0))?;
        let cell = |(name, field_type): &(String, String)| {
            Ok((
                name.clone(),
                text(field_type, &row[name]).with_context(|| format!("{name}: {row}"))?,
            ))
        };
        fields.iter().map(cell).collect::<Result<Row>>()
    };
    let mut rows = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    rows.sort();
    Ok(rows)
}

/// Sorted.
pub async fn cassandra(session: &Session, keyspace: &str, table: &str, fields: &Fields) -> Result<Vec<Row>> {
    let columns: Vec<String> = fields.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let result = session
        .query_unpaged(format!("SELECT {} FROM \"{keyspace}\".\"{table}\"", columns.join(", ")), &[])
        .await?
        .into_rows_result()?;
    let mut rows = Vec::new();
    for row in result.rows::<scylla::value::Row>()? {
        let cells = fields.iter().zip(row?.columns);
        let cell = |((name, field_type), value): (&(String, String), Option<CqlValue>)| Ok((name.clone(), cql(field_type, value)?));
        rows.push(cells.map(cell).collect::<Result<Row>>()?);
    }
    rows.sort();
    Ok(rows)
}

fn cql(field_type: &str, value: Option<CqlValue>) -> Result<Option<String>> {
    let Some(value) = value else { return Ok(None) };
    Ok(Some(match value {
        CqlValue::Text(text) if field_type == "json" => sorted(&serde_json::from_str(&text)?).to_string(),
        CqlValue::Text(text) => text,
        CqlValue::Boolean(truth) => truth.to_string(),
        CqlValue::BigInt(number) => number.to_string(),
        CqlValue::Double(number) => format!("{:?}", number + 0.0),
        CqlValue::Date(date) => {
            let days = i64::from(date.0) - (1 << 31);
            let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().try_days(days)?)?;
            date.to_string()
        }
        CqlValue::Timestamp(time) => time.0.to_string(),
        CqlValue::Uuid(uuid) => uuid.to_string(),
        CqlValue::Blob(bytes) => bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")),
        other => bail!("{other:?}"),
    }))
}

/// Fails if the tables of a pipeline hold other rows than `expected`, which must be sorted.
pub async fn assert_in_both_stores(world: &World, record: &Value, expected: &[Row]) -> Result<()> {
    let (id, fields) = (world.id(), fields(record));
    let db = stores::postgres(&world.client).await?;
    let found = postgres(&db, &names::postgres_table(&id), &fields).await?;
    assert_same("PostgreSQL's table", &found, expected);
    let session = stores::cassandra(&world.client).await?;
    let found = cassandra(&session, &names::keyspace(&id), &names::cassandra_table(&id), &fields).await?;
    assert_same("Cassandra's table", &found, expected);
    Ok(())
}

/// # Panics
/// If the rows differ.
pub fn assert_same(what: &str, found: &[Row], expected: &[Row]) {
    let missing: Vec<&Row> = expected.iter().filter(|row| !found.contains(row)).take(3).collect();
    let unexpected: Vec<&Row> = found.iter().filter(|row| !expected.contains(row)).take(3).collect();
    assert!(
        found.len() == expected.len() && missing.is_empty() && unexpected.is_empty(),
        "{what}: {} rows, expected {}\nmissing {missing:#?}\nunexpected {unexpected:#?}",
        found.len(),
        expected.len()
    );
}
