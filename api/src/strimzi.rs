//! Kafka clusters that Strimzi runs.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A listener of a Kafka cluster that Strimzi runs in this Kubernetes cluster. Its bootstrap address and
/// authorities come from `status.listeners` of the `Kafka` resource, and follow it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StrimziListener {
    /// Name of the `Kafka` resource. The chart value `strimzi.clusters` must list the cluster.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')")
        .message("spec.kafka.strimzi.cluster must be the name of a Kafka resource"))]
    pub cluster: String,
    /// Namespace of the `Kafka` resource.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')")
        .message("spec.kafka.strimzi.namespace must be the name of a namespace"))]
    pub namespace: String,
    /// Name of a listener in `spec.kafka.listeners` of the `Kafka` resource. One with `tls: true` is
    /// encrypted and verified fully, and one without is plain text.
    #[schemars(length(min = 1, max = 63))]
    pub listener: String,
}
