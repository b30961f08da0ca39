//! What aggregates must be: a fold over the rows of the sink table, with other code than the product's.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use jiff::{Timestamp, ToSpan, civil::date, tz::TimeZone};
use serde_json::{Value, json};
use tokio_postgres::{Client, IsolationLevel};
use userpipeline_api::names;

use crate::{
    World,
    declared::{self, Fields},
    eventually, stores,
    world::SOON,
};

/// Totals by the text of their groups and window; values in the order of their names.
pub type Totals = BTreeMap<String, Value>;

/// The rows of a table, the totals in some views, and the time, of one moment.
pub struct Snapshot {
    pub now: Timestamp,
    pub rows: Vec<Value>,
    pub views: Vec<Vec<Value>>,
}

impl Snapshot {
    pub async fn take(client: &mut Client, table: &str, views: &[String]) -> Result<Self> {
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true);
        let transaction = transaction.start().await?;
        transaction.batch_execute("SET LOCAL TimeZone = 'UTC'").await?;
        let now: i64 = transaction
            .query_one("SELECT (extract(epoch FROM now()) * 1000)::bigint", &[])
            .await?
            .get(0);
        let read = async |from: &str| {
            let rows = transaction
                .query(&format!("SELECT to_jsonb(t)::text FROM {from} AS t"), &[])
                .await?;
            rows.iter()
                .map(|row| Ok(serde_json::from_str(row.get(0))?))
                .collect::<Result<Vec<Value>>>()
        };
        let rows = read(table).await?;
        let mut totals = Vec::new();
        for view in views {
            totals.push(read(view).await?);
        }
        transaction.rollback().await?;
        Ok(Self {
            now: Timestamp::from_millisecond(now)?,
            rows,
            views: totals,
        })
    }

    /// Whether each view has the totals of its declaration.
    pub fn check(&self, declared: &[Value]) -> Result<()> {
        for (declared, found) in declared.iter().zip(&self.views) {
            let expected = fold(declared, &self.rows, self.now)?;
            let found: Totals = found
                .iter()
                .map(|row| Ok((key(declared, row)?, with_doubles(row))))
                .collect::<Result<_>>()?;
            let missing: Vec<_> = expected.iter().filter(|(key, row)| found.get(*key) != Some(*row)).take(3).collect();
            let surplus: Vec<_> = found.iter().filter(|(key, row)| expected.get(*key) != Some(*row)).take(3).collect();
            anyhow::ensure!(
                missing.is_empty() && surplus.is_empty(),
                "aggregate {}: of {} rows, expected for example {missing:?}, found {surplus:?}",
                declared["name"],
                self.rows.len()
            );
        }
        Ok(())
    }
}

/// Waits until Cassandra has the totals of an aggregate that PostgreSQL has.
pub async fn await_mirror(world: &World, record: &Value, declared: &Value) -> Result<()> {
    let fields = mirrored_fields(record, declared)?;
    let name = declared["name"].as_str().context("a name")?;
    let (id, client) = (world.id(), &world.client);
    let view = names::aggregate_view(&names::postgres_table(&id), name);
    let table = names::aggregate_table(&names::cassandra_table(&id), name);
    let (db, session) = (stores::postgres(client).await?, stores::cassandra(client).await?);
    eventually(&format!("the totals {name} in Cassandra"), SOON, async || {
        let expected = declared::postgres(&db, &view, &fields).await?;
        let found = declared::cassandra(&session, &names::keyspace(&id), &table, &fields).await?;
        let surplus: Vec<_> = found.iter().filter(|row| !expected.contains(row)).take(3).collect();
        Ok(if found == expected && !found.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "{} totals, and not {}; for example {surplus:?}",
                found.len(),
                expected.len()
            ))
        })
    })
    .await
}

/// The columns of an aggregate's table in Cassandra, with their types.
fn mirrored_fields(record: &Value, declared: &Value) -> Result<Fields> {
    let types: BTreeMap<String, String> = declared::fields(record).into_iter().collect();
    let of_field = |name: &Value| {
        let name = name.as_str().context("the name of a field")?;
        Ok((name.to_owned(), types.get(name).context("a field")?.clone()))
    };
    let groups = declared["groupBy"].as_array().into_iter().flatten().map(of_field);
    let mut fields = groups.collect::<Result<Fields>>()?;
    if declared["window"].is_object() {
        fields.extend(["window_start", "window_end"].map(|name| (name.to_owned(), "timestamp".to_owned())));
    }
    for value in declared["values"].as_array().into_iter().flatten() {
        let function = ["sum", "min", "max"].iter().find(|function| value[**function].is_string());
        let value_type = match function {
            Some(function) => of_field(&value[*function])?.1,
            None if value["avg"].is_string() => "double".to_owned(),
            None => "long".to_owned(),
        };
        fields.push((value["name"].as_str().context("a name")?.to_owned(), value_type));
    }
    Ok(fields)
}

