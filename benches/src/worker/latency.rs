//! How long a message takes from its producer to both stores, against the least that it could take.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures::future::{join_all, try_join};
use rdkafka::producer::{FutureProducer, FutureRecord};
use scylla::{client::session::Session, statement::prepared::PreparedStatement};
use tokio::time::{interval, sleep};
use tokio_postgres::{Client, Statement};
use userpipeline_benches::report::{median, quantile};
use userpipeline_tests::stores;
use uuid::Uuid;

use super::{messages::Reading, subject::Subject};

const PER_TICK: u64 = 20;
/// 2,000 messages a second.
const TICK: Duration = Duration::from_millis(10);
/// One message in so many ticks is followed.
const FOLLOWED: u64 = 10;
const WARM_UP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(1);
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
            in_postgres: db.prepare(&format!("SELECT 1 FROM \"{table}\" WHERE id = $1 LIMIT 1")).await?,
            commit: bare.prepare("INSERT INTO bench_bare VALUES ($1)").await?,
            bare,
            in_cassandra,
            insert,
            db,
            cassandra,
        })
    }

    /// Waits until both stores have a record.
    async fn stored(&self, id: Uuid) -> Result<()> {
        let started = Instant::now();
        let postgres = async {
            while self.db.query(&self.in_postgres, &[&id]).await?.is_empty() {
                ensure!(started.elapsed() < LOST, "PostgreSQL has no record {id} after {LOST:?}");
                sleep(POLL).await;
            }
            Ok(())
        };
        let cassandra = async {
            let has = async || {
                let found = self.cassandra.execute_unpaged(&self.in_cassandra, (id,)).await?;
                Ok::<_, anyhow::Error>(found.into_rows_result()?.rows_num() > 0)
            };
            while !has().await? {
                ensure!(started.elapsed() < LOST, "Cassandra has no record {id} after {LOST:?}");
                sleep(POLL).await;
            }
            Ok(())
        };
        try_join(postgres, cassandra).await.map(drop)
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
    let producer: FutureProducer = stores::kafka_config().await?.set("acks", "all").set("linger.ms", "0").create()?;
    let topic = subject.topic();
    let mut ticks = interval(TICK);
    let started = Instant::now();
    let (mut followed, mut bare) = (Vec::new(), Vec::new());
    for tick in 0_u64.. {
        ticks.tick().await;
        if started.elapsed() > WARM_UP + lasting {
            break;
        }
        let is_measured = started.elapsed() > WARM_UP && tick % FOLLOWED == 0;
        for number in 0..PER_TICK {
            let reading = Reading::new(first.fetch_add(1, Ordering::Relaxed));
            let (key, value) = (reading.id.to_string(), reading.json());
            let begun = Instant::now();
            let sent = producer
                .send_result(FutureRecord::to(&topic).key(&key).payload(&value))
                .map_err(|(e, _)| e)?;
            let probe = Arc::clone(&probe);
            if is_measured && number == 0 {
                followed.push(tokio::spawn(async move {
                    sent.await?.map_err(|(e, _)| e)?;
                    probe.stored(reading.id).await?;
                    Ok::<_, anyhow::Error>(begun.elapsed())
                }));
            } else if is_measured && number == PER_TICK / 2 {
                bare.push(tokio::spawn(async move { probe.bare().await }));
            }
        }
    }
    let mut milliseconds = Vec::new();
    for elapsed in join_all(followed).await {
        milliseconds.push(elapsed??.as_secs_f64() * 1e3);
    }
    let (mut commits, mut inserts) = (Vec::new(), Vec::new());
    for times in join_all(bare).await {
        let (commit, insert) = times??;
        commits.push(commit.as_secs_f64() * 1e3);
        inserts.push(insert.as_secs_f64() * 1e3);
    }
    probe.db.batch_execute("DROP TABLE IF EXISTS bench_bare").await?;
    Ok(Latency {
        p50: median(milliseconds.iter().copied()),
        p99: quantile(milliseconds, 0.99),
        bare: median(commits) + median(inserts),
    })
}
