//! Runs are started, stopped, and go on.

use k8s_openapi::api::batch::v1::Job;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use userpipeline_api::{SuspendPolicy, UserPipelineSpec};

use super::{ApplyError, Target, kind};
use crate::{
    MANAGER,
    pipeline::{build::labels, dereference, dereference::Observed},
};

impl Target<'_> {
    /// Runs, the oldest first; after one that cannot be started no later one is.
    pub(super) async fn start(&self, runs: Vec<Job>) -> Result<(), ApplyError> {
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let api = self.api::<Job>();
        for job in runs {
            let name = job.name_any();
            let failed = |source: kube::Error| ApplyError::ApplyFailed {
                kind: kind::<Job>(),
                name: name.clone(),
                source: Box::new(source),
            };
            match api.create(&params, &job).await {
                Ok(_) => {
                    self.metrics.wrote("Job", "create");
                    tracing::info!(kind = "Job", name, namespace = self.parent.id.namespace, "started");
                }
                // The same run: the CronJob may have started it, or we did and have not seen it yet.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let there = api.get_opt(&name).await.map_err(failed)?;
                    if there.is_some_and(|there| there.labels().get(labels::PIPELINE) != Some(&self.parent.id.name)) {
                        return Err(ApplyError::NotOurs { kind: kind::<Job>(), name });
                    }
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Stops the runs under way of a suspended pipeline where its policy is so, and lets those go on that were stopped by it.
    pub(super) async fn stop_runs(&self, spec: &UserPipelineSpec, observed: &Observed) -> Result<(), ApplyError> {
        let stop = spec.suspend && spec.suspend_policy == SuspendPolicy::Stop;
        for job in observed.runs().filter(|job| dereference::end(job).is_none()) {
            let stopped = job.annotations().contains_key(labels::STOPPED);
            let rests = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false);
            let change = match (stop, stopped) {
                (true, false) if !rests => json!({"metadata": {"annotations": {labels::STOPPED: "true"}}, "spec": {"suspend": true}}),
                (false, true) => json!({"metadata": {"annotations": {labels::STOPPED: null}}, "spec": {"suspend": false}}),
                _ => continue,
            };
            let name = job.name_any();
            match self
                .api::<Job>()
                .patch(&name, &PatchParams::default(), &Patch::Merge(&change))
                .await
            {
                Ok(_) => {
                    self.metrics.wrote("Job", "patch");
                    tracing::info!(
                        kind = "Job",
                        name,
                        namespace = self.parent.id.namespace,
                        stop,
                        "stopped, or goes on"
                    );
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(source) => {
                    return Err(ApplyError::ApplyFailed {
                        kind: kind::<Job>(),
                        name,
                        source: Box::new(source),
                    });
                }
            }
        }
        Ok(())
    }
}
