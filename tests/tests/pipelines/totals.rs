//! The totals in PostgreSQL: they equal a fold over the rows, whatever is done to them.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio_postgres::{Client, error::SqlState};
use userpipeline_record::{RecordSchema, aggregate::Aggregate, bookkeeping, postgres::quote};
use userpipeline_tests::{cluster, random::SplitMix64, stores, totals::Snapshot};

pub fn record() -> Value {
    json!({"key": ["id"], "orderBy": "revision", "deleteWhen": "has(item.gone) && item.gone", "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "revision", "type": "long", "from": "/revision"},
        {"name": "country", "type": "string", "from": "/country", "optional": true},
        {"name": "name", "type": "string", "from": "/name"},
        {"name": "age", "type": "long", "from": "/age", "optional": true},
        {"name": "amount", "type": "double", "from": "/amount", "optional": true},
        {"name": "born", "type": "date", "from": "/born", "optional": true},
        {"name": "at", "type": "timestamp", "from": "/at"},
    ]})
}

fn values() -> Value {
    json!([
        {"name": "users", "count": {}},
        {"name": "names", "countDistinct": "name"},
        {"name": "ages", "countDistinct": "age"},
        {"name": "average_age", "avg": "age"},
        {"name": "spent", "sum": "amount"},
        {"name": "oldest", "min": "born"},
        {"name": "last", "max": "at"},
        {"name": "least", "min": "amount"},
    ])
}

/// One of each kind of groups and windows.
pub fn declared() -> Vec<Value> {
    let aggregate = |name: &str, group_by: Value, more: Value| {
        let mut aggregate = json!({"name": name, "groupBy": group_by, "values": values()});
        for (key, value) in more.as_object().into_iter().flatten() {
            aggregate[key] = value.clone();
        }
        aggregate
    };
    vec![
        aggregate("everything", json!([]), json!({})),
        aggregate("by_country_age", json!(["country", "age"]), json!({})),
        aggregate(
            "by_hour",
            json!(["country"]),
            json!({"window": {"field": "at", "every": "1h", "timeZone": "Europe/Berlin"}}),
        ),
        aggregate(
            "by_quarter_day",
            json!([]),
            json!({"window": {"field": "at", "every": "6h", "timeZone": "America/Sao_Paulo"}}),
        ),
        aggregate(
            "by_day",
            json!(["country"]),
            json!({"window": {"field": "at", "every": "24h", "timeZone": "America/Sao_Paulo"}}),
        ),
        aggregate(
            "by_week",
            json!([]),
            json!({"window": {"field": "at", "every": "168h", "timeZone": "Asia/Kolkata"}}),
        ),
        aggregate(
            "overlapping",
            json!(["country"]),
            json!({"window": {"field": "at", "every": "6h", "hop": "2h"}}),
        ),
        aggregate(
            "recent",
            json!(["country"]),
            json!({"window": {"field": "at", "every": "1h"}, "keep": "48h"}),
        ),
    ]
}

/// A connection that finds the tables of this schema.
async fn connect(schema: &str) -> Result<Client> {
    let db = stores::postgres(&cluster::connect().await?).await?;
    db.batch_execute(&format!("SET search_path = {schema}, \"$user\"")).await?;
    Ok(db)
}

/// Creates the table `people` with some rows, and then aggregates of it. Returns their views.
async fn create_totals(schema: &str, declared: &[Value]) -> Result<Vec<String>> {
    let mut random = SplitMix64::new(1);
    let rows: Vec<String> = (0..5).map(|_| change(&mut random)).collect();
    let aggregates = create(schema, &record(), declared, &rows).await?;
    Ok(aggregates.iter().map(|aggregate| quote(&aggregate.view)).collect())
}

