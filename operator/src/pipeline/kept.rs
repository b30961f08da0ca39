//! An object as the caches keep it: as compressed text, and read when it is needed.
//!
//! A typed pod template takes many times the room of its JSON: each volume has a place for every kind of volume that Kubernetes
//! knows. The operator holds thousands of objects and reads a few of them at a time.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{Read as _, Write as _},
    marker::PhantomData,
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use kube::{Resource, core::ObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Value, value::RawValue};
use userpipeline_api::names::PipelineId;

use super::{build::labels, nesting};

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
        let text = self.text()?;
        if let Some(place) = nesting::too_deep(&text) {
            return Err(serde_json::Error::custom(place));
        }
        // By way of a value: what is wrong is told without a place in a text that nobody has written.
        serde_json::from_value(serde_json::from_str(&text)?)
    }
}

impl<K> Kept<K> {
    fn text(&self) -> Result<String, serde_json::Error> {
        let mut text = String::new();
        DeflateDecoder::new(&self.text[..])
            .read_to_string(&mut text)
            .map_err(serde_json::Error::io)?;
        Ok(text)
    }

    /// Its status, also where the rest does not read as its kind.
    pub fn status(&self) -> Option<Value> {
        #[derive(Deserialize)]
        struct Status {
            status: Option<Value>,
        }
        serde_json::from_str::<Status>(&self.text().ok()?).ok()?.status
    }

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

/// What the caches need of an object's metadata.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
}

impl<'de, K> Deserialize<'de> for Kept<K> {
    /// Takes the text as it is: what one object has in it must not keep the others of its list from being read.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let mut object: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        let metadata = object.get("metadata").map_or("{}", |metadata| metadata.get());
        let head: Head = serde_json::from_str(metadata).map_err(D::Error::custom)?;
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(metadata).map_err(D::Error::custom)?;
        // Half of the text, and of no use to us.
        members.remove("managedFields");
        let metadata = serde_json::value::to_raw_value(&members).map_err(D::Error::custom)?;
        object.insert("metadata".to_owned(), &metadata);
        let text = serde_json::to_string(&object).map_err(D::Error::custom)?;
        Ok(Self {
            metadata: ObjectMeta {
                name: head.name,
                namespace: head.namespace,
                uid: head.uid,
                resource_version: head.resource_version,
                generation: head.generation,
                ..ObjectMeta::default()
            },
            pipeline: head
                .labels
                .and_then(|mut labels| labels.remove(labels::PIPELINE))
                .map(String::into_boxed_str),
            text: deflated(&text).map_err(D::Error::custom)?,
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
        let object = json!({"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b", "labels": {labels::PIPELINE: "users", "x": "y"}, "managedFields": [{"manager": "m"}]}, "data": {"k": "v"}});
        let kept: Kept<ConfigMap> = serde_json::from_str(&object.to_string()).unwrap();
        assert_eq!((kept.name_any(), kept.namespace()), ("a".to_owned(), Some("b".to_owned())));
        assert_eq!(kept.pipeline(), Some("users"));
        let read = kept.read().unwrap();
        assert_eq!(read.data.unwrap()["k"], "v");
        assert_eq!(read.metadata.labels.unwrap()["x"], "y");
        assert_eq!(read.metadata.managed_fields, None);
    }

    #[test]
    fn an_object_that_nests_too_deeply_does_not_keep_others_from_being_read() {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        let list = format!(
            r#"{{"apiVersion": "v1", "kind": "List", "metadata": {{}}, "items": [
                {{"metadata": {{"name": "deep", "uid": "1", "managedFields": {deep}}}, "data": {{"k": {deep}}}}},
                {{"metadata": {{"name": "good"}}, "data": {{"k": "v"}}}}]}}"#
        );
        let list: kube::core::ObjectList<Kept<ConfigMap>> = serde_json::from_str(&list).unwrap();
        let error = list.items[0].read().unwrap_err().to_string();
        assert!(error.starts_with("data.k[0]"), "{error}");
        assert_eq!(list.items[1].read().unwrap().data.unwrap()["k"], "v");
        let event = format!(r#"{{"type": "ADDED", "object": {{"metadata": {{"name": "deep"}}, "data": {{"k": {deep}}}}}}}"#);
        let event: kube::core::WatchEvent<Kept<ConfigMap>> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, kube::core::WatchEvent::Added(kept) if kept.read().is_err()));
    }
}
