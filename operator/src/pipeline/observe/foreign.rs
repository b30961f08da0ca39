//! Fields of pod templates that others than the operator set. The operator leaves them, because it does not own them. Pure.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::observed::Observed;
use crate::pipeline::children::ChildKind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignField {
    pub kind: &'static str,
    pub name: String,
    /// Such as `spec.template.spec.containers[worker].env[HTTP_PROXY]`.
    pub path: String,
    /// The field manager: `kubectl-set`, `kubectl-edit`.
    pub manager: String,
}

impl fmt::Display for ForeignField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} ({})", self.kind, self.name, self.path, self.manager)
    }
}

impl Observed {
    /// In the templates of workers and runs.
    pub fn foreign_fields(&self) -> Vec<ForeignField> {
        let deployments = self.children.deployments.iter().flat_map(|object| foreign_fields(object.as_ref()));
        let cron_jobs = self.children.cron_jobs.iter().flat_map(|object| foreign_fields(object.as_ref()));
        deployments.chain(cron_jobs).collect()
    }
}

/// The cache keeps of `managedFields` only those of interest.
fn foreign_fields<K: ChildKind>(object: &K) -> Vec<ForeignField> {
    let meta: &ObjectMeta = object.meta();
    let mut found = Vec::new();
    for entry in meta.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none()) {
        let mut paths = Vec::new();
        if let Some(fields) = &entry.fields_v1 {
            collect(&fields.0, "", &mut paths);
        }
        found.extend(paths.into_iter().map(|path| ForeignField {
            kind: K::KIND,
            name: meta.name.clone().unwrap_or_default(),
            path,
            manager: entry.manager.clone().unwrap_or_default(),
        }));
    }
    found
}

fn collect(fields: &Value, path: &str, paths: &mut Vec<String>) {
    match fields.as_object().filter(|fields| !fields.is_empty()) {
        None => paths.push(path.to_owned()),
        Some(fields) => fields.iter().for_each(|(key, inner)| collect(inner, &step(path, key), paths)),
    }
}

/// A step of `fieldsV1`: `f:` and a field, `k:` and the key of an item, `v:` and the value of one.
fn step(path: &str, key: &str) -> String {
    match key.split_once(':') {
        Some(("f", field)) if path.is_empty() => field.to_owned(),
        Some(("f", field)) if field.contains(['.', '/']) => format!("{path}[{field}]"),
        Some(("f", field)) => format!("{path}.{field}"),
        Some((_, item)) => {
            let values = match serde_json::from_str(item) {
                Ok(Value::Object(key)) => key.values().map(text).collect(),
                Ok(value) => vec![text(&value)],
                Err(_) => vec![item.to_owned()],
            };
            format!("{path}[{}]", values.join("/"))
        }
        None => format!("{path}.{key}"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::pipeline::children::Children;

    #[test]
    fn a_field_of_another_manager_is_named_by_its_path() {
        let fields = json!({"f:spec": {"f:template": {
            "f:metadata": {"f:annotations": {"f:example.com/x": {}}},
            "f:spec": {
                "f:containers": {r#"k:{"name":"worker"}"#: {
                    "f:env": {r#"k:{"name":"HTTP_PROXY"}"#: {}},
                    "f:ports": {r#"k:{"containerPort":8080,"protocol":"TCP"}"#: {}}
                }},
                "f:hostNetwork": {}
            }
        }}});
        let metadata =
            json!({"name": "users-worker", "managedFields": [{"manager": "kubectl-set", "operation": "Update", "fieldsV1": fields}]});
        let deployment = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        let observed = Observed {
            children: Children {
                deployments: vec![Arc::new(deployment)],
                ..Children::default()
            },
            ..Observed::default()
        };
        let found: Vec<String> = observed.foreign_fields().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "Deployment users-worker: spec.template.metadata.annotations[example.com/x] (kubectl-set)",
                "Deployment users-worker: spec.template.spec.containers[worker].env[HTTP_PROXY] (kubectl-set)",
                "Deployment users-worker: spec.template.spec.containers[worker].ports[8080/TCP] (kubectl-set)",
                "Deployment users-worker: spec.template.spec.hostNetwork (kubectl-set)",
            ]
        );
    }
}
