//! What the caches keep of `managedFields`: the fields of a pod template that others than the operator own, and the operator does
//! not; and who else set the number of replicas.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::identity::MANAGER;

/// Bytes of one manager's fields: larger ones are dropped unread.
const MAX_TEXT: usize = 256 * 1024;
/// `kubectl rollout restart` sets it; a restart that a user requested is no fault.
const RESTARTED_AT: &str = "f:kubectl.kubernetes.io/restartedAt";
/// The subresource through which replicas are set.
const SCALE: &str = "scale";
const REPLICAS: &str = "f:replicas";
/// The item or object itself, in `fieldsV1`.
const SELF: &str = ".";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    subresource: String,
    #[serde(borrow, default)]
    fields_v1: Option<&'a RawValue>,
}

/// The reduced `managedFields` of an object of this kind; `None` where nothing is left.
pub fn reduced(kind: &str, managed_fields: &RawValue) -> Option<Value> {
    let path = template_path(kind)?;
    let entries: Vec<Entry<'_>> = serde_json::from_str(managed_fields.get()).ok()?;
    let mut kept = templates(&entries, path);
    kept.extend(scaler(&entries));
    (!kept.is_empty()).then_some(Value::Array(kept))
}

/// The manager that set the number of replicas to another one than the operator: `kubectl scale`, an autoscaler.
fn scaler(entries: &[Entry<'_>]) -> Option<Value> {
    let mut owners = entries
        .iter()
        .filter(|entry| entry.fields_v1.is_some_and(|fields| fields.get().contains(REPLICAS)));
    let is_ours = |entry: &Entry<'_>| entry.manager == MANAGER;
    if owners.clone().any(is_ours) {
        return None;
    }
    let scaler = owners.find(|entry| entry.subresource == SCALE)?;
    Some(json!({"manager": scaler.manager, "operation": scaler.operation, "subresource": SCALE, "fieldsV1": {"f:spec": {REPLICAS: {}}}}))
}

fn templates(entries: &[Entry<'_>], path: &[&str]) -> Vec<Value> {
    let entries = entries.iter().filter(|entry| entry.subresource.is_empty());
    let (ours, others): (Vec<&Entry<'_>>, Vec<_>) = entries.partition(|entry| entry.manager == MANAGER);
    let mut others: Vec<(&Entry<'_>, Value)> = others
        .into_iter()
        .filter_map(|entry| Some((entry, template(entry, path)?)))
        .collect();
    if others.is_empty() {
        return Vec::new();
    }
    let ours: Vec<Value> = ours.into_iter().filter_map(|entry| template(entry, path)).collect();
    let ours: Vec<&Value> = ours.iter().collect();
    others
        .iter_mut()
        .filter_map(|(entry, template)| {
            subtract(template.as_object_mut()?, &ours);
            let is_empty = template.as_object().is_none_or(Map::is_empty);
            (!is_empty).then(|| json!({"manager": entry.manager, "operation": entry.operation, "fieldsV1": below(path, template.take())}))
        })
        .collect()
}

fn template_path(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "Deployment" => Some(&["f:spec", "f:template"]),
        "CronJob" => Some(&["f:spec", "f:jobTemplate", "f:spec", "f:template"]),
        _ => None,
    }
}

/// The fields of the template that this manager owns.
fn template(entry: &Entry<'_>, path: &[&str]) -> Option<Value> {
    let text = entry.fields_v1?.get();
    if text.len() > MAX_TEXT || !text.contains("\"f:template\"") {
        return None;
    }
    let mut fields: Value = serde_json::from_str(text).ok()?;
    for step in path {
        fields = fields.get_mut(step)?.take();
    }
    fields.is_object().then_some(fields)
}

/// Removes what the operator owns as well. An item of a list that only others own is left as a whole.
fn subtract(fields: &mut Map<String, Value>, ours: &[&Value]) {
    fields.retain(|key, value| {
        let ours: Vec<&Value> = ours.iter().filter_map(|ours| ours.get(key)).collect();
        let Value::Object(inner) = value else { return false };
        if key == SELF || key == RESTARTED_AT {
            return false;
        }
        let is_item = !key.starts_with("f:");
        if ours.is_empty() && is_item && inner.contains_key(SELF) {
            inner.clear();
        }
        if inner.keys().all(|key| key == SELF) {
            inner.clear();
            return ours.is_empty();
        }
        subtract(inner, &ours);
        !inner.is_empty()
    });
}

fn below(path: &[&str], fields: Value) -> Value {
    path.iter().rev().fold(fields, |inner, step| json!({ *step: inner }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, entries: &Value) -> Option<Value> {
        reduced(kind, &serde_json::value::to_raw_value(entries).unwrap())
    }

    fn entry(manager: &str, template: &Value) -> Value {
        json!({"manager": manager, "operation": "Update", "time": "2025-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": below(&["f:spec", "f:template"], template.clone())})
    }

    fn container(fields: Value) -> Value {
        let mut container = json!({"f:spec": {"f:containers": {}}});
        container["f:spec"]["f:containers"][r#"k:{"name":"worker"}"#] = fields;
        container
    }

    #[test]
    fn what_others_own_alone_is_kept() {
        let ours = entry(
            MANAGER,
            &container(
                json!({".": {}, "f:name": {}, "f:image": {}, "f:env": {r#"k:{"name":"A"}"#: {".": {}, "f:name": {}, "f:value": {}}}}),
            ),
        );
        let env = |name: &str| json!({"f:env": {".": {}, format!(r#"k:{{"name":"{name}"}}"#): {".": {}, "f:name": {}, "f:value": {}}}});
        let kept = |fields: Value| of("Deployment", &json!([ours, entry("kubectl-set", &fields)]));
        let expected = container(json!({"f:env": {r#"k:{"name":"HTTP_PROXY"}"#: {}}}));
        assert_eq!(
            kept(container(env("HTTP_PROXY"))),
            Some(json!([{"manager": "kubectl-set", "operation": "Update", "fieldsV1": below(&["f:spec", "f:template"], expected)}]))
        );
        assert_eq!(kept(container(env("A"))), None, "the operator owns it, too");
        assert_eq!(kept(container(json!({"f:image": {}}))), None);
        assert!(kept(json!({"f:metadata": {"f:annotations": {".": {}, "f:x": {}}}})).is_some());
    }

    #[test]
    fn restarts_other_parts_other_kinds_and_subresources_are_not_kept() {
        let restarted = entry(
            "kubectl-rollout",
            &json!({"f:metadata": {"f:annotations": {".": {}, RESTARTED_AT: {}}}}),
        );
        let mut status = entry("kube-controller-manager", &json!({"f:x": {}}));
        status["subresource"] = json!("status");
        let replicas = json!({"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        assert_eq!(of("Deployment", &json!([restarted, status, replicas])), None);
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let autoscaler = json!({"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale", "fieldsV1": replicas});
        let ours = json!({"manager": MANAGER, "operation": "Apply", "fieldsV1": replicas});
        assert_eq!(of("Deployment", &json!([autoscaler])), Some(json!([autoscaler])));
        assert_eq!(of("Deployment", &json!([ours, autoscaler])), None, "it is set back");
        let foreign = entry("kubectl-edit", &json!({"f:x": {}}));
        assert!(of("Deployment", &json!([foreign])).is_some());
        assert_eq!(of("Job", &json!([foreign])), None);
        assert_eq!(of("Deployment", &json!("no list")), None);
        let nested = below(&["f:spec", "f:jobTemplate", "f:spec", "f:template"], json!({"f:x": {}}));
        let entry = json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": nested});
        assert_eq!(of("CronJob", &json!([entry.clone()])), Some(json!([entry])));
    }
}
