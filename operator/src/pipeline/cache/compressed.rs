//! A cached object: compressed JSON that is deserialised when it is used.
//!
//! A typed pod template takes many times the memory of its JSON, because each volume has a field for every kind of volume that
//! Kubernetes knows. The operator caches thousands of objects and uses a few of them at a time.

use std::{
    borrow::Cow,
    io::{Read as _, Write as _},
    marker::PhantomData,
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use kube::{Resource, core::ObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;
use userpipeline_api::UserPipeline;

use crate::pipeline::model::labels;

/// A pipeline whose spec may not be valid for this version of the operator.
pub type CachedPipeline = Compressed<UserPipeline>;

#[derive(Clone, Debug)]
pub struct Compressed<K> {
    /// Name, namespace, uid, resource version and generation only.
    metadata: ObjectMeta,
    /// The pipeline that a child belongs to.
    pipeline: Option<Box<str>>,
    /// Deflated JSON, about a third of its size.
    text: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K: DeserializeOwned> Compressed<K> {
    /// Fails where the object does not match its type, which no object of a built-in kind does.
    pub fn read(&self) -> Result<K, serde_json::Error> {
        let mut text = String::new();
        DeflateDecoder::new(&self.text[..])
            .read_to_string(&mut text)
            .map_err(serde_json::Error::io)?;
        // Deserialised from a value, so that an error does not name a line and column of a text that no user wrote.
        serde_json::from_value(serde_json::from_str(&text)?)
    }
}

impl<K> Compressed<K> {
    pub fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_deref()
    }
}

fn deflated(text: &str) -> std::io::Result<Box<[u8]>> {
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(text.len() / 2), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish().map(Vec::into_boxed_slice)
}

impl<'de, K> Deserialize<'de> for Compressed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            // Half of the text, and unused.
            metadata.remove("managedFields");
        }
        let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            generation: object["metadata"]["generation"].as_i64(),
            ..ObjectMeta::default()
        };
        Ok(Self {
            metadata,
            pipeline: object["metadata"]["labels"][labels::PIPELINE].as_str().map(Box::from),
            text: deflated(&object.to_string()).map_err(D::Error::custom)?,
            kind: PhantomData,
        })
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Compressed<K> {
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
    fn a_cached_object_is_read_back_without_its_managed_fields() {
        let object = json!({"metadata": {"name": "a", "namespace": "b", "labels": {labels::PIPELINE: "users", "x": "y"}, "managedFields": [{"manager": "m"}]}, "data": {"k": "v"}});
        let cached: Compressed<ConfigMap> = serde_json::from_value(object).unwrap();
        assert_eq!((cached.name_any(), cached.namespace()), ("a".to_owned(), Some("b".to_owned())));
        assert_eq!(cached.pipeline(), Some("users"));
        let read = cached.read().unwrap();
        assert_eq!(read.data.unwrap()["k"], "v");
        assert_eq!(read.metadata.labels.unwrap()["x"], "y");
        assert_eq!(read.metadata.managed_fields, None);
    }
}
