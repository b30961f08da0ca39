//! The Job of a back-fill's run.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobTemplateSpec};
use kube::{ResourceExt, core::ObjectMeta};
use userpipeline_api::{Reprocess, UserPipelineBackfill};

use super::ingest_job;
use crate::pipeline::{
    decide::schedule::NewRun,
    model::{labels, owner_reference},
};

/// The Job that the pipeline's CronJob would create, with the arguments of this run. The back-fill owns it.
pub fn backfill_job(backfill: &UserPipelineBackfill, template: &JobTemplateSpec, run: &NewRun) -> Job {
    let mut labels: BTreeMap<String, String> = template.metadata.clone().and_then(|meta| meta.labels).unwrap_or_default();
    labels.insert(labels::RUN_KIND.to_owned(), run.kind.to_string());
    labels.insert(labels::BACKFILL.to_owned(), backfill.name_any());
    let mut spec = template.spec.clone();
    if let Some(container) = spec
        .as_mut()
        .and_then(|spec| spec.template.spec.as_mut())
        .and_then(|pod| pod.containers.first_mut())
    {
        let arguments = container.args.get_or_insert_default();
        arguments.extend(ingest_job::run_arguments(run));
        if backfill.spec.reprocess == Reprocess::None {
            arguments.extend(["--reprocess".to_owned(), Reprocess::None.as_str().to_owned()]);
        }
    }
    Job {
        metadata: ObjectMeta {
            name: run.job.clone(),
            namespace: backfill.namespace(),
            labels: Some(labels),
            annotations: run.interval.map(ingest_job::annotations),
            owner_references: owner_reference(backfill).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}
