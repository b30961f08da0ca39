//! The operator, in this process, against the cluster's real apiserver and controllers, with faults at its writes.
//!
//! A trial plays a scenario in a namespace of its own. A stand-in for the kubelet ends the pods, so that a trial takes seconds;
//! nothing else is stood in for. What is left at the end, and how many objects were created and deleted on the way, is held
//! against the same scenario without a fault.

mod end_state;
pub mod kubelet;
mod lease;
mod stage;
mod wire;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use userpipeline_operator::{
    backfill,
    metrics::Metrics,
    pipeline::{self, Images, Installation, Writers},
};

pub use self::{
    lease::Lease,
    stage::Stage,
    wire::{Fault, Tally, Wire},
};
use crate::cluster;

/// A trial that takes longer is stuck.
const WITHIN: Duration = Duration::from_secs(180);

/// What came of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What is left.
    pub end: Value,
    /// What the operator created and deleted on the way.
    pub tally: Tally,
    /// The writes there were, as `VERB path`.
    pub writes: Vec<String>,
    /// Whether the fault has happened.
    pub hit: bool,
}

/// Plays a scenario, with a fault at the write of a number, and clears up.
pub async fn trial<S>(scenario: S, fault: Option<(usize, Fault)>) -> Result<Outcome>
where
    S: AsyncFnOnce(&Stage) -> Result<()>,
{
    let client = cluster::connect().await?;
    let wire = Arc::new(Wire::new(fault));
    let stage = Stage::open(client.clone(), wire.clone()).await?;
    let operator = tokio::spawn(operate(
        wire::client(client.clone(), wire.clone()),
        stage.namespace.clone(),
        wire.clone(),
    ));
    let kubelet = tokio::spawn(kubelet::run(client, stage.namespace.clone()));
    let played = tokio::time::timeout(WITHIN, scenario(&stage)).await;
    operator.abort();
    kubelet.abort();
    played
        .unwrap_or_else(|_| Err(anyhow::anyhow!("not over after {WITHIN:?}")))
        .with_context(|| format!("in {}, after {:#?}", stage.namespace, wire.writes()))?;
    let outcome = Outcome {
        end: stage.end_state().await?,
        tally: wire.tally(),
        writes: wire.writes(),
        hit: wire.hit(),
    };
    stage.close().await?;
    Ok(outcome)
}

/// The operator, started anew whenever it has crashed.
async fn operate(client: kube::Client, namespace: String, wire: Arc<Wire>) {
    loop {
        let installation = Installation {
            images: Images {
                registry: "userpipeline".to_owned(),
                allowed: vec![],
                tag: "0.1.0".to_owned(),
                pull_policy: "IfNotPresent".to_owned(),
            },
            cluster: "crash".to_owned(),
        };
        let writers = Writers::default();
        let caches = writers.caches();
        let Ok(context) = pipeline::Context::new(client.clone(), caches.clone(), Metrics::new(), installation, "crash".to_owned()) else {
            return;
        };
        let backfills = backfill::Context::new(client.clone(), caches, Metrics::new(), "crash".to_owned());
        let stop = CancellationToken::new();
        let working = async {
            futures::join!(
                pipeline::run(Arc::new(context), writers, Some(namespace.clone()), stop.clone()),
                backfill::run(Arc::new(backfills), Some(namespace.clone()), stop.clone())
            )
        };
        tokio::select! {
            _ = working => return,
            () = wire.crashed() => {}
        }
    }
}
