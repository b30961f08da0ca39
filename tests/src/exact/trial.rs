//! A trial: a pipeline under steady load, and queries for its progress.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;
use tokio::{sync::Mutex, task::JoinHandle, time::sleep};
use tokio_postgres::{Row, types::ToSql};
use userpipeline_api::{UserPipeline, names};

use super::{
    Store,
    garbage::Garbage,
    node::Node,
    services,
    source_model::{SourceModel, aggregates, record},
    source_server::SourceServer,
    volume::{self, Volume},
};
use crate::{World, eventually, random::SplitMix64, stores, world::SOON};

const PARTITIONS: i32 = 6;
/// Except while a fault scales them.
pub const WORKERS: usize = 2;
/// How many items change, and how often.
const REVISIONS: (usize, Duration) = (60, Duration::from_millis(200));
/// Messages that keep the workers busy for some seconds.
const BACKLOG: i64 = 400;
const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Trial {
    pub world: World,
    pub source_model: Arc<SourceModel>,
    pub server: SourceServer,
    pub node: Node,
    /// Holds the pipeline's tables in PostgreSQL.
    pub volume: Volume,
    /// Invalid messages that were put on the topic, by payload.
    pub planted: Mutex<BTreeMap<Vec<u8>, Garbage>>,
    load: JoinHandle<()>,
    db: Mutex<Option<Arc<tokio_postgres::Client>>>,
}

/// A lock on the sink table, which makes the workers fall behind.
pub struct SinkLock(tokio_postgres::Client);

impl SinkLock {
    pub async fn release(self) {
        // Without PostgreSQL there is no lock either.
        let _ = self.0.batch_execute("ROLLBACK").await;
    }
}

impl Trial {
    /// Creates a pipeline and waits until it is ready.
    pub async fn start(seed: u64) -> Result<Self> {
        let world = World::new("exact").await?;
        let node = Node::enter()?;
        super::network::heal(&node).await?;
        volume::unmount_all(&world.client, &node).await?;
        let model = Arc::new(SourceModel::new(seed));
        let server = SourceServer::start(&world.client, Arc::clone(&model)).await?;
        let volume = Volume::mount(&world.client, &node, &world.namespace).await?;

        let mut pipeline = world.pipeline_of(&record(), &server.url());
        let http = &mut pipeline["spec"]["source"]["http"];
        http["items"] = json!("/items");
        http["pagination"] = json!({"type": "Page", "parameter": "page"});
        http["rateLimit"] = json!({"requests": 20});
        http["timeout"] = json!("3s");
        pipeline["spec"]["kafka"]["topic"]["partitions"] = json!(PARTITIONS);
        pipeline["spec"]["workers"] = json!({"replicas": WORKERS, "batch": {"maxRecords": 50}});
        pipeline["spec"]["aggregates"] = aggregates();
        world.apply(&pipeline).await?;
        world.ready().await?;
        let trial = Self {
            load: tokio::spawn(async {}),
            world,
            source_model: model,
            server,
            node,
            volume,
            planted: Mutex::default(),
            db: Mutex::default(),
        };
        trial.volume.move_here(&trial.world.client, &trial.tables()).await?;
        Ok(trial)
    }

    /// The tables on the small volume.
    pub fn tables(&self) -> Vec<String> {
        let id = self.world.id();
        vec![names::landing_table(&id), names::postgres_table(&id)]
    }

    /// Changes items and starts one run after the other until [`Trial::stop_load`].
    pub fn start_load(&mut self) {
        let (world, model) = (self.world.clone(), Arc::clone(&self.source_model));
        self.load = tokio::spawn(async move {
            let mut n = 0;
            loop {
                model.revise(REVISIONS.0);
                // A fault may be in force.
                if let Err(error) = keep_running(&world, &mut n).await {
                    println!("      the load: {error:#}");
                }
                sleep(REVISIONS.1).await;
            }
        });
    }

    /// Stops the load and waits for the last runs.
    pub async fn stop_load(&self) -> Result<()> {
        self.load.abort();
        let jobs = self.world.api::<Job>();
        eventually("the last runs to end", Duration::from_secs(600), async || {
            let jobs = jobs.list(&ListParams::default()).await?;
            let active: Vec<String> = jobs.items.iter().filter(|job| is_active(job)).map(ResourceExt::name_any).collect();
            Ok(if active.is_empty() { Ok(()) } else { Err(format!("{active:?}")) })
        })
        .await
    }