/// Creates the table `people` of a record, fills it, and creates aggregates of it.
async fn create(schema: &str, record: &Value, declared: &[Value], rows: &[String]) -> Result<Vec<Aggregate>> {
    let db = connect(schema).await?;
    db.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    // No schema Job may have run yet.
    let bookkeeping = bookkeeping::DDL
        .iter()
        .filter(|statement| statement.contains("SCHEMA") || statement.contains("userpipeline.aggregates"));
    let bookkeeping: Vec<&str> = bookkeeping.copied().collect();
    let lock = format!("SELECT pg_advisory_xact_lock({})", bookkeeping::LOCK);
    db.batch_execute(&format!("BEGIN; {lock}; {}; COMMIT", bookkeeping.join("; ")))
        .await?;
    let record = RecordSchema::read(Some(&serde_json::from_value(record.clone())?)).map_err(anyhow::Error::msg)?;
    db.batch_execute(&record.sink_ddl("people")).await?;
    for statement in rows {
        db.batch_execute(statement).await?;
    }
    let aggregates: Vec<userpipeline_api::Aggregate> = serde_json::from_value(json!(declared))?;
    let aggregates = Aggregate::read(&aggregates, &record, (Some("people"), Some("people"))).map_err(anyhow::Error::msg)?;
    for aggregate in &aggregates {
        let all = aggregate.statements();
        let parts = all.tables.iter().chain([&all.fill]).chain(&all.triggers).chain([&all.view]);
        let parts: Vec<&str> = parts.map(String::as_str).collect();
        db.batch_execute(&format!("BEGIN; {}; {}; {}; COMMIT", all.settings, all.lock, parts.join("; ")))
            .await?;
    }
    Ok(aggregates)
}

