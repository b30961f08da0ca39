//! Writes KafkaTopics, which are in the namespace of Kafka and may be of either version of the API.

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, Patch, PatchParams, Preconditions, TypeMeta},
};
use serde_json::Value;

use super::{applier::Applier, drift::differences, error::ApplyError};
use crate::{
    identity::MANAGER,
    pipeline::model::labels,
    strimzi::{Cluster, ClusterId, KafkaTopic, Kind, Unavailable},
};

const KIND: &str = Kind::KafkaTopic.name();

impl Applier<'_> {
    /// Applies KafkaTopics that differ from what is observed.
    pub(super) async fn apply_kafka_topics(&self, id: Option<&ClusterId>, desired: Vec<KafkaTopic>) -> Result<(), ApplyError> {
        let Some(id) = id.filter(|_| !desired.is_empty()) else {
            return Ok(());
        };
        let cluster = self.strimzi.cluster(id).map_err(|why| unavailable(&why))?;
        for topic in desired {
            self.apply_kafka_topic(cluster, topic).await?;
        }
        Ok(())
    }

    async fn apply_kafka_topic(&self, cluster: &Cluster, mut desired: KafkaTopic) -> Result<(), ApplyError> {
        let name = desired.name_any();
        let observed = cluster.topics.select(|other, _| other == name).map_err(|why| unavailable(&why))?;
        let api = self.kafka_topics(&desired, &observed.resource);
        let live = match observed.by_name.get(&name) {
            Some(live) => Some(live.as_ref().clone()),
            // It may be a foreign object, or a new one that is not observed yet.
            None => api.get_opt(&name).await.map_err(|error| failed(&desired, "get", error))?,
        };
        if let Some(live) = &live {
            let kind = KIND.to_owned();
            if !self.is_of_pipeline(live) {
                return Err(ApplyError::NotOurs { kind, name });
            }
            if live.metadata.deletion_timestamp.is_some() {
                return Err(ApplyError::BeingDeleted { kind, name });
            }
            if is_current(live, &desired) {
                return Ok(());
            }
            // The uid keeps the request from another object of the same name.
            desired.metadata.uid.clone_from(&live.metadata.uid);
        }
        desired.types = Some(TypeMeta {
            api_version: observed.resource.api_version.clone(),
            kind: observed.resource.kind.clone(),
        });
        let params = PatchParams::apply(MANAGER).force();
        let applied = api.patch(&name, &params, &Patch::Apply(&desired)).await;
        applied.map_err(|error| failed(&desired, "patch", error))?;
        self.wrote_kafka_topic(&desired, "patch", "applied");
        Ok(())
    }

    /// Deletes KafkaTopics of this pipeline, exactly in their observed versions.
    pub async fn delete_kafka_topics(&self, id: &ClusterId, names: &[String]) -> Result<(), ApplyError> {
        let cluster = self.strimzi.cluster(id).map_err(|why| unavailable(&why))?;
        let observed = cluster
            .topics
            .select(|name, _| names.iter().any(|deleted| deleted == name))
            .map_err(|why| unavailable(&why))?;
        for topic in observed.by_name.values() {
            self.delete_kafka_topic(&observed.resource, topic).await?;
        }
        Ok(())
    }

    async fn delete_kafka_topic(&self, resource: &ApiResource, observed: &KafkaTopic) -> Result<(), ApplyError> {
        let name = observed.name_any();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: observed.uid(),
                resource_version: observed.resource_version(),
            }),
            ..DeleteParams::default()
        };
        match self.kafka_topics(observed, resource).delete(&name, &params).await {
            Ok(_) => {
                self.wrote_kafka_topic(observed, "delete", "deleted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(ApplyError::Changed {
                kind: KIND.to_owned(),
                name,
            }),
            Err(source) => Err(failed(observed, "delete", source)),
        }
    }

    fn kafka_topics(&self, topic: &KafkaTopic, resource: &ApiResource) -> Api<KafkaTopic> {
        Api::namespaced_with(self.client.clone(), &topic.namespace().unwrap_or_default(), resource)
    }

    /// Also of an earlier pipeline with the same name.
    fn is_of_pipeline(&self, live: &KafkaTopic) -> bool {
        let has = |label: &str, value: &String| live.labels().get(label) == Some(value);
        has(labels::PIPELINE, &self.id.name) && has(labels::PIPELINE_NAMESPACE, &self.id.namespace)
    }

    fn wrote_kafka_topic(&self, topic: &KafkaTopic, verb: &'static str, what: &str) {
        self.metrics.wrote(KIND, verb);
        tracing::info!(kind = KIND, name = topic.name_any(), namespace = topic.namespace(), pipeline = %self.id, "{what}");
    }
}

/// Whether the live object has everything that is desired, and was applied with nothing else.
fn is_current(live: &KafkaTopic, desired: &KafkaTopic) -> bool {
    let value = |topic: &KafkaTopic| {
        let mut value = serde_json::to_value(topic).unwrap_or_default();
        if let Value::Object(object) = &mut value {
            object.retain(|key, _| ["metadata", "spec"].contains(&key.as_str()));
        }
        value
    };
    differences(&value(live), &value(desired)).is_empty()
}

fn failed(topic: &KafkaTopic, verb: &'static str, source: kube::Error) -> ApplyError {
    match source {
        kube::Error::Api(status) if status.code == 403 => unavailable(&Unavailable::NotAllowed {
            kind: Kind::KafkaTopic,
            namespace: topic.namespace().unwrap_or_default(),
            verb,
        }),
        source => ApplyError::ApplyFailed {
            kind: KIND.to_owned(),
            name: topic.name_any(),
            source: Box::new(source),
        },
    }
}

fn unavailable(why: &Unavailable) -> ApplyError {
    ApplyError::Unavailable {
        reason: why.reason(),
        why: why.to_string(),
    }
}
