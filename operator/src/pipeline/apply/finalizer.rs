//! Sets and removes the finalizer of a pipeline.

use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use userpipeline_api::{DeletionPolicy, GROUP, UserPipeline};

use super::{applier::Applier, error::ApplyError};
use crate::pipeline::model::{FINALIZER, has_finalizer};

/// Finalizers have their own field manager, so that the owner of the status need not repeat them.
const FINALIZER_MANAGER: &str = "userpipeline-operator-finalizer";

impl Applier<'_> {
    /// Makes the finalizer follow `spec.deletionPolicy`.
    pub(super) async fn update_finalizer(&self, pipeline: &UserPipeline) -> Result<(), ApplyError> {
        let desired = pipeline.spec.deletion_policy == DeletionPolicy::Delete;
        if desired == has_finalizer(pipeline) {
            return Ok(());
        }
        self.set_finalizer(desired).await
    }

    pub async fn set_finalizer(&self, present: bool) -> Result<(), ApplyError> {
        let finalizers = if present { vec![FINALIZER] } else { vec![] };
        let body = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"),
            "kind": "UserPipeline",
            // The uid keeps the request from another pipeline of the same name, and from creating one.
            "metadata": {"name": self.id.name, "uid": self.uid, "finalizers": finalizers},
        });
        let resource = ApiResource::erase::<UserPipeline>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.id.namespace, &resource);
        let params = PatchParams::apply(FINALIZER_MANAGER).force();
        match api.patch(&self.id.name, &params, &Patch::Apply(&body)).await {
            Ok(_) => {
                self.metrics.wrote("UserPipeline", "patch");
                tracing::info!(pipeline = %self.id, present, "finalizer set");
                Ok(())
            }
            // Not 409: the conflict may pass, and a finalizer that stays would block the pipeline for ever.
            Err(kube::Error::Api(status)) if !present && status.code == 404 => Ok(()),
            Err(source) => Err(ApplyError::ApplyFailed {
                kind: "UserPipeline".to_owned(),
                name: self.id.name.clone(),
                source: Box::new(source),
            }),
        }
    }
}
