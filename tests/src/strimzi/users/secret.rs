//! The Secret of a `KafkaUser`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use jiff::{ToSpan, Zoned};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::SERVICES,
    services::CA,
    strimzi::resources::{AuthenticationType, CLUSTER_LABEL, KafkaUser},
    tls::Authority,
};

pub(super) type Content = BTreeMap<String, String>;

/// The content for this user. What the Secret has already is kept while it is valid.
pub(super) async fn content(client: &Client, user: &KafkaUser, stored: &Content) -> Result<Result<Option<Content>, String>> {
    let Some(authentication) = &user.spec.authentication else {
        return Ok(Ok(None));
    };
    let content = match authentication.kind {
        AuthenticationType::TlsExternal => None,
        AuthenticationType::Tls => Some(certificate(client, &user.name_any(), stored).await?),
        AuthenticationType::ScramSha512 => {
            let password = match &authentication.password {
                Some(password) => match chosen_password(client, user, password).await? {
                    Ok(password) => password,
                    Err(refused) => return Ok(Err(refused)),
                },
                None => match stored.get("password") {
                    Some(password) => password.clone(),
                    None => uuid::Uuid::new_v4().simple().to_string(),
                },
            };
            Some(login(&user.name_any(), password))
        }
    };
    Ok(Ok(content))
}

fn login(user: &str, password: String) -> Content {
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
    let jaas = format!("{module} required username=\"{user}\" password=\"{password}\";");
    Content::from([("password".to_owned(), password), ("sasl.jaas.config".to_owned(), jaas)])
}

async fn chosen_password(client: &Client, user: &KafkaUser, password: &Value) -> Result<Result<String, String>> {
    let reference = &password["valueFrom"]["secretKeyRef"];
    let (name, key) = (
        reference["name"].as_str().unwrap_or_default(),
        reference["key"].as_str().unwrap_or_default(),
    );
    let namespace = user.namespace().unwrap_or_default();
    let Some(secret) = Api::<Secret>::namespaced(client.clone(), &namespace).get_opt(name).await? else {
        return Ok(Err(format!("Secret {name} with requested user password does not exist.")));
    };
    let mut data = secret.data.unwrap_or_default();
    let value = data.remove(key).map(|value| String::from_utf8(value.0)).transpose()?;
    Ok(value.ok_or_else(|| format!("Secret {name} does not contain the key {key} with requested user password.")))
}

/// A certificate of the authority that the broker trusts, with a key in PKCS #8.
async fn certificate(client: &Client, user: &str, stored: &Content) -> Result<Content> {
    let secret = Api::<Secret>::namespaced(client.clone(), SERVICES).get(CA.0).await?;
    let authority = text_of(&secret)?;
    let field = |key: &str| authority.get(key).with_context(|| format!("{key} of the authority"));
    let (ca, key) = (field("tls.crt")?, field("tls.key")?);
    if stored.get("ca.crt") == Some(ca) && stored.contains_key("user.crt") && stored.contains_key("user.key") {
        return Ok(stored.clone());
    }
    let expires = Zoned::now().date().checked_add(365.days())?;
    let (certificate, key) = Authority::existing(ca, key)?.client_identity(user, expires)?.pem();
    Ok([("ca.crt", ca.clone()), ("user.crt", certificate), ("user.key", key)]
        .map(|(name, text)| (name.to_owned(), text))
        .into())
}

/// What the Secret of this name has; nothing where there is none.
pub(super) async fn stored(client: &Client, user: &KafkaUser) -> Result<Content> {
    let namespace = user.namespace().unwrap_or_default();
    let secret = Api::<Secret>::namespaced(client.clone(), &namespace)
        .get_opt(&user.name_any())
        .await?;
    secret.as_ref().map_or_else(|| Ok(Content::new()), text_of)
}

fn text_of(secret: &Secret) -> Result<Content> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| Ok((key.clone(), String::from_utf8(value.0.clone())?)))
        .collect()
}

pub(super) async fn store(client: &Client, cluster: &str, user: &KafkaUser, content: &Content, api_version: &str) -> Result<()> {
    let (name, namespace) = (user.name_any(), user.namespace().unwrap_or_default());
    let metadata = user
        .spec
        .template
        .as_ref()
        .map(|template| template["secret"]["metadata"].clone())
        .unwrap_or_default();
    let mut labels =
        json!({CLUSTER_LABEL: cluster, "strimzi.io/kind": "KafkaUser", "app.kubernetes.io/managed-by": "strimzi-user-operator"});
    if let (Some(labels), Some(more)) = (labels.as_object_mut(), metadata["labels"].as_object()) {
        labels.extend(more.clone());
    }
    let annotations = if metadata["annotations"].is_object() {
        metadata["annotations"].clone()
    } else {
        json!({})
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "stringData": content,
        "metadata": {"name": name, "labels": labels, "annotations": annotations, "ownerReferences": [{
            "apiVersion": api_version, "kind": "KafkaUser", "name": name, "uid": user.meta().uid,
            "controller": false, "blockOwnerDeletion": false
        }]}
    });
    let by = PatchParams::apply("strimzi-user-operator").force();
    Api::<Secret>::namespaced(client.clone(), &namespace)
        .patch(&name, &by, &Patch::Apply(secret))
        .await?;
    Ok(())
}
