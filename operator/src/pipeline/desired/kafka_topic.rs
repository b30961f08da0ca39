//! A KafkaTopic. It is in another namespace than its pipeline, and holds data: so it has no owner, and labels say whose it is.

use std::collections::BTreeMap;

use kube::{api::TypeMeta, core::ObjectMeta};

use crate::{
    identity::MANAGER,
    pipeline::model::{Owner, PlannedTopic, labels},
    strimzi::{ClusterId, KafkaTopic},
};

pub(super) fn build(owner: &Owner, cluster: &ClusterId, planned: &PlannedTopic) -> KafkaTopic {
    let labels = [
        (labels::STRIMZI_CLUSTER, cluster.name.as_str()),
        (labels::MANAGED_BY, MANAGER),
        (labels::PIPELINE, &owner.id.name),
        (labels::PIPELINE_NAMESPACE, &owner.id.namespace),
        (labels::PIPELINE_UID, &owner.uid),
    ];
    let text = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let mut labels: BTreeMap<String, String> = labels.into_iter().map(text).collect();
    labels.extend(owner.team.iter().map(|team| (labels::OWNER.to_owned(), team.clone())));
    let mut annotations = BTreeMap::from([(labels::DESIRED_HASH.to_owned(), planned.hash())]);
    if planned.is_adopted {
        annotations.insert(labels::ADOPTED.to_owned(), "true".to_owned());
    }
    if let Some(existing) = planned.existing.as_ref().and_then(|existing| serde_json::to_string(existing).ok()) {
        annotations.insert(labels::EXISTING_TOPIC.to_owned(), existing);
    }
    KafkaTopic {
        // The served version is known where it is applied.
        types: Some(TypeMeta::default()),
        metadata: ObjectMeta {
            name: Some(planned.name.clone()),
            namespace: Some(cluster.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: planned.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use userpipeline_api::ExistingTopic;

    use super::*;
    use crate::pipeline::example;

    /// Also read by a test against Strimzi's own classes.
    const REVIEWED: &str = include_str!("snapshots/kafka_topics.yaml");

    /// A topic that is created, and an adopted one.
    fn yaml() -> String {
        let owner = example::validate(&example::pipeline()).unwrap().owner;
        let cluster = ClusterId {
            namespace: "kafka".into(),
            name: "events".into(),
        };
        let spec = |topic: &str, config: serde_json::Value| {
            serde_json::from_value(json!({"topicName": topic, "partitions": 3, "replicas": 1, "config": config})).unwrap()
        };
        let created = PlannedTopic {
            name: "demo.users".into(),
            spec: spec("demo.users", json!({"max.message.bytes": "1179648"})),
            existing: None,
            is_adopted: false,
        };
        let existing = ExistingTopic {
            name: "Dead_Letters".into(),
            id: "a-b_c".into(),
            partitions: 3,
            replicas: 1,
            message_limit: Some(2_000_000),
            config: [("segment.ms".to_owned(), "5000".to_owned())].into(),
        };
        let adopted = PlannedTopic {
            name: "dead-letters-1a2b3c4d".into(),
            spec: spec("Dead_Letters", json!({"retention.ms": "3600000", "segment.ms": "5000"})),
            existing: Some(existing),
            is_adopted: true,
        };
        let documents = [created, adopted].map(|planned| {
            let mut topic = build(&owner, &cluster, &planned);
            topic.types = Some(TypeMeta {
                api_version: "kafka.strimzi.io/v1".into(),
                kind: "KafkaTopic".into(),
            });
            let mut topic = serde_json::to_value(topic).unwrap();
            topic.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            serde_yaml::to_string(&topic).unwrap()
        });
        documents.join("---\n")
    }

    #[test]
    fn kafka_topics_are_as_reviewed() {
        assert_eq!(
            yaml(),
            REVIEWED,
            "if this is intended, write it to operator/src/pipeline/desired/snapshots/kafka_topics.yaml"
        );
    }
}
