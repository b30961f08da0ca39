//! An object as the caches keep it: as text, and read when it is needed.
//!
//! A typed pod template takes many times the room of its JSON: each volume has a place for every kind of volume that Kubernetes
//! knows. The operator holds thousands of templates and reads a few of them at a time.

use std::{borrow::Cow, marker::PhantomData};

use kube::{Resource, core::ObjectMeta};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::build::labels;

/// An object of kind `K`.
#[derive(Clone, Debug)]
pub struct Kept<K> {
    /// By which it is found: name, namespace, uid, version, and the pipeline that it belongs to.
    metadata: ObjectMeta,
    text: Box<str>,
    kind: PhantomData<fn() -> K>,
}

impl<K: DeserializeOwned> Kept<K> {
    /// The object; none where it does not read as its kind, which an apiserver's own do.
    pub fn read(&self) -> Option<K> {
        serde_json::from_str(&self.text).ok()
    }
}

impl<'de, K> Deserialize<'de> for Kept<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            // Half of the text, and of no use to us.
            metadata.remove("managedFields");
        }
        let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
        let pipeline = object["metadata"]["labels"][labels::PIPELINE].as_str().map(str::to_owned);
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            labels: pipeline.map(|pipeline| [(labels::PIPELINE.to_owned(), pipeline)].into()),
            ..ObjectMeta::default()
        };
        Ok(Self {
            metadata,
            text: object.to_string().into_boxed_str(),
            kind: PhantomData,
        })
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Kept<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_read_as_it_was_without_who_manages_which_field() {
        let object = json!({"metadata": {"name": "a", "namespace": "b", "labels": {labels::PIPELINE: "users", "x": "y"}, "managedFields": [{"manager": "m"}]}, "data": {"k": "v"}});
        let kept: Kept<ConfigMap> = serde_json::from_value(object).unwrap();
        assert_eq!((kept.name_any(), kept.namespace()), ("a".to_owned(), Some("b".to_owned())));
        let read = kept.read().unwrap();
        assert_eq!(read.data.unwrap()["k"], "v");
        assert_eq!(read.metadata.labels.unwrap()["x"], "y");
        assert_eq!(read.metadata.managed_fields, None);
    }
}
