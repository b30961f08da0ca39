//! The settings that a pipeline's author may add to pods (`spec.pods`).

use k8s_openapi::api::core::v1::{EnvVar, PodSpec, PodTemplateSpec};
use kube::core::ObjectMeta;
use userpipeline_api::{PodSettings, Proxy};

/// A pod template of `metadata`, `pod` and the settings.
pub fn template(settings: &PodSettings, mut metadata: ObjectMeta, mut pod: PodSpec) -> PodTemplateSpec {
    // Validation refuses labels and annotations of the operator.
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(settings.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    if !settings.annotations.is_empty() {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.extend(settings.annotations.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let some = |is_empty: bool| (!is_empty).then_some(());
    pod.node_selector = some(settings.node_selector.is_empty()).map(|()| settings.node_selector.clone());
    pod.tolerations = some(settings.tolerations.is_empty()).map(|()| settings.tolerations.clone());
    pod.topology_spread_constraints =
        some(settings.topology_spread_constraints.is_empty()).map(|()| settings.topology_spread_constraints.clone());
    pod.affinity.clone_from(&settings.affinity);
    pod.priority_class_name.clone_from(&settings.priority_class_name);
    for container in &mut pod.containers {
        if let Some(resources) = &settings.resources {
            container.resources = Some(resources.clone());
        }
        if let Some(proxy) = &settings.proxy {
            container.env.get_or_insert_default().extend(environment(proxy));
        }
    }
    PodTemplateSpec {
        metadata: Some(metadata),
        spec: Some(pod),
    }
}

fn environment(proxy: &Proxy) -> impl Iterator<Item = EnvVar> {
    let variables = [
        ("HTTP_PROXY", &proxy.http),
        ("HTTPS_PROXY", &proxy.https),
        ("NO_PROXY", &proxy.no_proxy),
    ];
    variables.into_iter().filter_map(|(name, value)| {
        Some(EnvVar {
            name: name.to_owned(),
            // Kubernetes would expand `$(NAME)` as a variable.
            value: Some(value.as_ref()?.replace('$', "$$")),
            ..EnvVar::default()
        })
    })
}