fn key(declared: &Value, row: &Value) -> Result<String> {
    let groups = declared["groupBy"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let start = row
        .get("window_start")
        .map(|start| time(start).map(|time| time.to_string()))
        .transpose()?;
    Ok(json!([groups.map(|name| row[name].clone()).collect::<Vec<_>>(), start]).to_string())
}

/// Numbers of equal value are equal.
fn with_doubles(row: &Value) -> Value {
    let members = row.as_object().into_iter().flatten();
    let member = |(name, value): (&String, &Value)| (name.clone(), value.as_f64().map_or_else(|| value.clone(), Value::from));
    members.map(member).collect()
}

fn time(value: &Value) -> Result<Timestamp> {
    Ok(value.as_str().context("a time")?.parse()?)
}

/// The totals of the rows.
fn fold(declared: &Value, rows: &[Value], now: Timestamp) -> Result<Totals> {
    let mut groups: BTreeMap<String, (Value, Vec<&Value>)> = BTreeMap::new();
    for row in rows {
        for (start, end) in windows(declared, row)? {
            let mut group = json!({});
            for name in declared["groupBy"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                group[name] = row[name].clone();
            }
            if let (Some(start), Some(end)) = (start, end) {
                if let Some(keep) = declared["keep"].as_str()
                    && end.checked_add(seconds(keep)?.seconds())? <= now
                {
                    continue;
                }
                // As PostgreSQL writes times in JSON.
                group["window_start"] = json!(format!("{}", start.strftime("%Y-%m-%dT%H:%M:%S+00:00")));
                group["window_end"] = json!(format!("{}", end.strftime("%Y-%m-%dT%H:%M:%S+00:00")));
            }
            let key = key(declared, &group)?;
            groups.entry(key).or_insert_with(|| (group, Vec::new())).1.push(row);
        }
    }
    let totals = groups.into_iter().map(|(key, (mut group, rows))| {
        for value in declared["values"].as_array().into_iter().flatten() {
            group[value["name"].as_str().context("a name")?] = total(value, &rows)?;
        }
        Ok((key, with_doubles(&group)))
    });
    totals.collect()
}

fn seconds(duration: &str) -> Result<i64> {
    let (number, unit) = duration.split_at(duration.len() - 1);
    Ok(number.parse::<i64>()?
        * match unit {
            "h" => 3600,
            "m" => 60,
            _ => 1,
        })
}

/// The windows that have a row: start and end of each.
fn windows(declared: &Value, row: &Value) -> Result<Vec<(Option<Timestamp>, Option<Timestamp>)>> {
    let window = &declared["window"];
    let Some(on) = window["field"].as_str() else {
        return Ok(vec![(None, None)]);
    };
    let at = time(&row[on])?;
    let every = seconds(window["every"].as_str().context("every")?)?;
    if let Some(hop) = window["hop"].as_str() {
        let hop = seconds(hop)?;
        let latest = at.as_second().div_euclid(hop) * hop;
        let starts = (0..every / hop).map(|n| latest - n * hop);
        let windows = starts.map(|start| Ok((Some(Timestamp::from_second(start)?), Some(Timestamp::from_second(start + every)?))));
        return windows.collect();
    }
    let zone = TimeZone::get(window["timeZone"].as_str().unwrap_or("Etc/UTC"))?;
    let local = at.to_zoned(zone.clone());
    let midnight = |day: jiff::civil::Date| Ok::<_, jiff::Error>(day.to_zoned(zone.clone())?.start_of_day()?.timestamp());
    let (start, end) = if every < 86_400 {
        let (today, tomorrow) = (midnight(local.date())?, midnight(local.date().tomorrow()?)?);
        let start = today.as_second() + (at.as_second() - today.as_second()).div_euclid(every) * every;
        (
            Timestamp::from_second(start)?,
            Timestamp::from_second((start + every).min(tomorrow.as_second()))?,
        )
    } else {
        let (days, monday) = (every / 86_400, date(1970, 1, 5));
        let since = i64::from((local.date() - monday).get_days());
        let first = monday.checked_add((since.div_euclid(days) * days).days())?;
        (midnight(first)?, midnight(first.checked_add(days.days())?)?)
    };
    Ok(vec![(Some(start), Some(end))])
}

fn total(value: &Value, rows: &[&Value]) -> Result<Value> {
    let given = |function: &str| {
        let field = value[function].as_str()?;
        Some(
            rows.iter()
                .map(|row| row[field].clone())
                .filter(|value| !value.is_null())
                .collect::<Vec<_>>(),
        )
    };
    // The amounts of the tests are quarters, whose sums a double holds exactly.
    let sum = |values: &[Value]| values.iter().filter_map(Value::as_f64).sum::<f64>();
    Ok(if value.get("count").is_some() {
        json!(rows.len())
    } else if let Some(values) = given("countDistinct") {
        json!(values.iter().map(Value::to_string).collect::<BTreeSet<_>>().len())
    } else if let Some(values) = given("sum") {
        if values.is_empty() { Value::Null } else { json!(sum(&values)) }
    } else if let Some(values) = given("avg") {
        #[allow(clippy::cast_precision_loss)] // A few hundred rows.
        let count = values.len() as f64;
        if values.is_empty() {
            Value::Null
        } else {
            json!(sum(&values) / count)
        }
    } else {
        let (mut values, is_min) = match given("min") {
            Some(values) => (values, true),
            None => (given("max").context("a function")?, false),
        };
        values.sort_by(|a, b| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => a.to_string().cmp(&b.to_string()),
        });
        let found = if is_min { values.first() } else { values.last() };
        found.cloned().unwrap_or(Value::Null)
    })
}
