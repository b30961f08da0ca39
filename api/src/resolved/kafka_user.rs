//! The `KafkaUser` of a pipeline.

use super::kafka::Kafka;
use crate::{SecretRef, StrimziListener, UserAuthentication, names};

/// A `KafkaUser` that the operator creates for one pipeline. Its Secret has the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineUser {
    /// Name of the resource, and user name.
    pub name: String,
    /// How it authenticates.
    pub authentication: UserAuthentication,
}

/// The user, where the connection leaves it to the operator. The Kafka block then refers to its Secret.
pub(super) fn of_pipeline(kafka: &mut Kafka, listener: &StrimziListener, pipeline: &str) -> Option<PipelineUser> {
    let user = kafka.auth.as_mut()?.strimzi_user.as_mut()?;
    if user.secret_ref.is_some() {
        return None;
    }
    let authentication = user.authentication?;
    let name = names::kafka_user(pipeline, listener, authentication);
    user.secret_ref = Some(SecretRef { name: name.clone() });
    Some(PipelineUser { name, authentication })
}
