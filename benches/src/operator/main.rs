//! Measures the cost of the operator: `bench-operator --pipelines 1000 --program PATH`, against the local cluster.
//!
//! Creates suspended pipelines for a released operator; a fake kubelet completes the pods of their schema and drain Jobs. With
//! `--seeded`, one pipeline is converged so; the others get its status and need no Job. Each line is
//! `NAME: MEASURED (target T) ok|short`; the exit code is 1 if any is short.
//!
//! The operator of the cluster stands by meanwhile, because the bench holds its Lease.

mod controllers;
mod pipelines;
mod process;
mod proxy;
mod report;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Result, anyhow, ensure};
use clap::Parser;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use userpipeline_api::UserPipeline;
use userpipeline_tests::{
    cluster,
    crash::{Lease, kubelet},
    strimzi::in_memory::InMemoryKafka,
    world::LABEL,
};

use self::{
    process::Operator,
    proxy::Proxy,
    report::{Converged, Line, Measurements, Restarted},
};

/// What the operator costs.
#[derive(Parser)]
struct Arguments {
    /// Number of pipelines.
    #[arg(long, default_value_t = 1000)]
    pipelines: usize,
    /// Path of the operator's release build.
    #[arg(long)]
    program: PathBuf,
    /// All pipelines but one begin with an applied schema and a verified drain.
    #[arg(long)]
    seeded: bool,
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
    ensure!(arguments.pipelines > 0, "--pipelines must be at least 1");
    let client = cluster::connect().await?;
    let lease = Lease::take(client.clone()).await?;
    let namespace = format!("bench-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let manifest = serde_json::from_value(json!({"metadata": {"name": namespace, "labels": {LABEL: "true"}}}))?;
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.create(&PostParams::default(), &manifest).await?;
    let controllers = futures::future::join3(
        kubelet::run(client.clone(), namespace.clone(), InMemoryKafka::default()),
        controllers::complete_jobs(client.clone(), namespace.clone()),
        controllers::observe_deployments(client.clone(), namespace.clone()),
    );
    let bench = Bench {
        arguments,
        pipelines: Api::namespaced(client.clone(), &namespace),
        client: client.clone(),
        namespace: namespace.clone(),
    };
    let result = tokio::select! {
        result = bench.run() => result,
        _ = controllers => Err(anyhow!("a watch of the bench has ended")),
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
    };
    // Before the operator of the cluster leads again: its memory is limited.
    let deleted = pipelines::delete(&bench.pipelines).await;
    namespaces.delete(&namespace, &DeleteParams::background()).await?;
    drop(lease);
    let measurements = result?;
    deleted?;
    Ok(measurements.lines())
}

struct Bench<'a> {
    arguments: &'a Arguments,
    client: Client,
    namespace: String,
    pipelines: Api<UserPipeline>,
}

impl Bench<'_> {
    async fn run(&self) -> Result<Measurements> {
        let proxy = Proxy::start(self.client.clone()).await?;
        let operator = self.start(&proxy).await?;
        let base = operator.memory()?;
        let converged = if self.arguments.seeded {
            self.converge_seeded(operator, &proxy, base).await?
        } else {
            self.converge(operator, &proxy, base).await?
        };
        let (restarted, edits) = self.restart(&proxy, base).await?;
        Ok(Measurements {
            pipelines: u64::try_from(self.arguments.pipelines)?,
            is_seeded: self.arguments.seeded,
            base,
            converged,
            restarted,
            edits,
        })
    }

    async fn start(&self, proxy: &Proxy) -> Result<Operator> {
        Operator::start(&self.arguments.program, proxy, &self.namespace).await
    }

    /// From an empty namespace.
    async fn converge(&self, operator: Operator, proxy: &Proxy, base: u64) -> Result<Converged> {
        let started = Instant::now();
        pipelines::create(&self.pipelines, 0..self.arguments.pipelines).await?;
        eprintln!("{} pipelines created after {:.0?}", self.arguments.pipelines, started.elapsed());
        self.converged(operator, proxy, base, started).await
    }

    /// From pipelines that need no Job.
    async fn converge_seeded(&self, operator: Operator, proxy: &Proxy, base: u64) -> Result<Converged> {
        pipelines::create(&self.pipelines, 0..1).await?;
        pipelines::settled(&self.pipelines, 1).await?;
        operator.quiet(proxy).await?;
        operator.stop().await?;
        let started = Instant::now();
        pipelines::seed(&self.pipelines, 1..self.arguments.pipelines).await?;
        eprintln!("{} pipelines seeded after {:.0?}", self.arguments.pipelines, started.elapsed());
        let started = Instant::now();
        let operator = self.start(proxy).await?;
        self.converged(operator, proxy, base, started).await
    }

    async fn converged(&self, operator: Operator, proxy: &Proxy, base: u64, started: Instant) -> Result<Converged> {
        pipelines::settled(&self.pipelines, self.arguments.pipelines).await?;
        let after = started.elapsed();
        operator.quiet(proxy).await?;
        eprintln!("written while converging: {:?}", proxy.writes());
        let converged = Converged {
            after,
            memory: operator.memory()?.saturating_sub(base),
            cpu: operator.cpu_time()?,
            requests: u64::try_from(proxy.requests().saturating_sub(proxy.watches()))?,
            reconciles: operator.reconciles().await?.max(1),
        };
        operator.stop().await?;
        Ok(converged)
    }

    /// A cold restart, and then edits.
    async fn restart(&self, proxy: &Proxy, base: u64) -> Result<(Restarted, Vec<std::time::Duration>)> {
        let before = proxy.writes();
        let operator = self.start(proxy).await?;
        operator.reconciled(self.arguments.pipelines).await?;
        operator.quiet(proxy).await?;
        let restarted = Restarted {
            memory: operator.memory()?.saturating_sub(base),
            cpu: operator.cpu_time()?,
            writes: difference(&before, &proxy.writes()),
            p99: operator.reconcile_p99().await?,
        };
        let edits = pipelines::edit(&self.client, &self.namespace, self.arguments.pipelines).await?;
        operator.stop().await?;
        Ok((restarted, edits))
    }
}

fn difference(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let more = |(what, now): (&String, &usize)| (what.clone(), now - before.get(what).unwrap_or(&0));
    after.iter().map(more).filter(|(_, more)| *more > 0).collect()
}
