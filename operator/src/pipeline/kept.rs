//! An object as the caches keep it: as compressed text, and read when it is needed.
//!
//! A typed pod template takes many times the room of its JSON: each volume has a place for every kind of volume that Kubernetes
//! knows. The operator holds thousands of objects and reads a few of them at a time.

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
use userpipeline_api::names::PipelineId;

use super::build::labels;

/// An object of kind `K`.
#[derive(Clone, Debug)]
pub struct Kept<K> {
    /// By which it is found: name, namespace, uid, version, generation.
    metadata: ObjectMeta,
    /// The pipeline that it belongs to, of a pipeline's child.
    pipeline: Option<Box<str>>,
    /// Its JSON, deflated: a third of it.
    text: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K: DeserializeOwned> Kept<K> {
    /// The object, or why it does not read as its kind; an apiserver's own do.
    pub fn read(&self) -> Result<K, serde_json::Error> {
        let mut text = String::new();
        DeflateDecoder::new(&self.text[..])
            .read_to_string(&mut text)
            .map_err(serde_json::Error::io)?;
        // By way of a value: what is wrong is told without a place in a text that nobody has written.
        serde_json::from_value(serde_json::from_str(&text)?)
    }
}

impl<K> Kept<K> {
    /// The pipeline that it belongs to, as its label says.
    pub fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_deref()
    }
}

fn deflated(text: &str) -> std::io::Result<Box<[u8]>> {
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(text.len() / 2), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish().map(Vec::into_boxed_slice)
}

/// Which pipeline this is.
pub fn id(pipeline: &impl Resource) -> PipelineId {
    let meta = pipeline.meta();
    PipelineId {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
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
        assert_eq!(kept.pipeline(), Some("users"));
        let read = kept.read().unwrap();
        assert_eq!(read.data.unwrap()["k"], "v");
        assert_eq!(read.metadata.labels.unwrap()["x"], "y");
        assert_eq!(read.metadata.managed_fields, None);
    }
}
