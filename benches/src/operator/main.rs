//! Measures the cost of the operator: `bench-operator --pipelines 1000 --program PATH`, against the local cluster.
//!
//! Creates suspended pipelines for a released operator; a fake kubelet completes the pods of their schema Jobs. Each line is
//! `NAME: MEASURED (target T) ok|short`; the exit code is 1 if any is short.

mod process;
mod proxy;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{batch::v1::CronJob, core::v1::Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use userpipeline_api::{UserPipeline, names};
use userpipeline_tests::{
    cluster,
    crash::{Lease, Sandbox, kubelet},
    world::LABEL,
};

use self::{process::Operator, proxy::Proxy};

/// Bytes per pipeline, in addition to an operator without pipelines.
const TARGET_MEMORY: u64 = 30 * 1024;
const TARGET_P99: Duration = Duration::from_secs(1);
/// Hundredths.
const TARGET_REQUESTS: u64 = 200;
const EDITS: usize = 200;
const CREATE_AT_ONCE: usize = 16;

/// What the operator costs.
#[derive(Parser)]
struct Arguments {
    /// Number of pipelines.
    #[arg(long, default_value_t = 1000)]
    pipelines: usize,
    /// Path of the operator's release build.
    #[arg(long)]
    program: PathBuf,
}

/// A line of the report.
struct Line {
    name: &'static str,
    measured: String,
    target: String,
    ok: bool,
}

impl Line {
    fn print(&self) {
        let word = if self.ok { "ok" } else { "short" };
        println!("{}: {} (target {}) {word}", self.name, self.measured, self.target);
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(bench(&Arguments::parse())).await {
        Ok(lines) => {
            lines.iter().for_each(Line::print);
            ExitCode::from(u8::from(lines.iter().any(|line| !line.ok)))
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

async fn bench(arguments: &Arguments) -> Result<Vec<Line>> {
    let client = cluster::connect().await?;
    let lease = Lease::take(client.clone()).await?;
    let namespace = format!("bench-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let manifest = serde_json::from_value(json!({"metadata": {"name": namespace, "labels": {LABEL: "true"}}}))?;
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.create(&PostParams::default(), &manifest).await?;
    let kubelet = tokio::spawn(kubelet::run(client.clone(), namespace.clone()));
    let result = measure(arguments, &client, &namespace).await;
    kubelet.abort();
    namespaces.delete(&namespace, &DeleteParams::background()).await?;
    drop(lease);
    result
}

async fn measure(arguments: &Arguments, client: &Client, namespace: &str) -> Result<Vec<Line>> {
    let count = arguments.pipelines;
    ensure!(count > 0, "--pipelines must be at least 1");
    let proxy = Proxy::start(client.clone()).await?;
    let mut operator = Operator::start(&arguments.program, &proxy, namespace).await?;
    let base = operator.memory()?;

    // From an empty namespace
    let pipelines: Api<UserPipeline> = Api::namespaced(client.clone(), namespace);
    let started = Instant::now();
    create(&pipelines, count).await?;
    eprintln!("{count} pipelines created after {:.0?}", started.elapsed());
    settled(&pipelines, count).await?;
    let converged = started.elapsed();
    operator.quiet(&proxy).await?;
    let memory = operator.memory()?.saturating_sub(base);
    let requests = u64::try_from(proxy.requests().saturating_sub(proxy.watches()))?;
    let reconciles = operator.reconciles().await?.max(1);

    // A cold restart
    operator.stop().await?;
    let before = proxy.writes();
    operator = Operator::start(&arguments.program, &proxy, namespace).await?;
    operator.reconciled(count).await?;
    operator.quiet(&proxy).await?;
    let after = proxy.writes();
    let restarted = operator.memory()?.saturating_sub(base);

    // Edits
    let mut waits = edits(client, namespace, count).await?;
    waits.sort();
    operator.stop().await?;

    Ok(report(&Measurements {
        pipelines: u64::try_from(count)?,
        base,
        memory,
        restarted,
        converged,
        restart_writes: difference(&before, &after),
        edits: waits,
        requests,
        reconciles,
    }))
}

/// Memory is in bytes.
struct Measurements {
    pipelines: u64,
    base: u64,
    memory: u64,
    restarted: u64,
    converged: Duration,
    restart_writes: BTreeMap<String, usize>,
    /// Sorted.
    edits: Vec<Duration>,
    requests: u64,
    reconciles: u64,
}

fn report(measured: &Measurements) -> Vec<Line> {
    let memory_line = |name, bytes: u64| Line {
        name,
        measured: format!(
            "{} bytes ({} MiB beside {} MiB)",
            bytes / measured.pipelines,
            bytes >> 20,
            measured.base >> 20
        ),
        target: format!("{TARGET_MEMORY} bytes"),
        ok: bytes / measured.pipelines < TARGET_MEMORY,
    };
    let edits = &measured.edits;
    let at = |hundredth: usize| edits[(edits.len() * hundredth / 100).min(edits.len() - 1)];
    let writes: usize = measured.restart_writes.values().sum();
    let (requests, reconciles) = (measured.requests, measured.reconciles);
    let hundredths = requests * 100 / reconciles;
    vec![
        memory_line("memory per pipeline after converging", measured.memory),
        memory_line("memory per pipeline after a restart", measured.restarted),
        Line {
            name: "time to converge from nothing",
            measured: format!("{:.0?} for {}, two Jobs each", measured.converged, measured.pipelines),
            target: "none: the cluster's controllers set the pace".to_owned(),
            ok: true,
        },
        Line {
            name: "writes on a cold restart",
            measured: format!("{writes} {:?}", measured.restart_writes),
            target: "0".to_owned(),
            ok: writes == 0,
        },
        Line {
            name: "from an edit to the children applied",
            measured: format!("p50 {:.0?}, p99 {:.0?} over {} edits", at(50), at(99), edits.len()),
            target: format!("p99 {TARGET_P99:?}"),
            ok: at(99) < TARGET_P99,
        },
        Line {
            name: "requests per reconcile while converging",
            measured: format!("{}.{:02} ({requests} for {reconciles})", hundredths / 100, hundredths % 100),
            target: format!("{}.{:02}", TARGET_REQUESTS / 100, TARGET_REQUESTS % 100),
            ok: hundredths < TARGET_REQUESTS,
        },
    ]
}

fn difference(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let more = |(what, now): (&String, &usize)| (what.clone(), now - before.get(what).unwrap_or(&0));
    after.iter().map(more).filter(|(_, more)| *more > 0).collect()
}

async fn create(pipelines: &Api<UserPipeline>, count: usize) -> Result<()> {
    stream::iter(0..count)
        .map(|i| async move {
            let mut pipeline = Sandbox::pipeline();
            pipeline["metadata"]["name"] = json!(format!("users-{i}"));
            pipeline["spec"]["suspend"] = json!(true);
            pipelines
                .create(&PostParams::default(), &serde_json::from_value(pipeline)?)
                .await
                .map(drop)
                .map_err(anyhow::Error::from)
        })
        .buffer_unordered(CREATE_AT_ONCE)
        .try_collect()
        .await
}

/// Waits until all pipelines are suspended and Ready.
async fn settled(pipelines: &Api<UserPipeline>, count: usize) -> Result<()> {
    let mut settled = BTreeMap::new();
    let mut events = watcher(pipelines.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let mut reported = Instant::now();
    while settled.values().filter(|settled| **settled).count() < count {
        let Ok(Some(next)) = tokio::time::timeout(Duration::from_secs(300), events.next()).await else {
            anyhow::bail!(
                "nothing has settled for five minutes: {} of {count}",
                settled.values().filter(|s| **s).count()
            );
        };
        let Ok(pipeline) = next else { continue };
        let conditions = pipeline.status.clone().unwrap_or_default().conditions;
        let is = |type_: &str| conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
        settled.insert(pipeline.name_any(), is("Suspended") && is("Ready"));
        if reported.elapsed() > Duration::from_secs(20) {
            eprintln!("{} of {count} settled", settled.values().filter(|s| **s).count());
            reported = Instant::now();
        }
    }
    Ok(())
}

/// The times from an edit of a schedule until the CronJob has it. Edits are sequential.
async fn edits(client: &Client, namespace: &str, count: usize) -> Result<Vec<Duration>> {
    let pipelines: Api<UserPipeline> = Api::namespaced(client.clone(), namespace);
    let cron_jobs: Api<CronJob> = Api::namespaced(client.clone(), namespace);
    let mut events = watcher(cron_jobs, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let mut waits = Vec::new();
    for edit in 0..EDITS.min(count * 4) {
        let name = format!("users-{}", edit % count);
        let schedule = format!("{} {} 1 1 *", edit % 60, 1 + edit / 60);
        let started = Instant::now();
        let change = json!({"spec": {"schedule": {"cron": schedule}}});
        pipelines.patch(&name, &PatchParams::default(), &Patch::Merge(change)).await?;
        let cron_job = names::cron_job(&name);
        loop {
            let next = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
            let found = next
                .with_context(|| format!("{cron_job} did not change"))?
                .context("the watch has ended")??;
            if found.name_any() == cron_job && found.spec.is_some_and(|spec| spec.schedule == schedule) {
                break;
            }
        }
        waits.push(started.elapsed());
    }
    Ok(waits)
}
