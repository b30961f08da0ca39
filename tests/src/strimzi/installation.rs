//! The entity operator of one Strimzi cluster: a Topic Operator and a User Operator, for one namespace.

use anyhow::Result;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use tokio::task::JoinSet;

use super::{
    broker_admin::BrokerAdmin,
    crds,
    resources::{self, KafkaTopic, KafkaUser},
    topics::TopicOperator,
    users::{UserOperator, fence},
    watch_loop,
};
use crate::World;

/// Runs until it is dropped.
pub struct Installation {
    client: Client,
    namespace: String,
    prefix: String,
    operators: JoinSet<()>,
}

impl Installation {
    /// Manages the topics and users of the world's namespace that have the label of this cluster.
    pub async fn start(world: &World, cluster: &str) -> Result<Self> {
        Self::start_in(&world.client, &world.namespace, cluster, &world.namespace).await
    }

    /// The same for any namespace. It touches nothing in Kafka whose name does not begin with `prefix`, and closes what does to all users
    /// who are not granted it.
    pub async fn start_in(client: &Client, namespace: &str, cluster: &str, prefix: &str) -> Result<Self> {
        crds::ensure_installed(client).await?;
        BrokerAdmin::connect().await?.create_acls(&fence(prefix)).await?;
        let topics: Api<KafkaTopic> = resources::topics(client, namespace).await?;
        let topic_operator = TopicOperator::new(topics.clone(), cluster, prefix).await?;
        let resource = resources::resource(client, "KafkaUser").await?;
        let users: Api<KafkaUser> = Api::namespaced_with(client.clone(), namespace, &resource);
        let user_operator = UserOperator::new(client, namespace, &resource, cluster, prefix);
        let mut operators = JoinSet::new();
        operators.spawn(watch_loop::run(topics, topic_operator));
        operators.spawn(watch_loop::run(users, user_operator));
        Ok(Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            prefix: prefix.to_owned(),
            operators,
        })
    }

    /// Removes the resources of the namespace, which could not be deleted after this, and their users. Topics are left to `sweep`.
    pub async fn clean_up(mut self) -> Result<()> {
        self.operators.shutdown().await;
        let (some, all) = (DeleteParams::default(), ListParams::default());
        resources::topics(&self.client, &self.namespace)
            .await?
            .delete_collection(&some, &all)
            .await?;
        resources::users(&self.client, &self.namespace)
            .await?
            .delete_collection(&some, &all)
            .await?;
        crds::release_topics(&self.client, Some(&self.namespace)).await?;
        remove_users(&self.prefix).await.map(drop)
    }
}

/// Removes from Kafka the ACLs on what has this prefix, and the users who have it. Gives their number.
pub async fn remove_users(prefix: &str) -> Result<usize> {
    let mut broker = BrokerAdmin::connect().await?;
    let acls: Vec<_> = { broker.acls(None).await?.into_iter() }
        .filter(|acl| acl.name.starts_with(prefix))
        .collect();
    broker.delete_acls(&acls).await?;
    let users: Vec<String> = { broker.users().await?.into_iter() }
        .filter(|user| user.starts_with(prefix))
        .collect();
    for user in &users {
        broker.delete_user(user).await?;
    }
    Ok(acls.len() + users.len())
}
