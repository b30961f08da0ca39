//! The manifests of `examples/`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize as _;
use serde_json::{Value, json};

/// The file with the connections that `make up` creates.
const CONNECTIONS: &str = "connections.yaml";

/// File names and manifests, in this namespace. Not those of `apis/`, whose sources are on the internet.
pub fn manifests(namespace: &str) -> Result<Vec<(String, Value)>> {
    let mut manifests = Vec::new();
    for file in std::fs::read_dir(folder())? {
        let file = file?;
        if file.file_type()?.is_dir() {
            continue;
        }
        let name = file.file_name().to_string_lossy().into_owned();
        manifests.extend(read(&name, namespace)?.into_iter().map(|manifest| (name.clone(), manifest)));
    }
    ensure!(manifests.len() > 1, "there are no examples");
    Ok(manifests)
}

/// The connections of the local services.
pub fn connections(namespace: &str) -> Result<Vec<Value>> {
    read(CONNECTIONS, namespace)
}

/// Removes the names of topic and tables, which an example in another namespace may use. Derived names are free.
pub fn remove_names(pipeline: &mut Value) {
    for (part, name) in [
        ("/spec/landing", "table"),
        ("/spec/kafka/topic", "name"),
        ("/spec/sinks/cassandra", "keyspace"),
        ("/spec/sinks/cassandra", "table"),
        ("/spec/sinks/postgres", "table"),
    ] {
        if let Some(named) = pipeline.pointer_mut(part).and_then(Value::as_object_mut) {
            named.remove(name);
        }
    }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn read(file: &str, namespace: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(folder().join(file)).with_context(|| file.to_owned())?;
    let documents = serde_yaml::Deserializer::from_str(&text).map(|document| {
        let mut manifest = Value::deserialize(document)?;
        manifest["metadata"]["namespace"] = json!(namespace);
        Ok(manifest)
    });
    documents.collect()
}
