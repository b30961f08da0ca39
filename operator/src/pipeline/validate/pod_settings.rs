//! Validates labels and annotations that an author adds to pods (`spec.pods`).

use userpipeline_api::PodSettings;

use crate::pipeline::model::labels;

/// Problems of the names and values of labels and annotations, by field.
pub(super) fn pod_settings_problems(settings: &PodSettings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (field, map) in [("labels", &settings.labels), ("annotations", &settings.annotations)] {
        for (key, value) in map {
            let mut problem = |what: String| problems.push((format!("{field}.{key}"), what));
            if !labels::is_key(key) {
                problem("is not a valid name: use `name` or `domain/name`, each of letters, digits, '-', '_' and '.'".to_owned());
            } else if is_reserved(key, field == "annotations") {
                problem("is reserved for Kubernetes or the operator; use your own domain".to_owned());
            } else if field == "labels" && !labels::is_value(value) {
                problem(format!(
                    "`{value}` is not a valid label value: use at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
                ));
            }
        }
    }
    problems
}

/// Annotations of Kubernetes can weaken a pod's confinement, and the operator finds its pods by its own labels.
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
    fn names_and_values_must_be_valid_and_not_reserved() {
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
            assert_eq!(pod_settings_problems(&settings).is_empty(), fine, "{field} {key}={value}");
        }
    }
}