/// Changes rows for a while, in the time zone of this number.
async fn write(schema: &str, number: usize) -> Result<()> {
    let zone = ["UTC", "Asia/Tokyo", "America/New_York", "Asia/Kolkata"][number];
    let mut random = SplitMix64::new(2 + number as u64);
    let db = connect(schema).await?;
    db.batch_execute(&format!("SET TimeZone = '{zone}'")).await?;
    for _ in 0..25 {
        let change = change(&mut random);
        // Of two that replace the same rows in another order, PostgreSQL ends one.
        if let Err(error) = db.batch_execute(&change).await {
            anyhow::ensure!(error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED), "{change}: {error:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_equal_a_fold_over_the_rows_whatever_is_done_to_them_at_the_same_time() -> Result<()> {
    // Given a table with some rows, and then aggregates of each kind
    let schema = format!("totals_{}", uuid::Uuid::new_v4().simple());
    let declared = declared();
    let views = create_totals(&schema, &declared).await?;

    // When connections with other time zones insert, replace, change and delete rows at the same time
    let writers = (0..4).map(|number| write(&schema, number));
    let mut reader = connect(&schema).await?;
    let reading = async {
        // Then the totals equal a fold over the rows in every snapshot
        for _ in 0..10 {
            Snapshot::take(&mut reader, "people", &views).await?.check(&declared)?;
        }
        Ok(())
    };
    tokio::try_join!(try_join_all(writers), reading)?;
    let found = Snapshot::take(&mut reader, "people", &views).await?;
    anyhow::ensure!(found.rows.len() > 100, "{} rows", found.rows.len());
    found.check(&declared)?;

    // And nothing is left of the totals of a table without rows
    reader.batch_execute("TRUNCATE people").await?;
    Snapshot::take(&mut reader, "people", &views).await?.check(&declared)?;
    reader.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await?;
    Ok(())
}

/// A statement that changes some rows. Their times are near changes of clocks, or recent.
fn change(random: &mut SplitMix64) -> String {
    const COLUMNS: &str = "id, revision, country, name, age, amount, born, at, _version";
    let ids = format!(
        "SELECT DISTINCT 'i' || (random() * 300)::int AS id FROM generate_series(1, {})",
        1 + random.index(80)
    );
    let times = [
        "timestamptz '2023-10-29 00:00Z'",
        "timestamptz '2024-03-31 00:00Z'",
        "timestamptz '2017-10-15 03:00Z'",
        "timestamptz '2018-02-18 02:00Z'",
        "now()",
    ];
    let at = times[random.index(times.len())];
    let spread = [3600, 86_400, 864_000][random.index(3)];
    let rows = format!(
        "SELECT id, 1, (array['CH', 'DE', '', NULL])[1 + (random() * 3)::int], 'n' || (random() * 9)::int, \
         nullif((random() * 5)::int, 0), nullif((random() * 40)::int, 0) * 0.25, \
         nullif(date '1960-01-01' + (random() * 50)::int, date '1960-01-01'), date_trunc('seconds', {at} + (random() - 0.5) * interval '{spread} seconds'), 1 \
         FROM ({ids}) AS ids ORDER BY id"
    );
    match random.index(6) {
        0 => format!("DELETE FROM people WHERE id IN ({ids})"),
        1 => format!("UPDATE people SET country = 'FR', age = age + 1 WHERE id IN ({ids})"),
        2 => format!("UPDATE people SET at = at + interval '1 day' WHERE id IN ({ids})"),
        _ => format!(
            "INSERT INTO people ({COLUMNS}) {rows} ON CONFLICT (id) DO UPDATE SET country = excluded.country, name = excluded.name, age = excluded.age, \
             amount = excluded.amount, born = excluded.born, at = excluded.at"
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_may_have_any_name_and_numbers_any_size() -> Result<()> {
    // Given totals of fields with names that triggers use
    let record = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "found", "type": "string", "from": "/found"},
        {"name": "tg_op", "type": "boolean", "from": "/tg_op", "optional": true},
        {"name": "new", "type": "double", "from": "/new", "optional": true},
        {"name": "old", "type": "long", "from": "/old", "optional": true},
    ]});
    let values = json!([
        {"name": "rows", "count": {}}, {"name": "total", "sum": "new"}, {"name": "average", "avg": "new"}, {"name": "different", "countDistinct": "old"},
    ]);
    let declared = [
        json!({"name": "here", "groupBy": ["found", "tg_op"], "values": values}),
        json!({"name": "there", "groupBy": ["found"], "values": values, "sinks": {"cassandra": {}}}),
    ];
    let schema = format!("totals_{}", uuid::Uuid::new_v4().simple());
    let aggregates = create(&schema, &record, &declared, &[]).await?;
    let db = connect(&schema).await?;

    // When numbers are so large or small that no double has their totals, and others write NaN and infinities
    db.batch_execute(
        "INSERT INTO people (id, found, tg_op, new, old, _version) VALUES ('a', 'large', true, 1e308, 1, 1), ('b', 'large', true, 1e308, 2, 1), \
         ('c', 'small', true, 5e-324, 1, 1), ('d', 'small', true, 0, 1, 1), ('e', 'small', true, 0, 1, 1), \
         ('f', 'foreign', true, 'NaN', 1, 1), ('g', 'foreign', true, 'Infinity', 1, 1), ('h', 'foreign', true, 1.5, 1, 1)",
    )
    .await?;

    // Then the view has the exact sums, and the averages that are doubles
    let totals = "SELECT string_agg(concat_ws(' ', found, rows, round(total, 1), average, different), ', ' ORDER BY found) FROM";
    let has_totals = async |from: &str, expected: &str| -> Result<()> {
        let found: String = db.query_one(&format!("{totals} {from}"), &[]).await?.get(0);
        assert_eq!(found, expected);
        Ok(())
    };
    let view = "people_here WHERE found <> 'large'";
    has_totals(view, "foreign 3 1.5 1.5 1, small 3 0.0 0 1").await?;
    let large = db
        .query_one(
            "SELECT total = 2e308::numeric AND average = 1e308 FROM people_here WHERE found = 'large'",
            &[],
        )
        .await?;
    assert!(large.get::<_, bool>(0));

    // And others who write find the same tables
    let depending = "SELECT count(*) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proconfig::text LIKE '%$user%'";
    assert_eq!(stores::number(&db, depending).await?, 0);

    // And Cassandra gets null for a sum that it cannot have
    let changed = aggregates[1].mirror_statements().context("the statements of a mirror")?.changed;
    let rows = db.query(&changed, &[&"0"]).await?;
    let total_of = |found: &str| {
        let row = rows.iter().find(|row| row.get::<_, &str>(2) == found)?;
        Some(row.get::<_, Option<f64>>(4))
    };
    assert_eq!((total_of("large"), total_of("foreign")), (Some(None), Some(Some(1.5))));

    // When what others wrote is deleted, Then the totals are those of the other records
    db.batch_execute("DELETE FROM people WHERE id IN ('f', 'g')").await?;
    has_totals(view, "foreign 1 1.5 1.5 1, small 3 0.0 0 1").await?;
    db.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await?;
    Ok(())
}
