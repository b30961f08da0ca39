//! Random histories: whatever happens to messages, workers and definitions, both stores end with the newest versions and their totals.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio_postgres::Client;
use userpipeline_api::names;
use userpipeline_record::postgres::quote;
use userpipeline_tests::{
    World,
    declared::{self, Row, assert_in_both_stores},
    eventually,
    random::SplitMix64,
    stores::{self, Outgoing},
    totals::{Snapshot, await_mirror},
    world::SOON,
};

use crate::totals::{declared, record};

const PERSONS: usize = 80;
/// Messages with changes in one batch.
const CHANGES: usize = 40;
/// Batches between two changes of the definitions.
const BATCHES: usize = 8;

/// A filter, and whether a record passes.
type Filter = (&'static str, fn(&Value) -> bool);

const FILTERS: [Filter; 2] = [
    ("name != 'n1' && age >= 25", |item| {
        item["name"] != "n1" && item["age"].as_i64().is_some_and(|age| age >= 25)
    }),
    ("name != 'n2' && age < 55", |item| {
        item["name"] != "n2" && item["age"].as_i64().is_some_and(|age| age < 55)
    }),
];

/// The persons of whom something is sent while a filter applies, and the number of partitions.
struct Period {
    number: usize,
    persons: usize,
    partitions: usize,
}

/// What was sent, by number of a person and revision, with the period that it was sent in.
#[derive(Default)]
struct History {
    revisions: BTreeMap<(usize, i64), (Value, usize)>,
    messages: i64,
}

impl History {
    fn newest(&self, person: usize) -> Option<(i64, &Value, usize)> {
        let mut of_person = self.revisions.range((person, 0)..=(person, i64::MAX));
        of_person
            .next_back()
            .map(|((_, revision), (item, period))| (*revision, item, *period))
    }

    /// A new version of each of these persons, and redelivered ones, in any order on any partition.
    fn batch(&mut self, random: &mut SplitMix64, period: &Period, persons: impl Iterator<Item = usize>) -> Vec<Outgoing> {
        let mut items = Vec::new();
        for person in persons {
            let newest = self.newest(person).map_or(0, |(revision, ..)| revision);
            let earlier: Vec<&Value> = self
                .revisions
                .range((person, 0)..=(person, newest))
                .map(|(_, (item, _))| item)
                .collect();
            if !earlier.is_empty() && random.index(3) == 0 {
                items.push(earlier[random.index(earlier.len())].clone());
            }
            let item = person_of(random, person, newest + 1);
            self.revisions.insert((person, newest + 1), (item.clone(), period.number));
            items.push(item);
        }
        random.shuffle(&mut items);
        self.messages += i64::try_from(items.len()).unwrap_or(i64::MAX);
        let message = |item: Value| {
            let partition = i32::try_from(random.index(period.partitions)).ok();
            (partition, "any key".to_owned(), Some(item.to_string().into_bytes()), None)
        };
        items.into_iter().map(message).collect()
    }

    /// The rows of the newest versions which are not deleted and pass the filter of their period.
    fn rows(&self) -> Result<Vec<Row>> {
        let fields = declared::fields(&record());
        let newest = (0..PERSONS).filter_map(|person| self.newest(person));
        let left = newest.filter(|(_, item, period)| item.get("gone").is_none() && (FILTERS[*period].1)(item));
        let row = |(_, item, _): (i64, &Value, usize)| {
            let cell = |(name, kind): &(String, String)| Ok((name.clone(), declared::text(kind, &item[name])?));
            fields.iter().map(cell).collect::<Result<Row>>()
        };
        let mut rows = left.map(row).collect::<Result<Vec<_>>>()?;
        rows.sort();
        Ok(rows)
    }
}

fn person_of(random: &mut SplitMix64, person: usize, revision: i64) -> Value {
    let id = format!("p{person}");
    if random.index(8) == 0 {
        return json!({"id": id, "revision": revision, "gone": true});
    }
    // Times near changes of clocks, late ones, and recent ones.
    let times = ["2023-10-29T00:10:00Z", "2018-02-18T02:30:00Z", "2017-10-15T03:05:00Z"];
    let now = jiff::Timestamp::now();
    let recent = i64::try_from(random.index(72)).unwrap_or(0) * 3600;
    let at = match random.index(4) {
        3 => jiff::Timestamp::from_second(now.as_second() - recent).unwrap_or(now).to_string(),
        early => times[early].to_owned(),
    };
    let country = [json!("CH"), json!("DE"), json!(""), Value::Null][random.index(4)].clone();
    let age = [Value::Null, json!(20 + random.index(40))][random.index(5).min(1)].clone();
    let amount = [json!(0.25), json!(-1.5), json!(7), Value::Null][random.index(4)].clone();
    let born = format!("19{}-01-01", 60 + random.index(30));
    json!({"id": id, "revision": revision, "country": country, "name": format!("n{}", random.index(7)), "age": age,
        "amount": amount, "born": born, "at": at})
}

/// Aggregates of the first period, and of the second one: one changes, one is removed, two are added, and one stays.
fn aggregates() -> [Vec<Value>; 2] {
    let mut mirrored = declared().remove(2);
    mirrored["name"] = json!("mirrored");
    mirrored["groupBy"] = json!(["name"]);
    mirrored["sinks"] = json!({"cassandra": {}});
    let by_name = json!({"name": "by_name", "groupBy": ["name"], "sinks": {"cassandra": {}}, "values": [
        {"name": "users", "count": {}}, {"name": "ages", "sum": "age"}, {"name": "last", "max": "at"},
    ]});
    let mut changed = by_name.clone();
    changed["values"] = json!([{"name": "users", "count": {}}, {"name": "spent", "sum": "amount"}]);
    let one = |index: usize| declared().remove(index);
    [vec![mirrored.clone(), by_name, one(5)], vec![mirrored, changed, one(6), one(7)]]
}

/// Commits of changes to the table wait while [`HOLD`] lasts.
fn pausable(table: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION wait_before_commit() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock_shared(0, tg_relid::int); RETURN NULL; END'; \
         CREATE CONSTRAINT TRIGGER wait_before_commit AFTER INSERT OR UPDATE OR DELETE ON {} \
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_before_commit()",
        quote(table)
    )
}

