//! Runs the operator in this process against the real API server and controllers of the cluster, with faults in its writes.
//!
//! A trial runs a scenario in a new namespace. A fake kubelet completes the pods, so that a trial takes seconds; everything else is
//! real. The end state, and how many objects were created and deleted, are compared with a trial without a fault.

mod end_state;
pub mod kubelet;
mod lease;
mod sandbox;
mod write_interceptor;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use userpipeline_api::PodSettings;
use userpipeline_operator::{
    backfill, connection,
    metrics::Metrics,
    pipeline::{self, Images, Installation, PodMetadata, Writers},
    strimzi::{ClusterId, ListedCluster, Retry},
};

pub use self::{
    lease::Lease,
    sandbox::{STRIMZI_CLUSTER, Sandbox, Setup},
    write_interceptor::{Fault, WriteCounts, WriteInterceptor},
};
use crate::cluster;

const TRIAL_TIMEOUT: Duration = Duration::from_secs(180);
/// Otherwise a trial whose definitions come later would wait for a minute.
const STRIMZI_RETRY: Retry = Retry {
    unavailable: Duration::from_secs(1),
    failed: Duration::from_secs(1),
};

#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub end_state: Value,
    pub write_counts: WriteCounts,
    /// `VERB path` each.
    pub writes: Vec<String>,
    /// Whether the fault was injected.
    pub hit: bool,
}

/// Runs a scenario with a fault in the n-th write, and cleans up.
pub async fn trial<S>(setup: Setup, scenario: S, fault: Option<(usize, Fault)>) -> Result<Outcome>
where
    S: AsyncFnOnce(&Sandbox) -> Result<()>,
{
    let client = cluster::connect().await?;
    let interceptor = Arc::new(WriteInterceptor::new(fault));
    let sandbox = Sandbox::open(client.clone(), interceptor.clone(), setup).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(run_operator(
        write_interceptor::client(client.clone(), interceptor.clone()),
        sandbox.namespace.clone(),
        interceptor.clone(),
        setup,
    ));
    tasks.spawn(kubelet::run(client, sandbox.namespace.clone(), sandbox.kafka.clone()));
    sandbox.start_strimzi(&mut tasks);
    let result = tokio::time::timeout(TRIAL_TIMEOUT, scenario(&sandbox)).await;
    tasks.shutdown().await;
    result
        .unwrap_or_else(|_| Err(anyhow::anyhow!("not finished after {TRIAL_TIMEOUT:?}")))
        .with_context(|| format!("in {}, after {:#?}", sandbox.namespace, interceptor.writes()))?;
    let outcome = Outcome {
        end_state: sandbox.end_state().await?,
        write_counts: interceptor.write_counts(),
        writes: interceptor.writes(),
        hit: interceptor.hit(),
    };
    sandbox.close().await?;
    Ok(outcome)
}

/// Restarts the operator after every crash.
async fn run_operator(client: kube::Client, namespace: String, interceptor: Arc<WriteInterceptor>, setup: Setup) {
    loop {
        let installation = installation(setup);
        let writers = Writers::new(&strimzi_clusters(setup, &namespace)).with_strimzi_retry(STRIMZI_RETRY);
        let caches = writers.caches();
        let Ok(context) = pipeline::Context::new(
            client.clone(),
            caches.clone(),
            Metrics::new(),
            installation.clone(),
            "crash".to_owned(),
        ) else {
            return;
        };
        let refused_pods = context.refused_pods();
        let connections = connection::Context::new(
            client.clone(),
            caches.clone(),
            Metrics::new(),
            context.connection_uses(),
            installation,
            "crash".to_owned(),
        );
        let backfills = backfill::Context::new(client.clone(), caches, Metrics::new(), refused_pods, "crash".to_owned());
        let stop = CancellationToken::new();
        let controllers = async {
            futures::join!(
                pipeline::run(Arc::new(context), writers, Some(namespace.clone()), stop.clone()),
                connection::run(Arc::new(connections), stop.clone()),
                backfill::run(Arc::new(backfills), Some(namespace.clone()), stop.clone())
            )
        };
        tokio::select! {
            _ = controllers => return,
            () = interceptor.crashed() => {}
        }
    }
}

fn installation(setup: Setup) -> Installation {
    Installation {
        images: Images {
            registry: "userpipeline".to_owned(),
            allowed: vec![],
            tag: "0.1.0".to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
        },
        cluster: "crash".to_owned(),
        requires_connections: false,
        // Checks have scenarios of their own.
        checks_connections: setup == Setup::Plain,
        // They fit no node, as those of the pipelines: only the fake kubelet completes them.
        check_pods: PodSettings {
            node_selector: [("userpipeline.dev/no-such-node".to_owned(), "true".to_owned())].into(),
            ..PodSettings::default()
        },
        pod_metadata: PodMetadata::default(),
    }
}

/// As the chart value `strimzi.clusters` lists them.
fn strimzi_clusters(setup: Setup, namespace: &str) -> Vec<ListedCluster> {
    let cluster = ListedCluster {
        id: ClusterId {
            namespace: namespace.to_owned(),
            name: STRIMZI_CLUSTER.to_owned(),
        },
        user_namespace: namespace.to_owned(),
    };
    if setup == Setup::Plain { vec![] } else { vec![cluster] }
}
