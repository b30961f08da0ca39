//! Writes the KafkaUsers of a pipeline. Strimzi may be absent, so they are no children like others.

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::Value;

use super::{applier::Applier, drift::differences, error::ApplyError};
use crate::{
    identity::MANAGER,
    pipeline::{
        decide::kafka_user::Decision,
        model::labels,
        observe::{LiveUser, kafka_users},
    },
    strimzi::{KafkaUser, Strimzi, Unavailable},
};

const KIND: &str = "KafkaUser";

impl Applier<'_> {
    /// Applies the user where it is missing, or differs.
    pub(super) async fn apply_kafka_user(&self, desired: Option<&Value>, decision: &Decision) -> Result<(), ApplyError> {
        let (Some(desired), Some(apply), Some(resource)) = (desired, &decision.apply, &decision.resource) else {
            return Ok(());
        };
        let name = desired["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let Some(LiveUser(live)) = &apply.live else {
            return self.create_kafka_user(&name, desired, resource).await;
        };
        if !self.is_own_user(live) || live.metadata.deletion_timestamp.is_some() {
            // That of an earlier pipeline of this name, which Kubernetes collects.
            return Err(ApplyError::BeingDeleted {
                kind: KIND.to_owned(),
                name,
            });
        }
        let failed = |source: kube::Error| apply_failed(&name, source);
        let current = serde_json::to_value(live.as_ref()).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        if differences(&current, desired).is_empty() && is_subset(&current, desired) {
            return Ok(());
        }
        let params = PatchParams::apply(MANAGER).force();
        let patched = self.users(resource).patch(&name, &params, &Patch::Apply(desired)).await;
        patched.map_err(failed)?;
        self.wrote_user(&name, "patch", "applied");
        Ok(())
    }

    async fn create_kafka_user(&self, name: &str, desired: &Value, resource: &ApiResource) -> Result<(), ApplyError> {
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let user: KafkaUser =
            serde_json::from_value(desired.clone()).map_err(|error| apply_failed(name, kube::Error::SerdeError(error)))?;
        match self.users(resource).create(&params, &user).await {
            Ok(_) => {
                self.wrote_user(name, "create", "applied");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let existing = self
                    .users(resource)
                    .get_opt(name)
                    .await
                    .map_err(|error| apply_failed(name, error))?;
                let (kind, name) = (KIND.to_owned(), name.to_owned());
                match existing {
                    Some(existing) if !self.is_own_user(&existing) => Err(ApplyError::NotOurs { kind, name }),
                    // The watch reports it soon.
                    _ => Err(ApplyError::Changed { kind, name }),
                }
            }
            Err(error) => Err(apply_failed(name, error)),
        }
    }

    pub(super) async fn delete_stale_kafka_users(&self, decision: &Decision) -> Vec<ApplyError> {
        let mut errors = Vec::new();
        for LiveUser(user) in &decision.stale {
            if let Some(resource) = &decision.resource {
                errors.extend(self.delete_kafka_user(user, resource).await.err());
            }
        }
        errors
    }

    /// Deletes the users that no garbage collection deletes. Their pipeline is being deleted, and its data is deleted already.
    pub async fn clear_kafka_users(&self, strimzi: &Strimzi) -> Result<(), ApplyError> {
        let found = match kafka_users(self.id, strimzi) {
            None => return Ok(()),
            Some(Ok(found)) => found,
            Some(Err(why @ Unavailable::NotYetKnown { .. })) => return Err(ApplyError::Unavailable(why)),
            Some(Err(why)) => {
                tracing::warn!(pipeline = %self.id, %why, "its KafkaUsers are not deleted");
                return Ok(());
            }
        };
        let is_ownerless = |user: &&LiveUser| user.0.labels().get(labels::PIPELINE_UID).is_some_and(|uid| uid == self.uid);
        for LiveUser(user) in found.users.iter().filter(is_ownerless) {
            self.delete_kafka_user(user, &found.resource).await?;
        }
        Ok(())
    }

    async fn delete_kafka_user(&self, user: &KafkaUser, resource: &ApiResource) -> Result<(), ApplyError> {
        let name = user.name_any();
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: user.uid(),
            resource_version: user.resource_version(),
        });
        match self.users(resource).delete(&name, &params).await {
            Ok(_) => {
                self.wrote_user(&name, "delete", "deleted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(ApplyError::Changed {
                kind: KIND.to_owned(),
                name,
            }),
            Err(source) => Err(ApplyError::DeleteFailed {
                kind: KIND.to_owned(),
                name,
                source: Box::new(source),
            }),
        }
    }

    fn users(&self, resource: &ApiResource) -> Api<KafkaUser> {
        Api::namespaced_with(self.client.clone(), &self.id.namespace, resource)
    }

    fn is_own_user(&self, user: &KafkaUser) -> bool {
        let is_owned = user.owner_references().iter().any(|owner| owner.uid == self.uid);
        is_owned || user.labels().get(labels::PIPELINE_UID).is_some_and(|uid| uid == self.uid)
    }

    fn wrote_user(&self, name: &str, verb: &'static str, what: &str) {
        self.metrics.wrote(KIND, verb);
        tracing::info!(kind = KIND, name, namespace = self.id.namespace, "{what}");
    }
}

/// Whether `live` has no authorization, owner or mark of another deletion policy that was not desired.
fn is_subset(live: &Value, desired: &Value) -> bool {
    let has = |value: &Value, pointer: &str| {
        value
            .pointer(pointer)
            .is_some_and(|found| !found.is_null() && found.as_array().is_none_or(|found| !found.is_empty()))
    };
    ["/spec/authorization", "/metadata/ownerReferences"]
        .into_iter()
        .all(|pointer| has(live, pointer) == has(desired, pointer))
}

fn apply_failed(name: &str, source: kube::Error) -> ApplyError {
    ApplyError::ApplyFailed {
        kind: KIND.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}
