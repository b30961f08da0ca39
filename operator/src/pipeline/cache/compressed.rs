//! A cached object: compressed JSON that is deserialised when it is used.
//!
//! A typed pod template takes many times the memory of its JSON, because each volume has a field for every kind of volume that
//! Kubernetes knows. The operator caches thousands of objects and uses a few of them at a time.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{Read as _, Write as _},
    marker::PhantomData,
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, core::ObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Value, value::RawValue};
use userpipeline_api::{UserPipeline, UserPipelineConnection, names};
use userpipeline_record::weight;

use super::{foreign, nesting};
use crate::pipeline::model::labels;

/// Bytes that an object may take in memory, by an upper bound. Reconciles in parallel hold one each, and Kubernetes' 1.5 MiB of JSON can
/// take a hundred times as much.
const MAX_WEIGHT: usize = 8 << 20;

/// A pipeline whose spec may not be valid for this version of the operator.
pub type CachedPipeline = Compressed<UserPipeline>;

/// A connection whose spec may not be valid for this version of the operator.
pub type CachedConnection = Compressed<UserPipelineConnection>;

#[derive(Clone, Debug)]
pub struct Compressed<K> {
    /// Name, namespace, uid, resource version, generation and time of deletion only.
    metadata: ObjectMeta,
    /// The pipeline that a child belongs to.
    pipeline: Option<Box<str>>,
    /// Of a connection: the hash of the listener in its status.
    listener: Option<Box<str>>,
    /// Deflated JSON, about a third of its size.
    text: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K: DeserializeOwned> Compressed<K> {
    /// Fails where the object does not match its type, which no object of a built-in kind does.
    pub fn read(&self) -> Result<K, serde_json::Error> {
        let text = self.text()?;
        if let Some(place) = nesting::too_deep(&text) {
            return Err(serde_json::Error::custom(place));
        }
        let weight = weight(text.as_bytes());
        if weight > MAX_WEIGHT {
            return Err(serde_json::Error::custom(format!(
                "the resource has so many values that it would take about {} MiB of memory; at most {} MiB are allowed",
                weight >> 20,
                MAX_WEIGHT >> 20
            )));
        }
        // Once more from a value where that fails, so that the error does not name a line and column of a text that no user wrote.
        serde_json::from_str(&text).or_else(|_| serde_json::from_value(serde_json::from_str(&text)?))
    }
}

impl<K> Compressed<K> {
    fn text(&self) -> Result<String, serde_json::Error> {
        let mut text = String::new();
        DeflateDecoder::new(&self.text[..])
            .read_to_string(&mut text)
            .map_err(serde_json::Error::io)?;
        Ok(text)
    }

    /// Readable even where the rest of the object is not.
    pub fn status(&self) -> Option<Value> {
        #[derive(Deserialize)]
        struct Status {
            status: Option<Value>,
        }
        serde_json::from_str::<Status>(&self.text().ok()?).ok()?.status
    }

    /// Readable even where the rest of the object is not.
    pub fn annotation(&self, name: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Annotated {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        struct Metadata {
            annotations: Option<BTreeMap<String, String>>,
        }
        let object: Annotated = serde_json::from_str(&self.text().ok()?).ok()?;
        object.metadata.annotations?.remove(name)
    }

    /// In bytes.
    pub fn compressed_size(&self) -> usize {
        self.text.len()
    }

    pub fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_deref()
    }

    /// The hash of what a connection's status has of its Kafka listener, without the certificates, which pods read from elsewhere.
    pub fn listener(&self) -> Option<&str> {
        self.listener.as_deref()
    }
}

fn deflated(text: &str) -> std::io::Result<Box<[u8]>> {
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(text.len() / 2), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish().map(Vec::into_boxed_slice)
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
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
}

impl<'de, K: Resource<DynamicType = ()>> Deserialize<'de> for Compressed<K> {
    /// Does not parse the object: one that nests too deeply for a parser would make its whole list unreadable.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let mut object: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        let metadata = object.get("metadata").map_or("{}", |metadata| metadata.get());
        let head: Head = serde_json::from_str(metadata).map_err(D::Error::custom)?;
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(metadata).map_err(D::Error::custom)?;
        // Half of the text, and little of it is used.
        let listener = match object.get("status") {
            Some(status) if K::kind(&()) == UserPipelineConnection::kind(&()) => listener_hash(status),
            _ => None,
        };
        let managed_fields = members.remove("managedFields").and_then(|all| foreign::reduced(&K::kind(&()), all));
        let managed_fields = managed_fields.and_then(|fields| serde_json::value::to_raw_value(&fields).ok());
        if let Some(managed_fields) = &managed_fields {
            members.insert("managedFields".to_owned(), managed_fields);
        }
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
                deletion_timestamp: head.deletion_timestamp,
                ..ObjectMeta::default()
            },
            pipeline: head
                .labels
                .and_then(|mut labels| labels.remove(labels::PIPELINE))
                .map(String::into_boxed_str),
            listener,
            text: deflated(&text).map_err(D::Error::custom)?,
            kind: PhantomData,
        })
    }
}

