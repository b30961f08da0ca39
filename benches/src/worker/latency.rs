//! How long a message takes from its producer to both stores, against the least that it could take.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures::future::join_all;
use scylla::{client::session::Session, statement::prepared::PreparedStatement};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{MissedTickBehavior, interval},
};
use tokio_postgres::{Client, Statement};
use userpipeline_benches::report::{median, quantile};
use userpipeline_tests::stores;
use uuid::Uuid;

use super::{
    steady::{PER_TICK, steadily},
    subject::Subject,
};

/// One message in so many ticks is followed.
const FOLLOWED: u64 = 10;
const WARM_UP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(2);
/// A message that takes longer is lost.
const LOST: Duration = Duration::from_secs(60);

/// In milliseconds.
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    /// The median of one COMMIT of a row plus that of one insert into Cassandra, in the same time.
    pub bare: f64,
}

/// Clients that look for records.
struct Probe {
    db: Client,
    /// A connection on which no query waits for others.
    bare: Client,
    cassandra: Session,
    in_postgres: Statement,
    in_cassandra: PreparedStatement,
    commit: Statement,
    insert: PreparedStatement,
}

impl Probe {
    /// `table`: PostgreSQL's.
    async fn open(subject: &Subject, table: &str) -> Result<Self> {
        let db = stores::postgres(&subject.world.client).await?;
        let cassandra = stores::cassandra(&subject.world.client).await?;
        let there = format!("\"{}\".\"{}\"", subject.keyspace(), subject.cassandra_table());
        let in_cassandra = cassandra.prepare(format!("SELECT id FROM {there} WHERE id = ?")).await?;
        let insert = cassandra
            .prepare(format!("INSERT INTO {there} (id, revision) VALUES (?, 0)"))
            .await?;
        let bare = stores::postgres(&subject.world.client).await?;
        bare.batch_execute("CREATE TABLE IF NOT EXISTS bench_bare (id uuid PRIMARY KEY)")
            .await?;
        Ok(Self {
            in_postgres: db
                .prepare(&format!("SELECT DISTINCT id FROM \"{table}\" WHERE id = ANY($1)"))
                .await?,
            commit: bare.prepare("INSERT INTO bench_bare VALUES ($1)").await?,
            bare,
            in_cassandra,
            insert,
            db,
            cassandra,
        })
    }

    /// Looks for the records that come until the channel closes: how long each took, in milliseconds. One query at a time asks for all of
    /// them, so that looking costs the same however long they take.
    async fn follow(&self, mut coming: UnboundedReceiver<(Uuid, Instant)>) -> Result<Vec<f64>> {
        let (mut missing, mut taken): (Vec<(Uuid, Instant)>, Vec<f64>) = (Vec::new(), Vec::new());
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while let Ok(next) = coming.try_recv() {
                missing.push(next);
            }
            if missing.is_empty() {
                if coming.is_closed() && coming.is_empty() {
                    return Ok(taken);
                }
                continue;
            }
            let ids: Vec<Uuid> = missing.iter().map(|(id, _)| *id).collect();
            let rows = self.db.query(&self.in_postgres, &[&ids]).await?;
            let in_postgres: BTreeSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            let mut left = Vec::new();
            for (id, begun) in missing {
                if in_postgres.contains(&id) && self.is_in_cassandra(id).await? {
                    taken.push(begun.elapsed().as_secs_f64() * 1e3);
                } else {
                    ensure!(begun.elapsed() < LOST, "the stores do not have record {id} after {LOST:?}");
                    left.push((id, begun));
                }
            }
            missing = left;
        }
    }

    async fn is_in_cassandra(&self, id: Uuid) -> Result<bool> {
        let found = self.cassandra.execute_unpaged(&self.in_cassandra, (id,)).await?;
        Ok(found.into_rows_result()?.rows_num() > 0)
    }

    /// The time of one COMMIT, and that of one insert.
    async fn bare(&self) -> Result<(Duration, Duration)> {
        let id = Uuid::new_v4();
        let started = Instant::now();
        self.bare.execute(&self.commit, &[&id]).await?;
        let committed = started.elapsed();
        let started = Instant::now();
        self.cassandra.execute_unpaged(&self.insert, (id,)).await?;
        Ok((committed, started.elapsed()))
    }
}

/// Produces new messages, beginning with the number `first`, for so long, and follows some of them.
pub async fn measure(subject: &Subject, table: &str, first: &AtomicU64, lasting: Duration) -> Result<Latency> {
    let probe = Arc::new(Probe::open(subject, table).await?);
    let (follow, coming) = unbounded_channel();
    let following = tokio::spawn({
        let probe = Arc::clone(&probe);
        async move { probe.follow(coming).await }
    });
    let (mut bare, mut acknowledged) = (Vec::new(), Vec::new());
    steadily(subject, first, WARM_UP + lasting, |message, delivery| {
        let is_measured = message.elapsed > WARM_UP && message.tick % FOLLOWED == 0;
        if is_measured && message.of_tick == 0 {
            follow.send((message.id, message.begun))?;
            let begun = message.begun;
            acknowledged.push(tokio::spawn(async move {
                delivery.await?.map_err(|(e, _)| e)?;
                anyhow::Ok(begun.elapsed())
            }));
        } else if is_measured && message.of_tick == PER_TICK / 2 {
            let probe = Arc::clone(&probe);
            bare.push(tokio::spawn(async move { probe.bare().await }));
        }
        Ok(())
    })
    .await?;
    drop(follow);
    let milliseconds = following.await??;
    let (mut commits, mut inserts) = (Vec::new(), Vec::new());
    for times in join_all(bare).await {
        let (commit, insert) = times??;
        commits.push(commit.as_secs_f64() * 1e3);
        inserts.push(insert.as_secs_f64() * 1e3);
    }
    let mut of_kafka = Vec::new();
    for time in join_all(acknowledged).await {
        of_kafka.push(time??.as_secs_f64() * 1e3);
    }
    println!(
        "acknowledged by Kafka: p50 {:.1} ms, p99 {:.1} ms",
        median(of_kafka.iter().copied()),
        quantile(of_kafka, 0.99)
    );
    probe.bare.batch_execute("DROP TABLE IF EXISTS bench_bare").await?;
    Ok(Latency {
        p50: median(milliseconds.iter().copied()),
        p99: quantile(milliseconds, 0.99),
        bare: median(commits) + median(inserts),
    })
}
