//! Jobs whose pods the API server refuses.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use crate::pipeline::model::Problem;

/// Kubernetes' reason of the Event.
pub const FAILED_CREATE: &str = "FailedCreate";

#[derive(Clone, Debug, Default)]
pub struct Refusals {
    /// The API server's message by the Job's uid.
    pub by_job: BTreeMap<String, String>,
    /// When to look again: no event of a watched object reports a refused pod.
    pub check_after: Option<Duration>,
}

impl Refusals {
    pub fn problem(&self, job: &Job) -> Option<Problem> {
        let message = self.by_job.get(&job.uid().unwrap_or_default())?;
        Some((FAILED_CREATE.to_owned(), message.clone()))
    }
}
