//! A trial's scene: a pipeline under steady load, and eyes on how far it has come.

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
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::json;
use tokio::{sync::Mutex, task::JoinHandle, time::sleep};
use tokio_postgres::{Row, types::ToSql};
use userpipeline_api::{UserPipeline, names};

use super::{
    Store,
    book::{Book, record},
    garbage::Garbage,
    node::Node,
    server::Server,
    services,
    volume::{self, Volume},
};
use crate::{World, cluster::host, dice::Dice, eventually, stores, world::SOON};

const PARTITIONS: i32 = 6;
/// So many workers there are, but for a while.
pub const WORKERS: usize = 2;
/// So many revisions each so often.
const REVISED: (usize, Duration) = (60, Duration::from_millis(200));
/// A backlog that takes the workers a while.
const BACKLOG: i64 = 400;
const PATIENCE: Duration = Duration::from_secs(10);

/// A trial's scene.
pub struct Scene {
    /// Where it takes place.
    pub world: World,
    /// What the source serves.
    pub book: Arc<Book>,
    /// The source.
    pub server: Server,
    /// The node.
    pub node: Node,
    /// The volume of the pipeline's tables in PostgreSQL.
    pub volume: Volume,
    /// Messages that were put on the topic and are no records, by what they hold.
    pub planted: Mutex<BTreeMap<Vec<u8>, Garbage>>,
    load: JoinHandle<()>,
    db: Mutex<Option<Arc<tokio_postgres::Client>>>,
}

/// Who holds the sink table, so that the workers fall behind.
pub struct Dam(tokio_postgres::Client);

impl Dam {
    /// Lets the workers go on.
    pub async fn open(self) {
        // Where PostgreSQL is gone, so is the lock.
        let _ = self.0.batch_execute("ROLLBACK").await;
    }
}

impl Scene {
    /// A pipeline that is ready, and the load on it.
    pub async fn set(seed: u64) -> Result<Self> {
        let world = World::new("exact").await?;
        let node = Node::enter()?;
        super::network::heal(&node).await?;
        volume::unmount_all(&world.client, &node).await?;
        let book = Arc::new(Book::new(seed));
        let server = Server::start(&world.client, Arc::clone(&book)).await?;
        let volume = Volume::mount(&world.client, &node, &world.namespace).await?;

        let mut pipeline = world.pipeline_of(&record(), &server.url());
        let http = &mut pipeline["spec"]["source"]["http"];
        http["items"] = json!("/items");
        http["pagination"] = json!({"type": "Page", "parameter": "page"});
        http["rateLimit"] = json!({"requests": 20});
        http["timeout"] = json!("3s");
        pipeline["spec"]["kafka"]["topic"]["partitions"] = json!(PARTITIONS);
        pipeline["spec"]["workers"] = json!({"replicas": WORKERS, "batch": {"maxRecords": 50}});
        world.apply(&pipeline).await?;
        world.ready().await?;
        let scene = Self {
            load: tokio::spawn(async {}),
            world,
            book,
            server,
            node,
            volume,
            planted: Mutex::default(),
            db: Mutex::default(),
        };
        scene.volume.take(&scene.world.client, &scene.tables()).await?;
        Ok(scene)
    }

    /// The tables that are on the small volume.
    pub fn tables(&self) -> Vec<String> {
        let id = self.world.id();
        vec![names::landing_table(&id), names::postgres_table(&id)]
    }

    /// Items change, and one run follows the other, until [`Scene::calm`].
    pub fn begin(&mut self) {
        let (world, book) = (self.world.clone(), Arc::clone(&self.book));
        self.load = tokio::spawn(async move {
            let mut n = 0;
            loop {
                book.revise(REVISED.0);
                // Whatever is broken at the moment is broken on purpose.
                if let Err(error) = keep_running(&world, &mut n).await {
                    println!("      the load: {error:#}");
                }
                sleep(REVISED.1).await;
            }
        });
    }

    /// Nothing changes any more, and no run begins.
    pub async fn calm(&self) -> Result<()> {
        self.load.abort();
        let jobs = self.world.api::<Job>();
        eventually("the last runs to end", Duration::from_secs(600), async || {
            let jobs = jobs.list(&ListParams::default()).await?;
            let active: Vec<String> = jobs.items.iter().filter(|job| is_active(job)).map(ResourceExt::name_any).collect();
            Ok(if active.is_empty() { Ok(()) } else { Err(format!("{active:?}")) })
        })
        .await
    }

    /// A connection to PostgreSQL, a new one where the last is lost.
    async fn db(&self) -> Result<Arc<tokio_postgres::Client>> {
        let mut db = self.db.lock().await;
        if let Some(there) = db.as_ref().filter(|there| !there.is_closed()) {
            return Ok(Arc::clone(there));
        }
        let new = Arc::new(stores::postgres(&self.world.client).await?);
        *db = Some(Arc::clone(&new));
        Ok(new)
    }

    /// The topic.
    pub fn topic(&self) -> String {
        names::topic(&self.world.id())
    }

    /// The rows of a query, also a moment after PostgreSQL came back.
    pub async fn query(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        eventually("PostgreSQL's answer", SOON, async || {
            Ok(Ok(self.db().await?.query(statement, values).await?))
        })
        .await
    }

