//! The CronJob: it starts runs, or is the template of the runs that the operator starts.

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobTemplateSpec};
use userpipeline_api::{ConcurrencyPolicy, Schedule, names};

use super::ingest_job;
use crate::pipeline::{
    model::{PodConfigRef, labels},
    validate::ValidatedPipeline,
};

pub(super) fn build(pipeline: &ValidatedPipeline, schedule: &Schedule, config: &PodConfigRef, suspend: bool) -> CronJob {
    CronJob {
        metadata: labels::meta(&pipeline.owner, names::cron_job(&pipeline.owner.id.name), labels::Component::Ingest),
        spec: Some(CronJobSpec {
            schedule: schedule.cron.clone(),
            time_zone: Some(schedule.time_zone.clone()),
            suspend: Some(suspend),
            concurrency_policy: Some(
                match schedule.concurrency_policy {
                    ConcurrencyPolicy::Allow => "Allow",
                    ConcurrencyPolicy::Forbid => "Forbid",
                    ConcurrencyPolicy::Replace => "Replace",
                }
                .to_owned(),
            ),
            starting_deadline_seconds: Some(schedule.starting_deadline_seconds),
            successful_jobs_history_limit: Some(schedule.successful_jobs_history_limit),
            failed_jobs_history_limit: Some(schedule.failed_jobs_history_limit),
            job_template: JobTemplateSpec {
                metadata: Some(ingest_job::template_meta(pipeline)),
                spec: Some(ingest_job::spec(pipeline, schedule, config, &[])),
            },
        }),
        status: None,
    }
}
