//! The User Operator, one resource at a time.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::{Api, Client, ResourceExt, api::ApiResource};

use super::{
    acls,
    secret::{self, Content},
};
use crate::strimzi::{
    broker_admin::{Acl, BrokerAdmin},
    conditions::{explained, is_paused, plain, same, write_status},
    resources::{AuthenticationType, CLUSTER_LABEL, Condition, KafkaUser, UserStatus},
    watch_loop::Reconciler,
};

/// What Kafka has for a user.
#[derive(Default, PartialEq, Eq)]
struct Applied {
    acls: Vec<Acl>,
    password: Option<String>,
}

pub(in crate::strimzi) struct UserOperator {
    client: Client,
    api: Api<KafkaUser>,
    resource: ApiResource,
    cluster: String,
    prefix: String,
    /// By the name of the resource. What is not in here is read from Kafka first.
    applied: BTreeMap<String, Applied>,
}

impl UserOperator {
    pub(in crate::strimzi) fn new(client: &Client, namespace: &str, resource: &ApiResource, cluster: &str, prefix: &str) -> Self {
        Self {
            client: client.clone(),
            api: Api::namespaced_with(client.clone(), namespace, resource),
            resource: resource.clone(),
            cluster: cluster.to_owned(),
            prefix: prefix.to_owned(),
            applied: BTreeMap::new(),
        }
    }

    async fn reconcile_user(&mut self, user: &KafkaUser) -> Result<()> {
        let name = user.name_any();
        if is_paused(user) {
            let old = user.status.clone().unwrap_or_default();
            let conditions = vec![plain("ReconciliationPaused")];
            return self.report(user, UserStatus { conditions, ..old }).await;
        }
        if !name.starts_with(&self.prefix) {
            let message = format!("the stand-in creates only users whose name begins with {}", self.prefix);
            return self.refuse(user, "OutsideOfTheStory", &message).await;
        }
        let username = username(user);
        let desired = match acls::desired(&user.spec, &format!("User:{username}"), &self.prefix) {
            Ok(desired) => desired,
            Err(message) => return self.refuse(user, "OutsideOfTheStory", &message).await,
        };
        let stored = secret::stored(&self.client, user).await?;
        let content = match secret::content(&self.client, user, &stored).await? {
            Ok(content) => content,
            Err(message) => return self.refuse(user, "InvalidResourceException", &message).await,
        };
        let password = content.as_ref().and_then(|content| content.get("password").cloned());
        let desired = Applied { acls: desired, password };
        if let Err(error) = self.apply(&name, desired).await {
            return self.refuse(user, "ExecutionException", &format!("{error:#}")).await;
        }
        if let Some(content) = &content {
            self.store(user, &stored, content).await?;
        }
        let status = UserStatus {
            conditions: vec![plain("Ready")],
            observed_generation: user.metadata.generation,
            secret: content.is_some().then_some(name),
            username: Some(username),
        };
        self.report(user, status).await
    }

    async fn store(&self, user: &KafkaUser, stored: &Content, content: &Content) -> Result<()> {
        if stored == content {
            return Ok(());
        }
        secret::store(&self.client, &self.cluster, user, content, &self.resource.api_version).await
    }

    /// Makes Kafka have what is desired.
    async fn apply(&mut self, name: &str, desired: Applied) -> Result<()> {
        let applied = self.applied.get(name);
        if applied == Some(&desired) {
            return Ok(());
        }
        let mut broker = BrokerAdmin::connect().await?;
        let mut existing = Vec::new();
        // Under its other name too, in case its authentication has changed.
        for principal in principals(name) {
            existing.extend(broker.acls(Some(&principal)).await?);
        }
        let missing: Vec<Acl> = desired.acls.iter().filter(|acl| !existing.contains(acl)).cloned().collect();
        let surplus: Vec<Acl> = existing.into_iter().filter(|acl| !desired.acls.contains(acl)).collect();
        broker.create_acls(&missing).await?;
        broker.delete_acls(&surplus).await?;
        match &desired.password {
            Some(password) if applied.and_then(|applied| applied.password.as_ref()) != Some(password) => {
                broker.set_password(name, password).await?;
            }
            Some(_) => {}
            None => broker.delete_user(name).await?,
        }
        self.applied.insert(name.to_owned(), desired);
        Ok(())
    }

    /// Removes a user from Kafka. Its Secret goes with its owner.
    async fn forget(&mut self, name: &str) -> Result<()> {
        if !self.applied.contains_key(name) {
            return Ok(());
        }
        let mut broker = BrokerAdmin::connect().await?;
        for principal in principals(name) {
            let acls = broker.acls(Some(&principal)).await?;
            broker.delete_acls(&acls).await?;
        }
        broker.delete_user(name).await?;
        self.applied.remove(name);
        Ok(())
    }

    async fn refuse(&self, user: &KafkaUser, reason: &str, message: &str) -> Result<()> {
        // Unlike a topic's `Ready=False`.
        let condition = explained("NotReady", "True", reason, message);
        let status = UserStatus {
            conditions: vec![condition],
            observed_generation: user.metadata.generation,
            ..UserStatus::default()
        };
        self.report(user, status).await
    }

    async fn report(&self, user: &KafkaUser, status: UserStatus) -> Result<()> {
        let old = user.status.clone().unwrap_or_default();
        let untimed = |status: &UserStatus| UserStatus {
            conditions: Vec::<Condition>::new(),
            ..status.clone()
        };
        if same(&status.conditions, &old.conditions) && untimed(&status) == untimed(&old) {
            return Ok(());
        }
        match write_status(&self.api, &user.name_any(), &status).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            written => Ok(written?),
        }
    }
}

/// As Kafka knows the user.
fn username(user: &KafkaUser) -> String {
    let name = user.name_any();
    match user.spec.authentication.as_ref().map(|authentication| authentication.kind) {
        Some(AuthenticationType::Tls | AuthenticationType::TlsExternal) => format!("CN={name}"),
        Some(AuthenticationType::ScramSha512) | None => name,
    }
}

/// The principals of a user, with a password or with a certificate.
fn principals(name: &str) -> [String; 2] {
    [format!("User:{name}"), format!("User:CN={name}")]
}

impl Reconciler for UserOperator {
    async fn reconcile(&mut self, name: &str) -> Result<()> {
        let found = self.api.get_opt(name).await?;
        let ours = |user: &KafkaUser| user.metadata.deletion_timestamp.is_none() && user.labels().get(CLUSTER_LABEL) == Some(&self.cluster);
        match found.filter(ours) {
            Some(user) => self.reconcile_user(&user).await,
            None => self.forget(name).await,
        }
    }
}
