//! The end state of a trial, without the values that differ between trials.

use anyhow::Result;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, ServiceAccount},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use userpipeline_api::{UserPipeline, UserPipelineBackfill, UserPipelineConnection};

use crate::strimzi::{in_memory::InMemoryKafka, resources};

/// Times, uids and counters.
const VARYING_KEYS: [&str; 24] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "generation",
    "observedGeneration",
    "generateName",
    "lastTransitionTime",
    "measuredAt",
    "settledUntil",
    "completedAt",
    "since",
    "verifiedAt",
    "checkedAt",
    "inspectedAt",
    "appliedAt",
    "effectiveSince",
    "startedAt",
    "finishedAt",
    "deployment.kubernetes.io/revision",
    "userpipeline.dev/desired-hash",
    "userpipeline.dev/pipeline-uid",
    "userpipeline.dev/drain-since",
];

/// Every child, and every custom resource with its status.
pub async fn of(client: &Client, namespace: &str) -> Result<Value> {
    let mut all = Map::new();
    // Those of connections are garbage-collected at any time.
    let children = "app.kubernetes.io/managed-by=userpipeline-operator,app.kubernetes.io/component!=check";
    all.insert("configMaps".into(), list::<ConfigMap>(client, namespace, children).await?);
    all.insert("serviceAccounts".into(), list::<ServiceAccount>(client, namespace, children).await?);
    all.insert("jobs".into(), list::<Job>(client, namespace, children).await?);
    all.insert("cronJobs".into(), list::<CronJob>(client, namespace, children).await?);
    all.insert("deployments".into(), list::<Deployment>(client, namespace, children).await?);
    all.insert("budgets".into(), list::<PodDisruptionBudget>(client, namespace, children).await?);
    let mut all = Value::Object(all);
    // The controllers of Kubernetes write the status of children.
    for kind in ["jobs", "cronJobs", "deployments", "budgets"] {
        for object in all[kind].as_array_mut().into_iter().flatten() {
            if let Some(object) = object.as_object_mut() {
                object.remove("status");
            }
        }
    }
    all["pipelines"] = list::<UserPipeline>(client, namespace, "").await?;
    all["connections"] = list::<UserPipelineConnection>(client, namespace, "").await?;
    all["backfills"] = list::<UserPipelineBackfill>(client, namespace, "").await?;
    Ok(all)
}

/// The resources of Strimzi, which may be of either version, and the topics that Kafka has.
pub async fn of_strimzi(client: &Client, namespace: &str, kafka: &InMemoryKafka) -> Result<Value> {
    let mut all = json!({"inKafka": without_varying_values(json!(kafka.topics()), namespace)});
    for kind in ["KafkaTopic", "KafkaUser"] {
        let resource = resources::resource(client, kind).await?;
        let found: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        all[kind] = comparable(&found.list(&ListParams::default()).await?.items, namespace);
    }
    Ok(all)
}

async fn list<K>(client: &Client, namespace: &str, labels: &str) -> Result<Value>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let found = Api::<K>::namespaced(client.clone(), namespace)
        .list(&ListParams::default().labels(labels))
        .await?;
    Ok(comparable(&found.items, namespace))
}

fn comparable(objects: &[impl Serialize], namespace: &str) -> Value {
    let objects = objects.iter();
    let mut objects: Vec<Value> = objects.map(|object| without_varying_values(json!(object), namespace)).collect();
    objects.sort_by_key(ToString::to_string);
    Value::Array(objects)
}

fn without_varying_values(value: Value, namespace: &str) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(key, _)| !VARYING_KEYS.contains(&key.as_str()) && !key.contains("controller-uid"))
                .map(|(key, value)| (key, without_varying_values(value, namespace)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(|value| without_varying_values(value, namespace)).collect()),
        Value::String(text) => Value::String(without_hashes(
            &text.replace(namespace, "NS").replace(&namespace.replace('-', "_"), "NS"),
        )),
        other => other,
    }
}

/// The hashes in names, and the digests of ConfigMaps, depend on the namespace and on uids.
fn without_hashes(text: &str) -> String {
    let is_hash = |word: &str| [8, 64].contains(&word.len()) && word.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .map(|part| {
            let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if is_hash(word) {
                part.replacen(word, "HASH", 1)
            } else {
                part.to_owned()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_in_names_are_replaced() {
        assert_eq!(without_hashes("users-worker-0a1b2c3d"), "users-worker-HASH");
        assert_eq!(without_hashes("table: NS_users_301df6a5_raw\n"), "table: NS_users_HASH_raw\n");
        assert_eq!(without_hashes("database: users"), "database: users");
    }
}
