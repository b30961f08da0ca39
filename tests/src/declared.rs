//! Rows of declared records, read from both stores by plain clients and brought into one form: a text for each value.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use scylla::{client::session::Session, value::CqlValue};
use serde_json::Value;
use userpipeline_api::names;

use crate::{World, stores};

/// A row: a text for each of its fields, none for null.
pub type Row = BTreeMap<String, Option<String>>;

/// Names and types of fields, as a pipeline declares them.
pub type Fields = Vec<(String, String)>;

/// The fields of a `spec.record`.
pub fn fields(record: &Value) -> Fields {
    let fields = record["fields"].as_array().cloned().unwrap_or_default();
    let text = |field: &Value, key: &str| field[key].as_str().unwrap_or_default().to_owned();
    fields.iter().map(|field| (text(field, "name"), text(field, "type"))).collect()
}

/// The text of a value that is JSON, whether a source has served it or PostgreSQL writes it so.
pub fn text(field_type: &str, value: &Value) -> Result<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    let string = || value.as_str().context("text").map(str::to_owned);
    let text = match field_type {
        "boolean" => value.as_bool().context("a boolean")?.to_string(),
        "int" | "long" => value.as_i64().context("a whole number")?.to_string(),
        // Of zeros, PostgreSQL's JSON knows one.
        "double" => format!("{:?}", value.as_f64().context("a number")? + 0.0),
        "string" | "date" => string()?,
        "timestamp" => match value.as_i64() {
            Some(millis) => millis.to_string(),
            None => moment(&string()?)?.to_string(),
        },
        "uuid" => string()?.to_lowercase(),
        // Hexadecimal, as PostgreSQL writes them.
        "bytes" => string()?.trim_start_matches("\\x").to_owned(),
        "json" => sorted(value).to_string(),
        other => bail!("no such type: {other}"),
    };
    Ok(Some(text))
}

/// Milliseconds since 1970; also of the last day of 9999, which jiff's timestamps do not have.
fn moment(text: &str) -> Result<i64> {
    let last = text.starts_with("9999-12-31") && text.ends_with(['Z', '0']);
    if last && let Some((date, _)) = text.split_once(['Z', '+']) {
        let time: jiff::civil::DateTime = date.parse()?;
        let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
        return Ok(i64::try_from(time.duration_since(epoch).as_millis())?);
    }
    Ok(text.parse::<jiff::Timestamp>()?.as_millisecond())
}

/// JSON with its keys in order, and numbers that are the same written the same.
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

/// The rows of a table in PostgreSQL, sorted.
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

/// The rows of a table in Cassandra, sorted.
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

/// Fails where a pipeline's tables hold other rows than these, which are sorted.
pub async fn in_both_stores(world: &World, record: &Value, wanted: &[Row]) -> Result<()> {
    let (id, fields) = (world.id(), fields(record));
    let db = stores::postgres(&world.client).await?;
    let found = postgres(&db, &names::postgres_table(&id), &fields).await?;
    assert_same("PostgreSQL's table", &found, wanted);
    let session = stores::cassandra(&world.client).await?;
    let found = cassandra(&session, &names::keyspace(&id), &names::cassandra_table(&id), &fields).await?;
    assert_same("Cassandra's table", &found, wanted);
    Ok(())
}

/// Fails where rows differ, naming the first few that do.
///
/// # Panics
/// Where they differ: it is an assertion.
pub fn assert_same(what: &str, found: &[Row], wanted: &[Row]) {
    let missing: Vec<&Row> = wanted.iter().filter(|row| !found.contains(row)).take(3).collect();
    let strange: Vec<&Row> = found.iter().filter(|row| !wanted.contains(row)).take(3).collect();
    assert!(
        found.len() == wanted.len() && missing.is_empty() && strange.is_empty(),
        "{what}: {} rows, wanted {}\nmissing {missing:#?}\nstrange {strange:#?}",
        found.len(),
        wanted.len()
    );
}