    /// Where each partition ends.
    pub async fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        eventually("the topic's ends", SOON, async || {
            let topic = self.topic();
            let ends: Result<BTreeMap<i32, i64>> = tokio::task::spawn_blocking(move || {
                let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", host::KAFKA).create()?;
                let end = |partition| Ok((partition, consumer.fetch_watermarks(&topic, partition, PATIENCE)?.1));
                (0..PARTITIONS).map(end).collect()
            })
            .await?;
            Ok(Ok(ends?))
        })
        .await
    }

    /// How far each partition is stored.
    pub async fn stored(&self) -> Result<BTreeMap<i32, i64>> {
        let statement = "SELECT partition, next_offset FROM userpipeline.progress WHERE group_id = $1";
        let rows = self.query(statement, &[&names::group_id(&self.world.id())]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Who owns each partition.
    pub async fn owners(&self) -> Result<BTreeMap<i32, uuid::Uuid>> {
        let statement = "SELECT partition, owner FROM userpipeline.progress WHERE group_id = $1";
        let rows = self.query(statement, &[&names::group_id(&self.world.id())]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Messages on the topic that are not stored.
    pub async fn lag(&self) -> Result<i64> {
        self.behind(&self.ends().await?).await
    }

    /// Messages before these ends that are not stored.
    pub async fn behind(&self, ends: &BTreeMap<i32, i64>) -> Result<i64> {
        let stored = self.stored().await?;
        let behind = |(partition, end): (&i32, &i64)| (end - stored.get(partition).copied().unwrap_or(0)).max(0);
        Ok(ends.iter().map(behind).sum())
    }

    /// Rows that are landed and not published.
    pub async fn unpublished(&self) -> Result<i64> {
        let landing = &self.tables()[0];
        let statement = format!("SELECT count(*) FROM \"{landing}\" WHERE _published_version IS DISTINCT FROM _version");
        let rows = self.query(&statement, &[]).await?;
        Ok(rows.first().context("a number")?.get(0))
    }

    /// The members of the consumer group.
    pub async fn members(&self) -> Result<usize> {
        let group = names::group_id(&self.world.id());
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", host::KAFKA).create()?;
            let groups = consumer.fetch_group_list(Some(&group), PATIENCE)?;
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
            // One that has just started does not answer yet.
            if self.world.metric(&pod, "in_flight", "").await.unwrap_or(0.0) > 0.0 {
                busy.push(pod);
            }
        }
        Ok(busy)
    }

    /// Keeps the workers from writing until there is a backlog, and a batch in flight. Gives who holds them, and those workers.
    pub async fn dam_up(&self) -> Result<(Dam, Vec<Pod>)> {
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
        Ok((Dam(db), busy))
    }

    /// Waits until everything that is on the topic by now is stored: the pipeline has recovered.
    pub async fn recovered(&self) -> Result<()> {
        for store in Store::ALL {
            services::back(&self.world.client, store).await?;
        }
        let ends = self.ends().await?;
        eventually("what is on the topic to be stored", Duration::from_secs(180), async || {
            let stored = self.stored().await?;
            let behind: Vec<_> = ends.iter().filter(|(p, end)| stored.get(p).copied().unwrap_or(0) < **end).collect();
            Ok(if behind.is_empty() {
                Ok(())
            } else {
                Err(format!("{behind:?} of {stored:?}"))
            })
        })
        .await
    }

    /// Asks for so many workers.
    pub async fn ask_for(&self, replicas: usize) -> Result<()> {
        let change = json!({"spec": {"workers": {"replicas": replicas}}});
        let pipelines: Api<UserPipeline> = self.world.api();
        pipelines.patch("users", &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }

    /// Starts a run of its own, beside the load.
    pub async fn start_run(&self, dice: &mut Dice) -> Result<String> {
        self.world.start_run(&format!("extra-{:x}", dice.roll())).await
    }

    /// A pod's process.
    pub async fn process(&self, pod: &Pod, process: &str) -> Result<u32> {
        let uid = pod.uid().context("a uid")?;
        let pids = self.node.processes(&uid, process).await?;
        pids.first().copied().with_context(|| format!("{process} in {}", pod.name_any()))
    }

    /// Sends a signal to a pod's process; gives its number.
    pub async fn signal(&self, pod: &Pod, process: &str, signal: &str) -> Result<u32> {
        let pid = self.process(pod, process).await?;
        ensure!(self.node.signal(pid, signal).await?, "{process} is gone");
        Ok(pid)
    }

    /// Ends the load and takes the volume away, however the trial went.
    pub async fn end(&self) -> Result<()> {
        self.load.abort();
        volume::unmount_all(&self.world.client, &self.node).await
    }

    /// Looks again and again, without a pause, whether something is so.
    pub async fn catch<T>(&self, within: Duration, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Ok(Some(seen)) = look().await {
                return Ok(Some(seen));
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

/// Starts a run where none is at work, and clears away those that have ended.
async fn keep_running(world: &World, n: &mut u32) -> Result<()> {
    let at_work = world.pods("ingest").await?.into_iter().any(|pod| {
        let phase = pod.status.and_then(|status| status.phase);
        phase.is_none_or(|phase| ["Pending", "Running"].contains(&phase.as_str()))
    });
    if at_work {
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
