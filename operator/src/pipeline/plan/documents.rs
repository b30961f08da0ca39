//! The documents of a file.

use serde_json::Value;

use super::error::PlanError;

/// The pipelines in a file, and the connections beside them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    pub connections: Vec<Value>,
    pub pipelines: Vec<Value>,
}

/// Reads a file of YAML documents. Other resources are ignored.
pub fn documents(text: &str) -> Result<Documents, PlanError> {
    let mut found = Documents::default();
    for document in serde_yaml::Deserializer::from_str(text) {
        let document = <Value as serde::Deserialize>::deserialize(document)
            .map_err(|e| PlanError::Unreadable(format!("the file is not valid YAML: {e}")))?;
        match document["kind"].as_str() {
            Some("UserPipeline") => found.pipelines.push(document),
            Some("UserPipelineConnection") => found.connections.push(document),
            _ => {}
        }
    }
    if found == Documents::default() {
        return Err(PlanError::Unreadable(
            "the file contains no UserPipeline and no UserPipelineConnection".to_owned(),
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_and_connections_are_found_among_other_documents() {
        let text =
            "kind: Secret\n---\nkind: UserPipelineConnection\nmetadata: {name: stores}\n---\nkind: UserPipeline\nmetadata: {name: users}\n";
        let found = documents(text).unwrap();
        assert_eq!(found.connections[0]["metadata"]["name"], "stores");
        assert_eq!(found.pipelines[0]["metadata"]["name"], "users");
        assert!(documents("kind: Secret").is_err());
    }
}
