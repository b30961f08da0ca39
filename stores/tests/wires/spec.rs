//! Blocks of a spec that name what is [`Mounted`](crate::mounted::Mounted).

use serde_json::{Value, json};

/// `tls` with the authority in the ConfigMap `ca`.
pub fn verify() -> Value {
    json!({"ca": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}})
}

/// The same, with the client certificate in the Secret `client`.
pub fn with_client() -> Value {
    let mut tls = verify();
    tls["clientSecretRef"] = json!({"name": "client"});
    tls
}

/// User name and password in the Secret `login`.
pub fn login() -> Value {
    json!({"credentialsSecretRef": {"name": "login"}})
}