const HOLD: &str = "SELECT pg_advisory_xact_lock(0, $1::text::regclass::oid::int)";

/// Whether a transaction waits for [`HOLD`], whose lock has two keys: that of totals has one.
const WAITS: &str =
    "EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.objsubid = 2 AND NOT l.granted)";

struct Trial {
    world: World,
    random: SplitMix64,
    history: History,
    db: Client,
    topic: String,
    /// Names of pods.
    killed: Vec<String>,
}

impl Trial {
    async fn start(pipeline: &Value, world: World) -> Result<Self> {
        let seed = u64::from(uuid::Uuid::new_v4().as_fields().0);
        println!("seed {seed}");
        world.apply(pipeline).await?;
        world.ready().await?;
        let (db, topic) = (stores::postgres(&world.client).await?, names::topic(&world.id()));
        db.batch_execute(&pausable(&names::postgres_table(&world.id()))).await?;
        Ok(Self {
            world,
            random: SplitMix64::new(seed),
            history: History::default(),
            db,
            topic,
            killed: Vec::new(),
        })
    }

    async fn send(&mut self, period: &Period, persons: impl Iterator<Item = usize>) -> Result<()> {
        let batch = self.history.batch(&mut self.random, period, persons);
        stores::produce_to(&self.topic, batch).await
    }

    async fn send_some(&mut self, period: &Period) -> Result<()> {
        let persons: Vec<usize> = (0..CHANGES).map(|_| self.random.index(period.persons)).collect();
        self.send(period, persons.into_iter()).await
    }

    async fn workers(&self) -> Result<Vec<String>> {
        Ok(self.world.pods("worker").await?.iter().map(ResourceExt::name_any).collect())
    }

    /// Kills a worker, which has no time to end its batch. PostgreSQL may still commit it.
    async fn kill(&mut self) -> Result<()> {
        // One that a rollout replaces may be gone before it is killed.
        let running = self.world.pods("worker").await?.into_iter();
        let running: Vec<_> = running.filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
        ensure!(!running.is_empty(), "no worker is left");
        let victim = running[self.random.index(running.len())].name_any();
        self.world.kill(&victim).await?;
        self.killed.push(victim);
        Ok(())
    }

    /// Calls a function with each transaction of the workers on which a condition holds, and returns the number of calls.
    async fn transactions(&self, function: &str, condition: &str) -> Result<i64> {
        let statement = format!(
            "SELECT count({function}(pid)) FROM pg_stat_activity AS a \
             WHERE application_name LIKE ANY (SELECT '%' || unnest($1::text[])) AND xact_start IS NOT NULL AND {condition}"
        );
        let workers = [self.workers().await?, self.killed.clone()].concat();
        Ok(self.db.query_one(&statement, &[&workers]).await?.get(0))
    }

    /// Sends a new version of each person, and ends a batch in PostgreSQL once Cassandra has it.
    async fn abort_between_stores(&mut self, period: &Period) -> Result<()> {
        let table = names::postgres_table(&self.world.id());
        let mut holder = stores::postgres(&self.world.client).await?;
        let transaction = holder.transaction().await?;
        transaction.execute(HOLD, &[&quote(&table)]).await?;
        self.send(period, 0..period.persons).await?;
        eventually("a batch that waits to be committed", SOON, async || {
            let waiting = self.transactions("pg_blocking_pids", WAITS).await?;
            Ok(if waiting > 0 { Ok(()) } else { Err("none".to_owned()) })
        })
        .await?;
        let (id, fields) = (self.world.id(), declared::fields(&record()));
        let session = stores::cassandra(&self.world.client).await?;
        let there = declared::cassandra(&session, &names::keyspace(&id), &names::cassandra_table(&id), &fields).await?;
        let here = declared::postgres(&self.db, &table, &fields).await?;
        ensure!(there != here, "Cassandra has nothing of the batch");
        let aborted = self.transactions("pg_terminate_backend", WAITS).await?;
        ensure!(aborted > 0, "the batch waits no more");
        transaction.rollback().await?;
        Ok(())
    }

