//! How long a changed total takes from PostgreSQL to Cassandra.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use scylla::{client::session::Session, statement::prepared::PreparedStatement};
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{Client, Statement};
use userpipeline_api::names;
use userpipeline_benches::report::{median, quantile};
use userpipeline_tests::stores;

use super::{messages::TOTALS, steady::steadily, subject::Subject};

const POLL: Duration = Duration::from_millis(20);
/// A total that takes longer is lost.
const LOST: Duration = Duration::from_secs(60);
/// The groups that are watched, eight of 4,096.
const GROUPS: &str = "given_name = 'Ada' AND family_name = 'Okafor'";
const AGES: std::ops::Range<i64> = 18..26;

/// In seconds.
pub struct Delay {
    pub p50: f64,
    pub p99: f64,
    pub changes: usize,
}

/// A group's totals that PostgreSQL has and Cassandra does not have yet.
#[derive(Default)]
struct Group {
    latest: i64,
    missing: VecDeque<(i64, Instant)>,
}

struct Watch {
    db: Client,
    in_postgres: Statement,
    cassandra: Session,
    in_cassandra: PreparedStatement,
}

impl Watch {
    async fn open(subject: &Subject) -> Result<Self> {
        let client = &subject.world.client;
        let (db, cassandra) = (stores::postgres(client).await?, stores::cassandra(client).await?);
        let view = names::aggregate_view(&subject.postgres_table(), TOTALS);
        let table = names::aggregate_table(&subject.cassandra_table(), TOTALS);
        let in_postgres = format!("SELECT age, records FROM \"{view}\" WHERE {GROUPS} AND age = ANY($1)");
        let in_cassandra = format!(
            "SELECT records FROM \"{}\".\"{table}\" WHERE {GROUPS} AND age = ?",
            subject.keyspace()
        );
        Ok(Self {
            in_postgres: db.prepare(&in_postgres).await?,
            in_cassandra: cassandra.prepare(in_cassandra).await?,
            db,
            cassandra,
        })
    }

    async fn postgres(&self) -> Result<BTreeMap<i64, i64>> {
        let ages: Vec<i64> = AGES.collect();
        let rows = self.db.query(&self.in_postgres, &[&ages]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn cassandra(&self, age: i64) -> Result<(i64, i64)> {
        let found = self.cassandra.execute_unpaged(&self.in_cassandra, (age,)).await?;
        let row: Option<(Option<i64>,)> = found.into_rows_result()?.maybe_first_row()?;
        Ok((age, row.and_then(|(records,)| records).unwrap_or(0)))
    }

    /// Watches for so long, and then until Cassandra has everything: how long each change took, in seconds.
    async fn follow(&self, lasting: Duration) -> Result<Vec<f64>> {
        let first = self.postgres().await?;
        let mut groups: BTreeMap<i64, Group> = AGES.map(|age| (age, Group::default())).collect();
        for (age, records) in first {
            groups.entry(age).or_default().latest = records;
        }
        let (mut ticks, started, mut delays) = (interval(POLL), Instant::now(), Vec::new());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while started.elapsed() < lasting || groups.values().any(|group| !group.missing.is_empty()) {
            ticks.tick().await;
            let found = if started.elapsed() < lasting {
                self.postgres().await?
            } else {
                BTreeMap::new()
            };
            for (age, records) in found {
                let group = groups.entry(age).or_default();
                if records > group.latest {
                    group.latest = records;
                    group.missing.push_back((records, Instant::now()));
                }
            }
            for (age, records) in try_join_all(AGES.map(|age| self.cassandra(age))).await? {
                let missing = &mut groups.entry(age).or_default().missing;
                while let Some((_, since)) = missing.front().copied().filter(|(wanted, _)| *wanted <= records) {
                    missing.pop_front();
                    delays.push(since.elapsed().as_secs_f64());
                }
            }
            ensure!(started.elapsed() < lasting + LOST, "Cassandra lacks totals after {LOST:?}");
        }
        Ok(delays)
    }
}

/// While new messages come, beginning with the number `first`, for so long.
pub async fn measure(subject: &Subject, first: &AtomicU64, lasting: Duration) -> Result<Delay> {
    let watch = Watch::open(subject).await?;
    let produced = steadily(subject, first, lasting, |_, _| Ok(()));
    let ((), delays) = futures::try_join!(produced, watch.follow(lasting))?;
    ensure!(!delays.is_empty(), "no total changed");
    Ok(Delay {
        p50: median(delays.iter().copied()),
        changes: delays.len(),
        p99: quantile(delays, 0.99),
    })
}