    /// Reconnects to PostgreSQL if the connection is lost.
    async fn db(&self) -> Result<Arc<tokio_postgres::Client>> {
        let mut db = self.db.lock().await;
        if let Some(open) = db.as_ref().filter(|db| !db.is_closed()) {
            return Ok(Arc::clone(open));
        }
        let new = Arc::new(stores::postgres(&self.world.client).await?);
        *db = Some(Arc::clone(&new));
        Ok(new)
    }

    pub fn topic(&self) -> String {
        names::topic(&self.world.id())
    }

    /// The rows of a query. Retries while PostgreSQL restarts.
    pub async fn query(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        eventually("PostgreSQL's answer", SOON, async || {
            Ok(Ok(self.db().await?.query(statement, values).await?))
        })
        .await
    }

    /// The end offset of each partition.
    pub async fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        eventually("the topic's ends", SOON, async || {
            let (config, topic) = (stores::kafka_config().await?, self.topic());
            let ends: Result<BTreeMap<i32, i64>> = tokio::task::spawn_blocking(move || {
                let consumer: BaseConsumer = config.create()?;
                let end = |partition| Ok((partition, consumer.fetch_watermarks(&topic, partition, KAFKA_TIMEOUT)?.1));
                (0..PARTITIONS).map(end).collect()
            })
            .await?;
            Ok(Ok(ends?))
        })
        .await
    }

    /// The stored offset of each partition.
    pub async fn stored(&self) -> Result<BTreeMap<i32, i64>> {
        let statement = "SELECT partition, next_offset FROM userpipeline.progress WHERE group_id = $1";
        let rows = self.query(statement, &[&names::group_id(&self.world.id())]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The owner of each partition.
    pub async fn owners(&self) -> Result<BTreeMap<i32, uuid::Uuid>> {
        let statement = "SELECT partition, owner FROM userpipeline.progress WHERE group_id = $1";
        let rows = self.query(statement, &[&names::group_id(&self.world.id())]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    pub async fn lag(&self) -> Result<i64> {
        self.not_stored(&self.ends().await?).await
    }

    /// Messages before these end offsets that are not stored.
    pub async fn not_stored(&self, ends: &BTreeMap<i32, i64>) -> Result<i64> {
        let stored = self.stored().await?;
        let missing = |(partition, end): (&i32, &i64)| (end - stored.get(partition).copied().unwrap_or(0)).max(0);
        Ok(ends.iter().map(missing).sum())
    }

    /// Landed rows that are not published.
    pub async fn unpublished(&self) -> Result<i64> {
        let landing = &self.tables()[0];
        let statement = format!("SELECT count(*) FROM \"{landing}\" WHERE _published_version IS DISTINCT FROM _version");
        let rows = self.query(&statement, &[]).await?;
        Ok(rows.first().context("a number")?.get(0))
    }

    /// The number of members of the consumer group.
    pub async fn members(&self) -> Result<usize> {
        let (config, group) = (stores::kafka_config().await?, names::group_id(&self.world.id()));
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            let groups = consumer.fetch_group_list(Some(&group), KAFKA_TIMEOUT)?;
            Ok(groups.groups().iter().map(|group| group.members().len()).sum())
        })
        .await?
    }

    /// The running pods of a part of the pipeline.
    pub async fn running(&self, component: &str) -> Result<Vec<Pod>> {
        let mut pods = self.world.pods(component).await?;
        pods.retain(|pod| {
            pod.metadata.deletion_timestamp.is_none() && pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
        });
        Ok(pods)
    }

    /// Workers that are writing a batch.
    pub async fn in_flight(&self) -> Result<Vec<Pod>> {
        let mut busy = Vec::new();
        for pod in self.running("worker").await? {
            // A worker that has just started does not answer yet.
            if self.world.metric(&pod, "in_flight", "").await.unwrap_or(0.0) > 0.0 {
                busy.push(pod);
            }
        }
        Ok(busy)
    }

    /// Blocks the sink until there is a backlog and a batch in flight. Returns the lock and the blocked workers.
    pub async fn hold_sink(&self) -> Result<(SinkLock, Vec<Pod>)> {
        let db = stores::postgres(&self.world.client).await?;
        let table = &self.tables()[1];
        db.batch_execute(&format!(
            "SET idle_in_transaction_session_timeout = '120s'; BEGIN; LOCK TABLE \"{table}\" IN SHARE ROW EXCLUSIVE MODE"
        ))
        .await?;
        let busy = eventually("a backlog, and a batch in flight", Duration::from_secs(110), async || {
            let (lag, busy) = (self.lag().await?, self.in_flight().await?);
            Ok(if lag >= BACKLOG && !busy.is_empty() {
                Ok(busy)
            } else {
                Err(format!("lag {lag}, {} writing", busy.len()))
            })
        })
        .await?;
        Ok((SinkLock(db), busy))
    }

    /// Waits until every message that is on the topic now is stored.
    pub async fn recovered(&self) -> Result<()> {
        for store in Store::ALL {
            services::wait_until_ready(&self.world.client, store).await?;
        }
        let ends = self.ends().await?;
        eventually("what is on the topic to be stored", Duration::from_secs(180), async || {
            let stored = self.stored().await?;
            let missing: Vec<_> = ends.iter().filter(|(p, end)| stored.get(p).copied().unwrap_or(0) < **end).collect();
            Ok(if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("{missing:?} of {stored:?}"))
            })
        })
        .await
    }

    pub async fn scale_workers(&self, replicas: usize) -> Result<()> {
        let change = json!({"spec": {"workers": {"replicas": replicas}}});
        let pipelines: Api<UserPipeline> = self.world.api();
        pipelines.patch("users", &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }

    /// Starts a run beside the load.
    pub async fn start_run(&self, random: &mut SplitMix64) -> Result<String> {
        self.world.start_run(&format!("extra-{:x}", random.next_u64())).await
    }

    pub async fn process(&self, pod: &Pod, process: &str) -> Result<u32> {
        let uid = pod.uid().context("a uid")?;
        let pids = self.node.processes(&uid, process).await?;
        pids.first().copied().with_context(|| format!("{process} in {}", pod.name_any()))
    }

    /// Kills a worker with its pod, so that the next one starts at once and not after a back-off.
    pub async fn kill_worker(&self, pod: &Pod) -> Result<()> {
        self.signal(pod, "stream-worker", "KILL").await?;
        self.world.kill(&pod.name_any()).await
    }

    /// Sends a signal to a pod's process and returns its pid.
    pub async fn signal(&self, pod: &Pod, process: &str, signal: &str) -> Result<u32> {
        let pid = self.process(pod, process).await?;
        ensure!(self.node.signal(pid, signal).await?, "{process} is gone");
        Ok(pid)
    }

    /// Stops the load and unmounts the volume, also after a failure.
    pub async fn end(&self) -> Result<()> {
        self.load.abort();
        volume::unmount_all(&self.world.client, &self.node).await
    }

    /// Probes every millisecond: an effect may show only for a moment.
    pub async fn poll_until<T>(&self, within: Duration, mut probe: impl AsyncFnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Ok(Some(found)) = probe().await {
                return Ok(Some(found));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(None)
    }
}

fn is_active(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    !conditions.is_some_and(|all| {
        all.iter()
            .any(|c| ["Complete", "Failed"].contains(&c.type_.as_str()) && c.status == "True")
    })
}

/// Starts a run if none is active, and deletes the Jobs of the ended ones.
async fn keep_running(world: &World, n: &mut u32) -> Result<()> {
    let is_running = world.pods("ingest").await?.into_iter().any(|pod| {
        let phase = pod.status.and_then(|status| status.phase);
        phase.is_none_or(|phase| ["Pending", "Running"].contains(&phase.as_str()))
    });
    if is_running {
        return Ok(());
    }
    let jobs = world.api::<Job>();
    for job in jobs.list(&ListParams::default()).await? {
        let name = job.name_any();
        if (name.starts_with("load-") || name.starts_with("extra-")) && !is_active(&job) {
            jobs.delete(&name, &DeleteParams::background()).await?;
        }
    }
    *n += 1;
    world.start_run(&format!("load-{n}")).await.map(drop)
}
