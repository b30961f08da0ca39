//! What `stream-worker check-connection` receives.

use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::json;

use super::{file::DocumentError, mounts::Mounts};
use crate::{GROUP, UserPipelineConnectionSpec};

const KIND: &str = "UserPipelineConnection";

/// A connection, as `stream-worker check-connection` reads it.
#[derive(Clone, Debug)]
pub struct CheckedConnection {
    /// Its name.
    pub name: String,
    /// Its blocks. `auth` and headers of `http` are missing, because no request is sent there.
    pub spec: UserPipelineConnectionSpec,
}

impl CheckedConnection {
    /// Reads the file of a pod, or the one that a user applies.
    pub fn read(text: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Document {
            kind: String,
            metadata: ObjectMeta,
            spec: UserPipelineConnectionSpec,
        }
        let document: Document =
            serde_yaml::from_str(text).map_err(|e| DocumentError(format!("the connection's file does not read: {e}")))?;
        if document.kind != KIND {
            return Err(DocumentError(format!("the file holds a {}, not a {KIND}", document.kind)));
        }
        Ok(Self {
            name: document.metadata.name.unwrap_or_default(),
            spec: document.spec,
        })
    }

    /// The file of a pod.
    pub fn document(name: &str, spec: &UserPipelineConnectionSpec) -> String {
        let document = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"),
            "kind": KIND,
            "metadata": {"name": name},
            "spec": without_requests(spec),
        });
        serde_yaml::to_string(&document).unwrap_or_default()
    }

    /// The Secrets and ConfigMaps that the program reads.
    pub fn mounts(spec: &UserPipelineConnectionSpec) -> Mounts {
        Mounts::of_connection(&without_requests(spec))
    }
}

/// The spec without what only requests to the API need.
fn without_requests(spec: &UserPipelineConnectionSpec) -> UserPipelineConnectionSpec {
    let mut spec = spec.clone();
    if let Some(http) = &mut spec.http {
        http.auth = None;
        http.headers.clear();
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_reads_and_mounts_what_the_check_needs() {
        let login = |name: &str| json!({"credentialsSecretRef": {"name": name}});
        let tls = |name: &str| json!({"ca": {"configMapKeyRef": {"name": name, "key": "ca.crt"}}});
        let key = json!({"secretKeyRef": {"name": "crm", "key": "token"}});
        let spec: UserPipelineConnectionSpec = serde_json::from_value(json!({
            "postgres": {"host": "db", "database": "users", "credentialsSecretRef": {"name": "db"}, "tls": tls("ca")},
            "kafka": {"bootstrapServers": "kafka:9093", "auth": {"scramSha512": login("kafka")}, "topic": {"replicas": 3}},
            "schemaRegistry": {"url": "https://registry", "auth": {"basic": login("registry")}, "tls": tls("ca")},
            "cassandra": {"contactPoints": ["c"], "localDatacenter": "dc1", "credentialsSecretRef": {"name": "cassandra"}},
            "http": {"baseUrl": "https://crm.example", "auth": {"bearer": key}, "headers": [{"name": "X-Key", "valueFrom": key}], "tls": tls("web")},
        }))
        .unwrap();
        let mounts = CheckedConnection::mounts(&spec);
        assert_eq!(mounts.secrets, ["cassandra", "db", "kafka", "registry"], "not that of the API");
        assert_eq!(mounts.config_maps, ["ca", "web"]);
        let text = CheckedConnection::document("stores", &spec);
        let read = CheckedConnection::read(&text).unwrap();
        assert_eq!((read.name.as_str(), read.spec), ("stores", without_requests(&spec)));
        assert!(!text.contains("crm\n") && !text.contains("X-Key"), "{text}");
        let error = CheckedConnection::read(&text.replace(KIND, "Pod")).unwrap_err().to_string();
        assert!(error.contains("holds a Pod"), "{error}");
    }
}
