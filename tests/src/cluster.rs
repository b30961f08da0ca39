//! Connects to the local cluster, and to no other.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// The only context that tests use.
pub const CONTEXT: &str = "kind-userpipeline";
/// The namespace of Kafka, Cassandra, PostgreSQL, the schema registry and the source.
pub const SERVICES: &str = "services";
pub const OPERATOR_NAMESPACE: &str = "userpipeline-system";

/// The addresses of the services outside the cluster: ports of the kind node, published on loopback. All but the source's take TLS
/// only.
pub mod host {
    pub const KAFKA: &str = "127.0.0.1:30094";
    pub const CASSANDRA: &str = "127.0.0.1:30042";
    pub const POSTGRES: (&str, u16) = ("127.0.0.1", 30432);
    pub const REGISTRY: &str = "https://127.0.0.1:30081/apis/ccompat/v7";
    pub const SOURCE: &str = "http://127.0.0.1:30080";
}

pub async fn connect() -> Result<Client> {
    Ok(Client::try_from(config().await?)?)
}

/// A client of another user.
pub async fn connect_as(user: &str) -> Result<Client> {
    let mut config = config().await?;
    config.auth_info.impersonate = Some(user.to_owned());
    Ok(Client::try_from(config)?)
}

async fn config() -> Result<Config> {
    // Several crates use rustls, and the first one that installs a provider decides for all.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read().context("no kubeconfig: run `make test`, or `eval \"$(make -s env)\"` first")?;
    let options = KubeConfigOptions {
        context: Some(CONTEXT.to_owned()),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    ensure!(
        config.cluster_url.host() == Some("127.0.0.1"),
        "the context {CONTEXT} is not on this machine: {}",
        config.cluster_url
    );
    Ok(config)
}

/// Reads user name and password from a Secret.
pub async fn credentials(client: &Client, namespace: &str, name: &str) -> Result<(String, String)> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get(name).await?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| -> Result<String> {
        Ok(String::from_utf8(
            data.get(key).with_context(|| format!("Secret {name} has no {key}"))?.0.clone(),
        )?)
    };
    Ok((text("username")?, text("password")?))
}