fn listener_hash(status: &RawValue) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Status {
        kafka: Option<BTreeMap<String, Value>>,
    }
    let Status { kafka } = serde_json::from_str(status.get()).ok()?;
    let mut kafka = kafka?;
    kafka.remove("certificates");
    let text = serde_json::to_string(&kafka).ok()?;
    Some(names::hash(&text).into_boxed_str())
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
        let object = json!({"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b", "labels": {labels::PIPELINE: "users", "x": "y"}, "managedFields": [{"manager": "m"}]}, "data": {"k": "v"}});
        let cached: Compressed<ConfigMap> = serde_json::from_str(&object.to_string()).unwrap();
        assert_eq!((cached.name_any(), cached.namespace()), ("a".to_owned(), Some("b".to_owned())));
        assert_eq!(cached.pipeline(), Some("users"));
        let read = cached.read().unwrap();
        assert_eq!(read.data.unwrap()["k"], "v");
        assert_eq!(read.metadata.labels.unwrap()["x"], "y");
        assert_eq!(read.metadata.managed_fields, None);
    }

    #[test]
    fn a_connection_has_another_hash_for_another_listener_and_not_for_another_certificate() {
        let hash = |kafka: Value| {
            let connection = json!({"metadata": {"name": "a"}, "spec": {}, "status": {"kafka": kafka}});
            let cached: CachedConnection = serde_json::from_value(connection).unwrap();
            cached.listener().map(str::to_owned)
        };
        let one = hash(json!({"bootstrapServers": "a:9093", "certificates": ["x"]}));
        assert!(one.is_some());
        assert_eq!(hash(json!({"bootstrapServers": "a:9093", "certificates": ["x", "y"]})), one);
        assert_ne!(hash(json!({"bootstrapServers": "b:9093", "certificates": ["x"]})), one);
        assert_eq!(hash(Value::Null), None);
    }

    #[test]
    fn an_object_that_nests_too_deeply_does_not_keep_others_from_being_read() {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        let list = format!(
            r#"{{"apiVersion": "v1", "kind": "List", "metadata": {{}}, "items": [
                {{"metadata": {{"name": "deep", "uid": "1", "managedFields": {deep}}}, "data": {{"k": {deep}}}}},
                {{"metadata": {{"name": "good"}}, "data": {{"k": "v"}}}}]}}"#
        );
        let list: kube::core::ObjectList<Compressed<ConfigMap>> = serde_json::from_str(&list).unwrap();
        let error = list.items[0].read().unwrap_err().to_string();
        assert!(error.starts_with("data.k[0]"), "{error}");
        assert_eq!(list.items[1].read().unwrap().data.unwrap()["k"], "v");
        let event = format!(r#"{{"type": "ADDED", "object": {{"metadata": {{"name": "deep"}}, "data": {{"k": {deep}}}}}}}"#);
        let event: kube::core::WatchEvent<Compressed<ConfigMap>> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, kube::core::WatchEvent::Added(cached) if cached.read().is_err()));
    }

    #[test]
    fn an_object_of_many_small_values_is_refused_before_it_is_parsed() {
        let dense = format!(
            r#"{{"metadata": {{"name": "dense"}}, "data": {{"k": [{}[0]]}}}}"#,
            "[0],".repeat(300_000)
        );
        let cached: Compressed<ConfigMap> = serde_json::from_str(&dense).unwrap();
        let error = cached.read().unwrap_err().to_string();
        assert!(error.contains("so many values") && error.contains("at most 8 MiB"), "{error}");
        let long = format!(r#"{{"metadata": {{"name": "long"}}, "data": {{"k": "{}"}}}}"#, "x".repeat(1 << 20));
        let cached: Compressed<ConfigMap> = serde_json::from_str(&long).unwrap();
        assert!(cached.read().is_ok());
    }
}
