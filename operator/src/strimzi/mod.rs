//! Strimzi's resources: which clusters the operator may use, and what it observes of them. Strimzi may be absent, be installed later, or
//! serve either version of its API.

mod clusters;
mod resources;
mod served;
mod view;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use kube::Client;
use tokio::task::JoinSet;

pub use self::{
    clusters::{ClusterId, ListedCluster},
    resources::{Authentication, Kafka, KafkaTopic, KafkaTopicSpec, KafkaUser, Kind, ListenerSpec, ListenerStatus, StrimziCondition},
    view::{CHART_VALUE, Objects, Unavailable, View},
    watch::{Change, Retry},
};
use self::{
    view::ViewWriter,
    watch::{load, watch},
};

/// The listed clusters, each with the views of its namespaces.
#[derive(Clone, Default)]
pub struct Strimzi {
    clusters: Arc<BTreeMap<ClusterId, Cluster>>,
}

/// What is observed of a cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The namespace whose KafkaUsers its User Operator reconciles.
    pub user_namespace: String,
    pub kafkas: View<Kafka>,
    pub topics: View<KafkaTopic>,
    pub users: View<KafkaUser>,
}

/// The writing ends, by namespace.
#[derive(Default)]
pub struct StrimziWriters {
    kafkas: BTreeMap<String, ViewWriter<Kafka>>,
    topics: BTreeMap<String, ViewWriter<KafkaTopic>>,
    users: BTreeMap<String, ViewWriter<KafkaUser>>,
    pub retry: Retry,
}

/// What happens with observed objects.
pub trait Observer: Clone + Send + Sync + 'static {
    /// Of the clusters in this namespace.
    fn kafka(&self, namespace: &str, change: Change<Kafka>);
    fn topic(&self, change: Change<KafkaTopic>);
    fn user(&self, change: Change<KafkaUser>);
}

impl Strimzi {
    pub fn new(listed: &[ListedCluster]) -> (Self, StrimziWriters) {
        let mut writers = StrimziWriters::default();
        let mut clusters = BTreeMap::new();
        for ListedCluster { id, user_namespace } in listed {
            let namespace = &id.namespace;
            let cluster = Cluster {
                user_namespace: user_namespace.clone(),
                kafkas: view_of(&mut writers.kafkas, Kind::Kafka, namespace),
                topics: view_of(&mut writers.topics, Kind::KafkaTopic, namespace),
                users: view_of(&mut writers.users, Kind::KafkaUser, user_namespace),
            };
            clusters.insert(id.clone(), cluster);
        }
        let clusters = Arc::new(clusters);
        (Self { clusters }, writers)
    }

    /// The KafkaUsers of a namespace. None where no User Operator of a listed cluster reconciles them.
    pub fn users(&self, namespace: &str) -> Option<&View<KafkaUser>> {
        let mut clusters = self.clusters.values();
        let cluster = clusters.find(|cluster| cluster.user_namespace == namespace);
        cluster.map(|cluster| &cluster.users)
    }

    pub fn cluster(&self, id: &ClusterId) -> Result<&Cluster, Unavailable> {
        self.clusters
            .get(id)
            .ok_or_else(|| Unavailable::NotListed { cluster: id.to_string() })
    }
}

fn view_of<K>(writers: &mut BTreeMap<String, ViewWriter<K>>, kind: Kind, namespace: &str) -> View<K> {
    let writer = writers.entry(namespace.to_owned());
    writer.or_insert_with(|| ViewWriter::new(kind, namespace)).view()
}

impl StrimziWriters {
    /// Lists the KafkaTopics once, for a plan.
    pub async fn load_topics(&self, client: &Client) -> Result<(), kube::Error> {
        for (namespace, writer) in &self.topics {
            load(client, Kind::KafkaTopic, namespace, writer).await?;
        }
        Ok(())
    }

    /// Lists the KafkaUsers once, for a plan, and the `Kafka` resources, which decide whether users have ACLs.
    pub async fn load_users(&self, client: &Client) -> Result<(), kube::Error> {
        for (namespace, writer) in &self.kafkas {
            load(client, Kind::Kafka, namespace, writer).await?;
        }
        for (namespace, writer) in &self.users {
            load(client, Kind::KafkaUser, namespace, writer).await?;
        }
        Ok(())
    }

    /// Starts all watches.
    pub fn watch(self, client: &Client, observer: &impl Observer, tasks: &mut JoinSet<()>) {
        let retry = self.retry;
        for (namespace, writer) in self.kafkas {
            let (observer, within) = (observer.clone(), namespace.clone());
            let changed = move |change| observer.kafka(&within, change);
            tasks.spawn(watch(client.clone(), Kind::Kafka, namespace, writer, retry, changed));
        }
        for (namespace, writer) in self.topics {
            let observer = observer.clone();
            let changed = move |change| observer.topic(change);
            tasks.spawn(watch(client.clone(), Kind::KafkaTopic, namespace, writer, retry, changed));
        }
        for (namespace, writer) in self.users {
            let observer = observer.clone();
            let changed = move |change| observer.user(change);
            tasks.spawn(watch(client.clone(), Kind::KafkaUser, namespace, writer, retry, changed));
        }
    }
}

#[cfg(test)]
mod fill;
#[cfg(test)]
mod tests;
