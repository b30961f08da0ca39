//! A Kafka cluster that exists only in memory, and the operators that Strimzi has for it: for stories in which no record flows. They
//! accept every resource; those of [`Installation`](super::Installation) also refuse what Kafka refuses.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use userpipeline_api::ExistingTopic;

use super::{
    conditions::{plain, same, write_status},
    resources::{self, FINALIZER, KafkaTopic, KafkaUser, TopicSpec, TopicStatus, UserStatus},
};

/// After a request that failed.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Topics {
    existing: BTreeMap<String, ExistingTopic>,
    /// How often each topic was created.
    creations: BTreeMap<String, usize>,
}

/// Its topics.
#[derive(Clone, Default)]
pub struct InMemoryKafka(Arc<Mutex<Topics>>);

impl InMemoryKafka {
    fn with<T>(&self, use_it: impl FnOnce(&mut Topics) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn topics(&self) -> Vec<ExistingTopic> {
        self.with(|topics| topics.existing.values().cloned().collect())
    }

    /// Creates a topic that no `KafkaTopic` declares.
    pub fn create(&self, topic: ExistingTopic) {
        self.with(|topics| topics.existing.insert(topic.name.clone(), topic));
    }

    /// Makes a topic have exactly these settings. Gives its id, which tells how often it was created.
    fn converge(&self, name: &str, spec: &TopicSpec) -> String {
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.with(|Topics { existing, creations }| {
            let topic = existing.entry(name.to_owned()).or_insert_with(|| {
                let creations = creations.entry(name.to_owned()).or_default();
                *creations += 1;
                ExistingTopic {
                    name: name.to_owned(),
                    id: format!("created-{creations}"),
                    ..ExistingTopic::default()
                }
            });
            topic.partitions = spec.partitions.unwrap_or(topic.partitions);
            topic.replicas = spec.replicas.unwrap_or(topic.replicas);
            topic.config = spec.config.iter().map(|(key, value)| (key.clone(), text(value))).collect();
            topic.id.clone()
        })
    }

    fn delete(&self, name: &str) {
        self.with(|topics| topics.existing.remove(name));
    }

    /// Reconciles the KafkaTopics of a namespace until it is aborted.
    pub async fn serve_topics(self, client: Client, namespace: String) -> Result<()> {
        let api = resources::topics(&client, &namespace).await?;
        loop {
            let mut changed = pin!(watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects());
            while let Some(topic) = changed.next().await {
                let Ok(topic) = topic else { continue };
                if let Err(error) = self.reconcile(&api, &topic).await {
                    println!("in-memory Kafka: {}: {error:#}", topic.name_any());
                    break;
                }
            }
            // Then all are listed again.
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn reconcile(&self, api: &Api<KafkaTopic>, topic: &KafkaTopic) -> Result<()> {
        let name = topic.name_any();
        let in_kafka = topic.spec.topic_name.as_ref().unwrap_or(&name);
        let is_released = topic.metadata.deletion_timestamp.is_some();
        let has_finalizer = topic.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        if is_released {
            self.delete(in_kafka);
        }
        if is_released == has_finalizer {
            let finalizers: Vec<&str> = if is_released { vec![] } else { vec![FINALIZER] };
            let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
            api.patch(&name, &PatchParams::default(), &patch).await?;
        }
        if is_released {
            return Ok(());
        }
        let old = topic.status.clone().unwrap_or_default();
        let status = TopicStatus {
            conditions: vec![plain("Ready")],
            observed_generation: topic.metadata.generation,
            topic_id: Some(self.converge(in_kafka, &topic.spec)),
            topic_name: Some(in_kafka.clone()),
        };
        if !same(&status.conditions, &old.conditions)
            || (status.observed_generation, &status.topic_id) != (old.observed_generation, &old.topic_id)
        {
            write_status(api, &name, &status).await?;
        }
        Ok(())
    }
}

/// Reports the KafkaUsers of a namespace as ready until it is aborted. They get no Secrets.
pub async fn serve_users(client: Client, namespace: String) -> Result<()> {
    let api: Api<KafkaUser> = resources::users(&client, &namespace).await?;
    loop {
        let mut changed = pin!(watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects());
        while let Some(user) = changed.next().await {
            let Ok(user) = user else { continue };
            if let Err(error) = report_ready(&api, &user).await {
                println!("in-memory Kafka: {}: {error}", user.name_any());
                break;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn report_ready(api: &Api<KafkaUser>, user: &KafkaUser) -> kube::Result<()> {
    let name = user.name_any();
    if user.status.clone().unwrap_or_default().observed_generation == user.metadata.generation {
        return Ok(());
    }
    let status = UserStatus {
        conditions: vec![plain("Ready")],
        observed_generation: user.metadata.generation,
        username: Some(name.clone()),
        secret: Some(name.clone()),
    };
    write_status(api, &name, &status).await
}

/// Creates a `Kafka` that is ready, with the listener `tls`, whose certificates are of this authority.
pub async fn create_kafka(client: &Client, namespace: &str, name: &str, authority: &str) -> Result<()> {
    let resource = resources::resource(client, "Kafka").await?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let listener = json!({"name": "tls", "port": 9093, "type": "internal", "tls": true, "authentication": {"type": "scram-sha-512"}});
    let kafka = json!({
        "apiVersion": resource.api_version, "kind": "Kafka", "metadata": {"name": name},
        "spec": {"kafka": {"listeners": [listener], "authorization": {"type": "simple"}}}
    });
    let created = api
        .patch(name, &PatchParams::apply("end-to-end").force(), &Patch::Apply(kafka))
        .await?;
    let address = "kafka.example:9093";
    let status = json!({
        "observedGeneration": created.metadata.generation, "conditions": [plain("Ready")],
        "listeners": [{"name": "tls", "bootstrapServers": address, "certificates": [authority]}]
    });
    Ok(write_status(&api, name, &status).await?)
}
