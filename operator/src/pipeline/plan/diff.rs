//! The difference between an object and its future version. Pure.

use serde_json::{Map, Value};
use similar::TextDiff;

use crate::pipeline::model::labels;

/// Fields that every write changes, or that follow from others.
const IGNORED_METADATA: [&str; 6] = [
    "managedFields",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "uid",
    "ownerReferences",
];
const IGNORED_ANNOTATIONS: [&str; 3] = [
    labels::DESIRED_HASH,
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// An object that would change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Kind and name.
    pub object: String,
    /// As YAML; empty where the object would be created.
    pub before: String,
    /// As YAML; empty where the object would be deleted.
    pub after: String,
}

impl Change {
    /// `None` where nothing would change.
    pub fn between(kind: &str, name: &str, before: Option<Value>, after: Option<Value>) -> Option<Self> {
        let text = |object: Option<Value>| {
            object.map_or_else(String::new, |object| {
                serde_yaml::to_string(&without_ignored(object)).unwrap_or_default()
            })
        };
        let (before, after) = (text(before), text(after));
        (before != after).then(|| Self {
            object: format!("{kind} {name}"),
            before,
            after,
        })
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match (self.before.is_empty(), self.after.is_empty()) {
            (true, _) => '+',
            (_, true) => '-',
            _ => '~',
        };
        writeln!(f, "{sign} {}", self.object)?;
        let diff = TextDiff::from_lines(&self.before, &self.after);
        for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
            write!(f, "{hunk}")?;
        }
        Ok(())
    }
}

/// An object without status and ignored fields.
fn without_ignored(mut object: Value) -> Value {
    let Value::Object(map) = &mut object else { return object };
    map.remove("status");
    if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
        for key in IGNORED_METADATA {
            metadata.remove(key);
        }
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            for key in IGNORED_ANNOTATIONS {
                annotations.remove(key);
            }
            if *annotations == Map::new() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ignored_fields_are_no_change() {
        let object = |version: &str, hash: &str| json!({"kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": version, "annotations": {labels::DESIRED_HASH: hash}}, "data": {"k": "v"}});
        assert_eq!(
            Change::between("ConfigMap", "a", Some(object("1", "x")), Some(object("2", "y"))),
            None
        );
    }

    #[test]
    fn a_change_shows_removed_and_added_lines() {
        let object = |value: &str| Some(json!({"metadata": {"name": "a"}, "data": {"k": value}}));
        let shown = |before, after| Change::between("ConfigMap", "a", before, after).unwrap().to_string();
        let changed = shown(object("old"), object("new"));
        assert!(
            changed.starts_with("~ ConfigMap a\n") && changed.contains("-  k: old\n") && changed.contains("+  k: new\n"),
            "{changed}"
        );
        assert!(shown(None, object("new")).starts_with("+ ConfigMap a\n"));
        assert!(shown(object("old"), None).starts_with("- ConfigMap a\n"));
    }
}
