//! Aggregates: totals that equal a fold over the stored records, at any moment.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio_postgres::{Client, error::SqlState};
use userpipeline_api::names;
use userpipeline_record::{RecordSchema, aggregate::Aggregate, bookkeeping, postgres::quote};
use userpipeline_tests::{
    World, cluster, eventually,
    random::SplitMix64,
    stores,
    test_source::TestSource,
    totals::{Snapshot, await_mirror},
    world::SOON,
};

use crate::plans::plan;

fn record() -> Value {
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
fn declared() -> Vec<Value> {
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
    db.batch_execute(&format!("SET search_path = {schema}")).await?;
    Ok(db)
}

/// Creates the table `people` with some rows, and then aggregates of it. Returns their views.
async fn create_totals(schema: &str, declared: &[Value]) -> Result<Vec<String>> {
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
    let record = RecordSchema::read(Some(&serde_json::from_value(record())?)).map_err(anyhow::Error::msg)?;
    db.batch_execute(&record.sink_ddl("people")).await?;
    let mut random = SplitMix64::new(1);
    for _ in 0..5 {
        db.batch_execute(&change(&mut random)).await?;
    }
    let aggregates: Vec<userpipeline_api::Aggregate> = serde_json::from_value(json!(declared))?;
    let aggregates = Aggregate::read(&aggregates, &record, (Some("people"), None)).map_err(anyhow::Error::msg)?;
    for aggregate in &aggregates {
        let all = aggregate.statements();
        let parts = all.tables.iter().chain([&all.fill]).chain(&all.triggers).chain([&all.view]);
        let parts: Vec<&str> = parts.map(String::as_str).collect();
        db.batch_execute(&format!("BEGIN; {}; {}; {}; COMMIT", all.settings, all.lock, parts.join("; ")))
            .await?;
    }
    Ok(aggregates.iter().map(|aggregate| quote(&aggregate.view)).collect())
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

/// The pipeline's aggregates in its database.
async fn check(world: &World, declared: &[Value]) -> Result<usize> {
    let mut db = stores::postgres(&world.client).await?;
    let table = names::postgres_table(&world.id());
    let aggregates: Vec<userpipeline_api::Aggregate> = serde_json::from_value(json!(declared))?;
    let views: Vec<String> = aggregates.iter().map(|aggregate| quote(&names::view(aggregate, &table))).collect();
    let snapshot = Snapshot::take(&mut db, &quote(&table), &views).await?;
    snapshot.check(declared)?;
    Ok(snapshot.rows.len())
}

/// An aggregate that is in Cassandra, too.
fn by_name() -> Value {
    json!({"name": "by_name", "groupBy": ["name"], "sinks": {"cassandra": {}}, "values": [
        {"name": "users", "count": {}}, {"name": "ages", "sum": "age"}, {"name": "spent", "sum": "amount"}, {"name": "last", "max": "age"},
    ]})
}

/// Waits until Cassandra has the totals of [`by_name`] that PostgreSQL has.
async fn mirrored(world: &World) -> Result<()> {
    await_mirror(world, &record(), &by_name()).await
}

fn person(id: i64, revision: i64) -> Value {
    let country = ["CH", "DE", "FR"][usize::try_from((id + revision) % 3).unwrap_or(0)];
    json!({"id": format!("p{id}"), "revision": revision, "country": country,
        "name": format!("n{}", (id * revision) % 7), "age": 20 + id % 40, "amount": 0.25, "born": "1990-01-01",
        "at": format!("2026-03-29T0{}:30:00Z", id % 5)})
}

/// A pipeline with aggregates, and its source.
struct Trial {
    world: World,
    source: TestSource,
    pipeline: Value,
}

impl Trial {
    async fn start() -> Result<Self> {
        let world = World::new("aggregates").await?;
        let source = TestSource::start(&world.client).await?;
        let pipeline = world.pipeline_of(&record(), &source.url());
        Ok(Self { world, source, pipeline })
    }

    async fn declare(&mut self, aggregates: &[Value]) -> Result<()> {
        self.pipeline["spec"]["aggregates"] = json!(aggregates);
        self.world.apply(&self.pipeline).await.map(drop)
    }

    async fn refused(&self, reason: &str, says: &str) -> Result<()> {
        let is_expected = |found: &str, message: &str| found == reason && message.contains(says);
        self.world.condition_where("Ready", "False", SOON, is_expected).await.map(drop)
    }

    async fn run(&self, name: &str, pages: impl Iterator<Item = Vec<Value>>, stored: i64) -> Result<()> {
        pages.for_each(|page| self.source.serve(&page));
        self.world.run(name).await?;
        self.world.drained(stored).await
    }

    /// The sink table.
    fn table(&self) -> String {
        names::postgres_table(&self.world.id())
    }

    /// Triggers on the sink table, and tables and views of aggregates.
    async fn left(&self) -> Result<i64> {
        let table = self.table();
        let query = format!(
            "SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass('\"{table}\"')) \
             + (SELECT count(*) FROM pg_class WHERE relname LIKE '{table}\\_%' AND relkind IN ('r', 'v') AND relname NOT LIKE '%\\_raw')"
        );
        stores::number(&stores::postgres(&self.world.client).await?, &query).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_keeps_its_totals_exact_while_records_and_definitions_change() -> Result<()> {
    // Given a pipeline with an aggregate that names a field which does not exist, Then its status says so
    let mut trial = Trial::start().await?;
    let mut by_hour = declared().remove(2);
    by_hour["groupBy"] = json!(["land"]);
    trial.declare(&[by_hour.clone()]).await?;
    let says = "spec.aggregates[0].groupBy[0]: `land` is not a field of the record";
    trial.refused("InvalidSpec", says).await?;

    // When that is corrected, and records arrive, Then the view has their totals
    by_hour["groupBy"] = json!(["country"]);
    let mut declared_now = vec![by_hour.clone(), by_name()];
    trial.declare(&declared_now).await?;
    trial.world.ready().await?;
    let persons = |ids: std::ops::Range<i64>, revision| ids.map(move |id| person(id, revision));
    trial.run("first", std::iter::once(persons(0..200, 1).collect()), 200).await?;
    assert_eq!(check(&trial.world, &declared_now).await?, 200);

    // When some of them change, and others are deleted, Then the totals are those of the records that are left, in both stores
    let gone = |id| json!({"id": format!("p{id}"), "revision": 3, "gone": true});
    let changes = persons(0..100, 2).chain((100..150).map(gone)).collect();
    trial.run("second", std::iter::once(changes), 350).await?;
    assert_eq!(check(&trial.world, &declared_now).await?, 150);
    mirrored(&trial.world).await?;

    // When an aggregate would have the view of somebody else, Then it is refused
    let db = stores::postgres(&trial.world.client).await?;
    let view = format!("\"{}_everything\"", trial.table());
    db.batch_execute(&format!("CREATE VIEW {view} AS SELECT 1 AS mine")).await?;
    trial.declare(&[by_hour.clone(), by_name(), declared().remove(0)]).await?;
    trial.refused("TableMismatch", "another table or view").await?;
    db.batch_execute(&format!("DROP VIEW {view}")).await?;

    // When one aggregate changes and another one is added while records arrive, Then no record is missing in any of them
    by_hour["values"] = json!([{"name": "users", "count": {}}, {"name": "spent", "sum": "amount"}]);
    declared_now = vec![by_hour, declared().remove(6), by_name()];
    trial.pipeline["spec"]["aggregates"] = json!(declared_now);
    let planned = plan(&trial.pipeline, &["--schema"]).await?;
    let says = "compute aggregate `overlapping` from about";
    assert!(planned.1.contains(says), "{}{}", planned.1, planned.2);
    let applied = trial.pipeline.clone();
    let pages = (0..40).map(|page| persons(page * 10..page * 10 + 50, 4 + page).collect());
    let changing = async {
        trial.world.apply(&applied).await?;
        trial.world.ready().await
    };
    tokio::try_join!(trial.run("third", pages, 350 + 440), changing)?;
    check(&trial.world, &declared_now).await?;
    mirrored(&trial.world).await?;

    // When the aggregates are removed, Then so are their views and triggers, and the records stay
    assert!(trial.left().await? > 0);
    trial.declare(&[]).await?;
    eventually("nothing is left of the aggregates", SOON, async || {
        let left = trial.left().await?;
        Ok(if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} triggers, tables and views"))
        })
    })
    .await?;
    trial.world.ready().await?;
    let records = format!("SELECT count(*) FROM \"{}\"", trial.table());
    assert!(stores::number(&db, &records).await? > 0);
    trial.world.clean_up().await.context("deleting the namespace")
}
