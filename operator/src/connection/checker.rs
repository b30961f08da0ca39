//! Runs the check Jobs of connections.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use userpipeline_api::{UserPipelineConnectionSpec, document::CheckedConnection, names, names::PipelineId};

use super::{check::Decision, subject::Subject};
use crate::{
    identity::MANAGER,
    metrics::Metrics,
    pipeline::{CachedConnection, CheckChildren, Installation, Owner, PodConfig, check_objects, connection_id, owner_reference},
};

/// The owner of a connection's children. None if it does not come from an API server.
pub fn owner(connection: &CachedConnection, installation: &Installation) -> Option<Owner> {
    let id = connection_id(connection);
    let reference = owner_reference(connection)?;
    Some(Owner {
        id: PipelineId {
            namespace: id.namespace,
            name: id.name,
        },
        uid: reference.uid.clone(),
        reference: Some(reference),
        team: None,
        images: installation.images.clone(),
        tasks: installation.check_pods.clone(),
    })
}

/// What a decision writes.
pub struct Checker<'a> {
    pub client: &'a Client,
    pub metrics: &'a Metrics,
    pub owner: &'a Owner,
    pub spec: &'a UserPipelineConnectionSpec,
}

impl Checker<'_> {
    /// Creates the Job that is due, and deletes those that are recorded, and ConfigMaps that no Job reads.
    pub async fn apply(&self, subject: &Subject, decision: &Decision, live: &CheckChildren) -> Result<(), kube::Error> {
        let config = self.config();
        for delete in &decision.delete {
            if let Some(job) = live.jobs.iter().find(|job| job.name_any() == delete.name) {
                // A running Job stays observable until its pods are gone.
                let policy = if delete.running {
                    PropagationPolicy::Foreground
                } else {
                    PropagationPolicy::Background
                };
                self.delete(job.as_ref(), "Job", policy).await?;
            }
        }
        if let Some(attempt) = decision.create {
            let (config_map, job) = check_objects(self.owner, &config, &subject.to_string(), attempt);
            let name = config_map.name_any();
            let params = PatchParams::apply(MANAGER).force();
            self.api::<ConfigMap>().patch(&name, &params, &Patch::Apply(&config_map)).await?;
            self.metrics.wrote("ConfigMap", "patch");
            match self.api::<Job>().create(&PostParams::default(), &job).await {
                Ok(_) => self.metrics.wrote("Job", "create"),
                // The cache is behind, or one of an earlier connection of this name is not yet gone.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        } else if live.jobs.is_empty() {
            for config_map in live.config_maps.iter().filter(|found| found.name_any() != config.config_map) {
                self.delete(config_map.as_ref(), "ConfigMap", PropagationPolicy::Background).await?;
            }
        }
        Ok(())
    }

    fn config(&self) -> PodConfig {
        let name = &self.owner.id.name;
        let text = CheckedConnection::document(name, self.spec);
        // With the uid: Kubernetes may still be collecting what an earlier connection of this name owned.
        let hash = names::hash(&format!("{text}\n{}", self.owner.uid));
        PodConfig {
            config_map: names::child(name, &format!("check-{hash}"), names::LABEL_LIMIT),
            text,
            mounts: CheckedConnection::mounts(self.spec),
        }
    }

    async fn delete<K>(&self, object: &K, kind: &'static str, policy: PropagationPolicy) -> Result<(), kube::Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let params = DeleteParams {
            propagation_policy: Some(policy),
            ..DeleteParams::default().preconditions(Preconditions {
                uid: object.uid(),
                resource_version: object.resource_version(),
            })
        };
        match self.api::<K>().delete(&object.name_any(), &params).await {
            Ok(_) => self.metrics.wrote(kind, "delete"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            // Also if it changed meanwhile: nothing else would lead to another attempt before the next check.
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.owner.id.namespace)
    }
}
