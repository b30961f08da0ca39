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
