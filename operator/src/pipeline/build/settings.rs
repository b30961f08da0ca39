//! What a pipeline's author may say of its pods.

use k8s_openapi::api::core::v1::{EnvVar, PodSpec, PodTemplateSpec};
use kube::core::ObjectMeta;
use userpipeline_api::{PodSettings, Proxy};

use super::labels;

/// A pod's template: `metadata` and `pod` with what the settings add.
pub fn template(settings: &PodSettings, mut metadata: ObjectMeta, mut pod: PodSpec) -> PodTemplateSpec {
    // What is ours stays ours; see `problems`.
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
            // Kubernetes would take `$(NAME)` for a variable.
            value: Some(value.as_ref()?.replace('$', "$$")),
            ..EnvVar::default()
        })
    })
}

/// What is wrong with the names and values of labels and annotations, by field.
pub fn problems(settings: &PodSettings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (field, map) in [("labels", &settings.labels), ("annotations", &settings.annotations)] {
        for (key, value) in map {
            let mut problem = |what: String| problems.push((format!("{field}.{key}"), what));
            if !labels::is_key(key) {
                problem(
                    "is not a name that Kubernetes takes: `name` or `domain/name`, each of letters, digits, '-', '_' and '.'".to_owned(),
                );
            } else if is_reserved(key, field == "annotations") {
                problem("belongs to Kubernetes or to the operator; use a domain of your own".to_owned());
            } else if field == "labels" && !labels::is_value(value) {
                problem(format!(
                    "`{value}` is not a label's value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
                ));
            }
        }
    }
    problems
}

/// Annotations and labels of Kubernetes' own can weaken a pod's confinement, and ours are how the operator knows its pods.
fn is_reserved(key: &str, annotation: bool) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    if annotation && domain == "cluster-autoscaler.kubernetes.io" {
        return false;
    }
    ["kubernetes.io", "k8s.io", "userpipeline.dev"]
        .into_iter()
        .any(|reserved| domain == reserved || domain.strip_suffix(reserved).is_some_and(|rest| rest.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_as_kubernetes_takes_them_and_leave_ours_alone() {
        let table = [
            ("labels", "team", "data", true),
            ("labels", "example.com/team", "", true),
            ("labels", "example.com/team", "two words", false),
            ("labels", "a/b/c", "x", false),
            ("labels", "Ünicode", "x", false),
            ("labels", "app.kubernetes.io/instance", "other", false),
            ("labels", "userpipeline.dev/pipeline", "other", false),
            ("annotations", "note", "two words", true),
            (
                "annotations",
                "container.apparmor.security.beta.kubernetes.io/worker",
                "unconfined",
                false,
            ),
            ("annotations", "cluster-autoscaler.kubernetes.io/safe-to-evict", "true", true),
            ("annotations", "notkubernetes.io/x", "y", true),
        ];
        for (field, key, value, fine) in table {
            let map = [(key.to_owned(), value.to_owned())].into();
            let settings = if field == "labels" {
                PodSettings {
                    labels: map,
                    ..PodSettings::default()
                }
            } else {
                PodSettings {
                    annotations: map,
                    ..PodSettings::default()
                }
            };
            assert_eq!(problems(&settings).is_empty(), fine, "{field} {key}={value}");
        }
    }
}
