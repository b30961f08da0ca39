//! The connections that a pipeline names.

use userpipeline_api::{ConnectionVersion, Connections, UserPipeline, UserPipelineConnectionSpec, UserPipelineSpec};

use super::used::used;

use crate::pipeline::model::{
    Problem, StoredConnection,
    reasons::{CONNECTION_INVALID, CONNECTION_MISSING},
};

/// The connections that a pipeline names: those that exist, and earlier versions of those that do not.
#[derive(Clone, Debug, Default)]
pub struct NamedConnections {
    pub connections: Connections,
    /// In the order of the pipeline's list.
    pub versions: Vec<ConnectionVersion>,
    /// Ids of stores that are accepted although they are others than before.
    pub accepted_stores: Vec<String>,
    /// Those that can be used, to be stored.
    pub used: Vec<StoredConnection>,
    /// Names of connections that do not exist, and in whose place an earlier version is used.
    missing: Vec<String>,
    /// The same for connections that cannot be used, each with the reason.
    invalid: Vec<String>,
}

impl NamedConnections {
    /// Why earlier versions of connections are used.
    pub fn problem(&self) -> Option<Problem> {
        let (reason, what) = match (&self.missing[..], &self.invalid[..]) {
            ([], []) => return None,
            ([], invalid) => (CONNECTION_INVALID, format!("cannot be used: {}", invalid.join("; "))),
            (missing, _) => (CONNECTION_MISSING, format!("do not exist: {}", missing.join(", "))),
        };
        let message = format!(
            "spec.connections names connections that {what}. Until they can be used, the pipeline works with the versions that it used last"
        );
        Some((reason.to_owned(), message))
    }

    /// Only the blocks that `pipeline` uses are stored.
    pub(super) fn use_connection(&mut self, version: ConnectionVersion, spec: UserPipelineConnectionSpec, pipeline: &UserPipelineSpec) {
        self.used.push(StoredConnection {
            name: version.name.clone(),
            generation: version.generation,
            spec: used(pipeline, spec.clone()),
        });
        self.connections.insert(version.name.clone(), Ok(spec));
        self.versions.push(version);
    }

    /// Uses the version that the pipeline's children have, in the place of a connection that is missing, or found and unusable.
    pub(super) fn stand_in(
        &mut self,
        name: &str,
        found: Option<(ConnectionVersion, Result<UserPipelineConnectionSpec, String>)>,
        pipeline: &UserPipeline,
        stored: &[StoredConnection],
    ) {
        let status = pipeline.status.iter().flat_map(|status| &status.connections);
        let recorded = status.into_iter().find(|recorded| recorded.name == name);
        match (last_used(name, pipeline, stored), found) {
            (Some(last), found) => {
                match found {
                    Some((_, Err(why))) => self.invalid.push(format!("{name}: {why}")),
                    _ => self.missing.push(name.to_owned()),
                }
                let version = ConnectionVersion {
                    name: name.to_owned(),
                    uid: recorded.map(|recorded| recorded.uid.clone()).unwrap_or_default(),
                    generation: last.generation,
                    listener: recorded.and_then(|recorded| recorded.listener.clone()),
                };
                self.use_connection(version, last.spec.clone(), &pipeline.spec);
            }
            (None, Some((version, spec))) => {
                self.connections.insert(name.to_owned(), spec);
                self.versions.push(version);
            }
            (None, None) => {}
        }
    }
}

/// The stored version of a connection that the pipeline's children have.
pub(super) fn last_used<'a>(name: &str, pipeline: &UserPipeline, stored: &'a [StoredConnection]) -> Option<&'a StoredConnection> {
    let recorded = pipeline.status.iter().flat_map(|status| &status.connections);
    let recorded = recorded.into_iter().find(|recorded| recorded.name == name);
    let mut of_name = stored.iter().filter(|stored| stored.name == name);
    let is_recorded = |stored: &&StoredConnection| recorded.is_some_and(|recorded| recorded.generation == stored.generation);
    of_name.clone().find(is_recorded).or_else(|| of_name.next())
}