    /// Sends batches while workers are killed and transactions end, and checks the totals of one aggregate meanwhile.
    async fn disturb(&mut self, period: &Period, aggregate: &Value) -> Result<()> {
        for number in 0..BATCHES {
            self.send_some(period).await?;
            match number % 4 {
                0 => self.kill().await?,
                1 => drop(self.transactions("pg_terminate_backend", "true").await?),
                _ => self.check_totals(std::slice::from_ref(aggregate)).await?,
            }
        }
        Ok(())
    }

    /// Whether the totals are those of the rows, at this moment.
    async fn check_totals(&mut self, aggregates: &[Value]) -> Result<()> {
        let table = names::postgres_table(&self.world.id());
        let declared: Vec<userpipeline_api::Aggregate> = serde_json::from_value(json!(aggregates))?;
        let views: Vec<String> = declared.iter().map(|aggregate| quote(&names::view(aggregate, &table))).collect();
        Snapshot::take(&mut self.db, &quote(&table), &views).await?.check(aggregates)
    }

    /// Waits for a total of late records in the status.
    async fn late(&self, expected: impl Fn(i64) -> bool) -> Result<i64> {
        eventually("the total of late records", SOON, async || {
            let totals = self.world.get().await?.status.unwrap_or_default().totals.unwrap_or_default();
            Ok(if expected(totals.late) {
                Ok(totals.late)
            } else {
                Err(format!("{totals:?}"))
            })
        })
        .await
    }

    /// Waits until everything is stored, and compares both stores with the history.
    async fn check(&mut self, aggregates: &[Value]) -> Result<()> {
        self.world.drained(self.history.messages).await?;
        let expected = self.history.rows()?;
        ensure!(expected.len() > PERSONS / 4, "{} rows", expected.len());
        assert_in_both_stores(&self.world, &record(), &expected).await?;
        self.check_totals(aggregates).await?;
        for aggregate in aggregates.iter().filter(|aggregate| aggregate["sinks"].is_object()) {
            await_mirror(&self.world, &record(), aggregate).await?;
        }
        Ok(())
    }
}

fn pipeline(world: &World) -> Result<Value> {
    let mut pipeline = world.pipeline_of(&record(), "");
    let spec = pipeline["spec"].as_object_mut().context("a spec")?;
    spec.insert("source".to_owned(), json!({"topic": {"format": "JSON"}}));
    spec.remove("schedule");
    spec.remove("schemaRegistry");
    pipeline["spec"]["workers"]["replicas"] = json!(2);
    // Several batches of what is sent at once.
    pipeline["spec"]["workers"]["batch"] = json!({"maxRecords": 10});
    Ok(pipeline)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_history_ends_with_the_newest_versions_and_their_totals() -> Result<()> {
    // Given a topic with several workers, a filter and aggregates
    let world = World::new("histories").await?;
    let mut pipeline = pipeline(&world)?;
    let [first, second] = aggregates();
    pipeline["spec"]["record"]["where"] = json!(FILTERS[0].0);
    pipeline["spec"]["aggregates"] = json!(first);
    let mut trial = Trial::start(&pipeline, world).await?;

    // When new versions, late ones, deletions and redelivered messages arrive in any order on any partition, while workers are killed and
    // batches aborted, one of them between the stores
    let period = Period {
        number: 0,
        persons: PERSONS,
        partitions: 3,
    };
    trial.disturb(&period, &first[0]).await?;
    trial.abort_between_stores(&period).await?;

    // Then both stores have the newest versions that pass, and their totals
    trial.check(&first).await?;

    // When filter, aggregates and the number of partitions change while that continues for some of the persons
    pipeline["spec"]["record"]["where"] = json!(FILTERS[1].0);
    pipeline["spec"]["aggregates"] = json!(second);
    pipeline["spec"]["kafka"]["topic"] = json!({"partitions": 5});
    trial.world.apply(&pipeline).await?;
    let mut period = Period {
        number: 1,
        persons: PERSONS / 2,
        partitions: 3,
    };
    trial.disturb(&period, &first[0]).await?;
    trial.world.ready().await?;
    period.partitions = 5;
    trial.disturb(&period, &first[0]).await?;
    trial.abort_between_stores(&period).await?;

    // Then both stores have the newest versions, each judged by the filter of its time, and the totals of the new definitions
    trial.check(&second).await?;

    // When an aggregate with late records is replaced by one with another name, Then the total of late records continues
    let late = trial.late(|late| late > 0).await?;
    let recent = pipeline["spec"]["aggregates"].as_array_mut().and_then(|all| all.last_mut());
    recent.context("an aggregate")?["name"] = json!("renamed");
    trial.world.apply(&pipeline).await?;
    trial.world.ready().await?;
    trial.send(&period, 0..period.persons).await?;
    trial.late(|now| now > late).await?;
    trial.world.clean_up().await
}
