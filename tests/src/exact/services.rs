//! The pods of the stores.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams},
};

use super::{Store, network::Endpoint, node::Node};
use crate::{cluster::SERVICES, eventually};

/// How long a store may take to restart on a busy machine.
const RESTART: Duration = Duration::from_secs(180);

impl Store {
    const fn app(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
            Self::Postgres => "postgres",
            Self::Registry => "schema-registry",
        }
    }

    const fn process(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka | Self::Cassandra | Self::Registry => "java",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Kafka => 9093,
            Self::Cassandra => 9042,
            Self::Postgres => 5432,
            Self::Registry => 8443,
        }
    }

    /// The label of its retries in the workers' metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
            Self::Postgres => "postgres",
            Self::Registry => "registry",
        }
    }
}

pub async fn pod(client: &Client, store: Store) -> Result<Option<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SERVICES);
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={}", store.app()));
    let pods = pods.list(&selector).await?;
    Ok(pods.items.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none()))
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

pub async fn wait_until_ready(client: &Client, store: Store) -> Result<()> {
    eventually(&format!("{store:?} to be ready"), RESTART, async || {
        let pod = pod(client, store).await?;
        Ok(if pod.as_ref().is_some_and(is_ready) {
            Ok(())
        } else {
            Err("not ready".to_owned())
        })
    })
    .await
}

/// The pod and processes of a store, found in advance, so that the kill does not wait for it.
pub struct Victim {
    store: Store,
    pod: String,
    uid: String,
    pids: Vec<u32>,
}

pub async fn find_victim(client: &Client, node: &Node, store: Store) -> Result<Victim> {
    let found = pod(client, store).await?.with_context(|| format!("{store:?}"))?;
    let uid = found.uid().context("a uid")?;
    Ok(Victim {
        store,
        pod: found.name_any(),
        pids: node.processes(&uid, store.process()).await?,
        uid,
    })
}

impl Victim {
    pub async fn kill(&self, node: &Node) -> Result<()> {
        for pid in &self.pids {
            node.signal(*pid, "KILL").await?;
        }
        Ok(())
    }

    /// Deletes the pod, so that the next one starts at once and not after a back-off.
    pub async fn replace(self, client: &Client) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), SERVICES);
        pods.delete(&self.pod, &DeleteParams::default().grace_period(0)).await?;
        // The old pod may still be listed as ready.
        eventually("another pod", RESTART, async || {
            let current = pod(client, self.store).await?;
            let is_replaced = current.is_none_or(|pod| pod.uid().as_ref() != Some(&self.uid));
            Ok(if is_replaced { Ok(()) } else { Err("still there".to_owned()) })
        })
        .await
    }
}

/// Kills the processes of a store and deletes its pod.
pub async fn kill(client: &Client, node: &Node, store: Store) -> Result<()> {
    let victim = find_victim(client, node, store).await?;
    victim.kill(node).await?;
    victim.replace(client).await
}

pub async fn endpoint(client: &Client, node: &Node, store: Store) -> Result<Endpoint> {
    let pod = pod(client, store).await?.with_context(|| format!("{store:?}"))?;
    let uid = pod.uid().context("a uid")?;
    let pids = node.processes(&uid, store.process()).await?;
    let nodes = Api::<KubernetesNode>::all(client.clone()).list(&ListParams::default()).await?;
    let cidr = nodes
        .items
        .into_iter()
        .find_map(|node| node.spec?.pod_cidr)
        .context("the pods' addresses")?;
    Ok(Endpoint {
        address: pod.status.and_then(|status| status.pod_ip).context("an address")?,
        port: store.port(),
        pid: *pids.first().context("a process")?,
        pods: cidr,
        // Requests to the registry are short.
        trickle: if store == Store::Registry {
            "rate 8kbit burst 1600 latency 10s"
        } else {
            "rate 120kbit burst 4kb latency 3s"
        },
    })
}
