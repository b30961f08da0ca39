//! Replaces the status of a resource, unless another one has its name by now.

use kube::{Api, Client, Error, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::identity::MANAGER;

/// Replaces the status of the resource with this uid, and returns the resource; `None` where it is gone. The uid is tested within the
/// patch: server-side apply of a status ignores it.
pub async fn replace_status<K>(client: &Client, namespace: &str, name: &str, uid: Option<&str>, status: &Value) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let uri = format!("{}/{name}/status?fieldManager={MANAGER}", K::url_path(&(), Some(namespace)));
    let request = http::Request::patch(uri)
        .header(http::header::CONTENT_TYPE, "application/json-patch+json")
        .body(patch.to_string().into_bytes())
        .map_err(Error::HttpError)?;
    match client.request::<K>(request).await {
        Ok(written) => Ok(Some(written)),
        Err(Error::Api(refused)) if refused.code == 404 => Ok(None),
        // The test failed, or the status is invalid.
        Err(Error::Api(refused)) if refused.code == 422 => {
            let found = Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await?;
            match found {
                Some(found) if found.uid().as_deref() == uid => Err(Error::Api(refused)),
                _ => Ok(None),
            }
        }
        Err(error) => Err(error),
    }
}
