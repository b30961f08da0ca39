//! The workers' Deployment.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{Container, ContainerPort, HTTPGetAction, Probe},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::core::ObjectMeta;
use userpipeline_api::{names, report::WORKER_PORT};

use super::{pod, settings};
use crate::pipeline::{
    model::{PodConfigRef, labels},
    validate::ValidatedPipeline,
};

/// Enough to store the current batch and to commit.
const GRACE_SECONDS: i64 = 60;

pub(super) fn build(pipeline: &ValidatedPipeline, config: &PodConfigRef, stopped: bool) -> Deployment {
    let component = labels::Component::Worker;
    let port = i32::from(WORKER_PORT);
    let container = container(pipeline, config, port);
    let mut pod = pod::pod(&pipeline.owner, container, "Always", config);
    pod.termination_grace_period_seconds = Some(GRACE_SECONDS);
    let default_annotations = [
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", port.to_string()),
        ("prometheus.io/path", "/metrics".to_owned()),
    ];
    let metadata = ObjectMeta {
        labels: Some(labels::labels(&pipeline.owner.id.name, component)),
        annotations: Some(
            default_annotations
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        ),
        ..ObjectMeta::default()
    };
    Deployment {
        metadata: labels::meta(&pipeline.owner, names::workers(&pipeline.owner.id.name), component),
        spec: Some(DeploymentSpec {
            replicas: Some(if stopped { 0 } else { pipeline.spec.workers.replicas }),
            // An older ReplicaSet refers to a ConfigMap that is deleted.
            revision_history_limit: Some(1),
            selector: labels::worker_selector(&pipeline.owner.id.name),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: settings::template(&pipeline.spec.pods.workers, metadata, pod),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn container(pipeline: &ValidatedPipeline, config: &PodConfigRef, port: i32) -> Container {
    let mut container = pod::container("worker", "stream-worker", &pipeline.owner.images, config);
    let mut arguments = pod::arguments(&["run"]);
    arguments.extend([
        "--listen".to_owned(),
        format!("0.0.0.0:{port}"),
        "--instance".to_owned(),
        "$(POD_NAME)".to_owned(),
    ]);
    container.args = Some(arguments);
    container.env = Some(vec![pod::env("POD_NAME", "metadata.name")]);
    container.ports = Some(vec![ContainerPort {
        name: Some("http".to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }]);
    container.startup_probe = Some(probe("/livez", 1, 60));
    container.liveness_probe = Some(probe("/livez", 10, 6));
    container.readiness_probe = Some(probe("/readyz", 2, 2));
    container.resources = Some(pod::resources("50m", "64Mi", "256Mi"));
    container
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
