//! Suspends and resumes runs of a pipeline with `spec.suspendPolicy: Stop`.

use k8s_openapi::api::batch::v1::Job;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use userpipeline_api::{SuspendPolicy, UserPipelineSpec};

use super::{
    applier::{Applier, apply_failed},
    error::ApplyError,
};
use crate::pipeline::{
    model::labels,
    observe::{Observed, job_end},
};

impl Applier<'_> {
    /// Suspends the unfinished runs of a suspended pipeline, and resumes those that were suspended with it.
    pub(super) async fn suspend_or_resume_runs(&self, spec: &UserPipelineSpec, observed: &Observed) -> Result<(), ApplyError> {
        let stop = spec.suspend && spec.suspend_policy == SuspendPolicy::Stop;
        for job in observed.runs().filter(|job| job_end(job).is_none()) {
            let Some(change) = change(job, stop) else { continue };
            let name = job.name_any();
            let api = self.api::<Job>();
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await {
                Ok(_) => self.wrote::<Job>(&name, "patch", if stop { "suspended" } else { "resumed" }),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(source) => return Err(apply_failed::<Job>(&name, source)),
            }
        }
        Ok(())
    }
}

fn change(job: &Job, stop: bool) -> Option<Value> {
    let is_stopped = job.annotations().contains_key(labels::STOPPED);
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false);
    match (stop, is_stopped) {
        (true, false) if !is_suspended => Some(json!({"metadata": {"annotations": {labels::STOPPED: "true"}}, "spec": {"suspend": true}})),
        (false, true) => Some(json!({"metadata": {"annotations": {labels::STOPPED: null}}, "spec": {"suspend": false}})),
        _ => None,
    }
}
