//! Aggregates: totals that equal a fold over the stored records, at any moment.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_record::postgres::quote;
use userpipeline_tests::{
    World, eventually, stores,
    test_source::TestSource,
    totals::{Snapshot, await_mirror},
    world::SOON,
};

use crate::{
    plans::plan,
    totals::{declared, record},
};

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

    what_others_have_is_refused(&mut trial, &by_hour).await?;

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
    trial.run("alone", std::iter::once(vec![alone(1)]), 350 + 441).await?;
    mirrored(&trial.world).await?;
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
    let db = stores::postgres(&trial.world.client).await?;
    let records = format!("SELECT count(*) FROM \"{}\"", trial.table());
    assert!(stores::number(&db, &records).await? > 0);

    a_group_disappears_with_its_last_record(&mut trial).await?;
    trial.world.clean_up().await.context("deleting the namespace")
}

async fn what_others_have_is_refused(trial: &mut Trial, by_hour: &Value) -> Result<()> {
    // When an aggregate would have the view of somebody else, Then it is refused
    let db = stores::postgres(&trial.world.client).await?;
    let view = format!("\"{}_everything\"", trial.table());
    db.batch_execute(&format!("CREATE VIEW {view} AS SELECT 1 AS mine")).await?;
    trial.declare(&[by_hour.clone(), by_name(), declared().remove(0)]).await?;
    trial.refused("TableMismatch", "another table or view").await?;
    db.batch_execute(&format!("DROP VIEW {view}")).await?;

    // When it would have the table of somebody else in Cassandra, Then that is refused, too, and the table stays as it is
    let session = stores::cassandra(&trial.world.client).await?;
    let theirs = format!("{}.theirs", names::keyspace(&trial.world.id()));
    session
        .query_unpaged(format!("CREATE TABLE {theirs} (name text PRIMARY KEY)"), ())
        .await?;
    let mut elsewhere = by_name();
    elsewhere["name"] = json!("elsewhere");
    elsewhere["sinks"]["cassandra"]["table"] = json!("theirs");
    trial.declare(&[by_hour.clone(), by_name(), elsewhere]).await?;
    trial.refused("TableMismatch", "the pipeline did not create table").await?;
    session.query_unpaged(format!("DROP TABLE {theirs}"), ()).await?;
    Ok(())
}

/// Of the person who is alone in a group.
fn alone(revision: i64) -> Value {
    let mut person = person(900, revision);
    person["name"] = json!("alone");
    person
}

/// The pipeline has no aggregate, and Cassandra still has the totals of one, with the group of [`alone`].
async fn a_group_disappears_with_its_last_record(trial: &mut Trial) -> Result<()> {
    // When one is declared again, Then Cassandra has no group whose records were deleted meanwhile
    let alone_is_gone = json!({"id": "p900", "revision": 2, "gone": true});
    trial.run("deleted", std::iter::once(vec![alone_is_gone]), 350 + 442).await?;
    trial.declare(&[by_name()]).await?;
    trial.world.ready().await?;
    mirrored(&trial.world).await?;

    // When a group loses its last record while another transaction lasts, Then nothing is left of the group after that
    trial.run("again", std::iter::once(vec![alone(3)]), 350 + 443).await?;
    mirrored(&trial.world).await?;
    let db = stores::postgres(&trial.world.client).await?;
    db.batch_execute("BEGIN; SELECT pg_current_xact_id()").await?;
    let alone_is_gone = json!({"id": "p900", "revision": 4, "gone": true});
    trial.run("deleted-again", std::iter::once(vec![alone_is_gone]), 350 + 444).await?;
    mirrored(&trial.world).await?;
    db.batch_execute("COMMIT").await?;
    let totals = "SELECT totals FROM userpipeline.aggregates WHERE sink_table = $1";
    let totals: String = db.query_one(totals, &[&trial.table()]).await?.get(0);
    let empty = format!("SELECT count(*) FROM \"{totals}\" WHERE _rows = 0");
    eventually("no empty group is left", SOON, async || {
        let left = stores::number(&db, &empty).await?;
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} groups")) })
    })
    .await
}
