//! A pipeline whose source is its topic.

use serde_json::{Value, json};

/// The pipeline with JSON readings, each with a revision, from a topic of so many partitions, instead of runs.
pub fn from_topic(mut pipeline: Value, partitions: i32) -> Value {
    let spec = &mut pipeline["spec"];
    spec["source"] = json!({"topic": {"format": "JSON"}});
    spec["record"] = json!({"key": ["id"], "orderBy": "revision", "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "revision", "type": "long", "from": "/revision"},
        {"name": "name", "type": "string", "from": "/name"},
    ]});
    spec["kafka"]["topic"]["partitions"] = json!(partitions);
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("schedule");
        spec.remove("schemaRegistry");
    }
    pipeline
}
