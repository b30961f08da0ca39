//! The `KafkaUser` that a pipeline logs in with, and what it may do.

use serde::Serialize;
use serde_json::{Value, json};
use userpipeline_api::UserAuthentication;

use crate::strimzi::ClusterId;

/// The user that the operator creates for a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedUser {
    pub cluster: ClusterId,
    /// Of the resource and of its Secret.
    pub name: String,
    pub authentication: UserAuthentication,
    pub acls: Vec<Acl>,
}

/// What a user may do with a resource of Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    pub resource: AclResource,
    /// As Strimzi names them, such as `Read`.
    pub operations: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclResource {
    Topic(String),
    Group(String),
    Cluster,
}

impl Acl {
    /// In Strimzi's form.
    pub fn to_value(&self) -> Value {
        let resource = match &self.resource {
            AclResource::Topic(name) => named("topic", name),
            AclResource::Group(name) => named("group", name),
            AclResource::Cluster => json!({"type": "cluster"}),
        };
        json!({"resource": resource, "operations": self.operations})
    }
}

fn named(type_: &str, name: &impl Serialize) -> Value {
    json!({"type": type_, "name": name})
}
