//! Validates labels and annotations that an author adds to pods (`spec.pods`). They can steer webhooks: one that injects sidecars
//! may mount any Secret, or run any image.

use userpipeline_api::PodSettings;

use crate::pipeline::model::{PodMetadata, labels};

/// Its annotations concern only the node.
const AUTOSCALER: &str = "cluster-autoscaler.kubernetes.io";

/// Problems of the names and values of labels and annotations, by field.
pub(super) fn pod_settings_problems(settings: &PodSettings, allowed: &PodMetadata) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (field, map, allowed) in [
        ("labels", &settings.labels, allowed.labels.as_deref()),
        ("annotations", &settings.annotations, allowed.annotations.as_deref()),
    ] {
        for (key, value) in map {
            let mut problem = |what: String| problems.push((format!("{field}.{key}"), what));
            if !labels::is_key(key) {
                problem("is not a valid name: use `name` or `domain/name`, each of letters, digits, '-', '_' and '.'".to_owned());
            } else if is_reserved(key, field == "annotations") {
                problem("is reserved for Kubernetes or the operator; use your own domain".to_owned());
            } else if !is_allowed(key, allowed) {
                let setting = if field == "labels" { "allowedLabels" } else { "allowedAnnotations" };
                problem(format!(
                    "is not allowed by this installation of the operator: remove it, or ask an administrator to add its name or domain to pods.{setting} in the operator's chart"
                ));
            } else if field == "labels" && !labels::is_value(value) {
                problem(format!(
                    "`{value}` is not a valid label value: use at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
                ));
            }
        }
    }
    problems
}

/// Settings of pods that an administrator sets, as JSON.
pub fn read_pod_settings(json: &str) -> Result<PodSettings, String> {
    let settings: PodSettings = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let problems = pod_settings_problems(&settings, &PodMetadata::default());
    let problems: Vec<String> = problems.into_iter().map(|(field, problem)| format!("{field}: {problem}")).collect();
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems.join("; "))
    }
}

/// Whether the key or its domain is in the list. None allows all.
fn is_allowed(key: &str, allowed: Option<&[String]>) -> bool {
    let domain = key.split_once('/').map(|(domain, _)| domain);
    allowed.is_none_or(|allowed| allowed.iter().any(|allowed| allowed == key || Some(allowed.as_str()) == domain))
        || domain == Some(AUTOSCALER)
}

/// Annotations of Kubernetes can weaken a pod's confinement, and the operator finds its pods by its own labels.
fn is_reserved(key: &str, annotation: bool) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    if annotation && domain == AUTOSCALER {
        return false;
    }
    ["kubernetes.io", "k8s.io", "userpipeline.dev"]
        .into_iter()
        .any(|reserved| domain == reserved || domain.strip_suffix(reserved).is_some_and(|rest| rest.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
            let problems = pod_settings_problems(&settings, &PodMetadata::default());
            assert_eq!(problems.is_empty(), fine, "{field} {key}={value}");
        }
    }

    #[test]
    fn a_restricted_installation_allows_only_listed_names_and_domains() {
        let allowed = PodMetadata {
            labels: Some(vec!["team".into()]),
            annotations: Some(vec!["example.com".into(), "sidecar.istio.io/inject".into()]),
        };
        for (key, label, annotation) in [
            ("team", true, false),
            ("example.com/a", false, true),
            ("sub.example.com/a", false, false),
            ("sidecar.istio.io/inject", false, true),
            ("sidecar.istio.io/userVolume", false, false),
            ("cluster-autoscaler.kubernetes.io/safe-to-evict", false, true),
        ] {
            let map: BTreeMap<String, String> = [(key.to_owned(), "x".to_owned())].into();
            let of_label = PodSettings {
                labels: map.clone(),
                ..PodSettings::default()
            };
            let of_annotation = PodSettings {
                annotations: map,
                ..PodSettings::default()
            };
            let problems = [&of_label, &of_annotation].map(|settings| pod_settings_problems(settings, &allowed));
            assert_eq!(problems.each_ref().map(Vec::is_empty), [label, annotation], "{key}: {problems:?}");
        }
        let none = PodMetadata {
            annotations: Some(vec![]),
            ..PodMetadata::default()
        };
        let settings = PodSettings {
            annotations: [("sidecar.istio.io/userVolume".to_owned(), "[]".to_owned())].into(),
            ..PodSettings::default()
        };
        let (field, problem) = pod_settings_problems(&settings, &none).remove(0);
        assert_eq!(field, "annotations.sidecar.istio.io/userVolume");
        assert!(problem.contains("pods.allowedAnnotations"), "{problem}");
    }

    #[test]
    fn settings_of_an_administrator_are_validated() {
        let settings =
            read_pod_settings(r#"{"labels": {"team": "data"}, "tolerations": [{"key": "a"}], "priorityClassName": "low"}"#).unwrap();
        assert_eq!((settings.labels["team"].as_str(), settings.tolerations.len()), ("data", 1));
        for (json, says) in [
            ("{", "EOF"),
            (
                r#"{"labels": {"userpipeline.dev/pipeline": "x"}}"#,
                "labels.userpipeline.dev/pipeline: is reserved",
            ),
        ] {
            let problem = read_pod_settings(json).unwrap_err();
            assert!(problem.contains(says), "{problem}");
        }
    }
}
