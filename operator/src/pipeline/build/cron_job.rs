//! What starts the runs, where the operator does not.

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobTemplateSpec};
use userpipeline_api::{ConcurrencyPolicy, Schedule, names};

use super::{Given, Images, ingest_job, labels};
use crate::pipeline::validate::ValidatedPipeline;

pub(super) fn build(pipeline: &ValidatedPipeline, schedule: &Schedule, images: &Images, given: &Given, rests: bool) -> CronJob {
    CronJob {
        metadata: labels::meta(
            &pipeline.parent,
            names::cron_job(&pipeline.parent.id.name),
            labels::Component::Ingest,
        ),
        spec: Some(CronJobSpec {
            schedule: schedule.cron.clone(),
            time_zone: Some(schedule.time_zone.clone()),
            suspend: Some(rests),
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
                spec: Some(ingest_job::spec(pipeline, schedule, images, given, &[])),
            },
        }),
        status: None,
    }
}
