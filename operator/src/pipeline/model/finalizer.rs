//! The finalizer of pipelines with `spec.deletionPolicy: Delete`.

use kube::ResourceExt;
use userpipeline_api::UserPipeline;

/// Keeps a pipeline until its data outside Kubernetes is deleted.
pub const FINALIZER: &str = "userpipeline.dev/delete-data";

pub fn has_finalizer(pipeline: &UserPipeline) -> bool {
    pipeline.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}
