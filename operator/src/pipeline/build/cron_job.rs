//! What starts the runs.

use k8s_openapi::api::{
    batch::v1::{
        CronJob, CronJobSpec, JobSpec, JobTemplateSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
    },
    core::v1::PodTemplateSpec,
};
use kube::core::ObjectMeta;
use userpipeline_api::{ConcurrencyPolicy, names, report::exit};

use super::{Given, Images, labels, pod, schema_job};
use crate::pipeline::validate::ValidatedPipeline;

const CONTAINER: &str = "ingest";

pub(super) fn build(pipeline: &ValidatedPipeline, images: &Images, given: &Given) -> CronJob {
    let component = labels::Component::Ingest;
    let name = names::cron_job(&pipeline.id.name);
    let mut container = pod::container(CONTAINER, "ingest-job", images, given);
    let mut arguments = pod::arguments(&[]);
    arguments.extend(["--job", "$(JOB_NAME)", "--job-uid", "$(JOB_UID)", "--cronjob", &name].map(str::to_owned));
    container.args = Some(arguments);
    container.env = Some(vec![
        pod::env("JOB_NAME", "metadata.labels['batch.kubernetes.io/job-name']"),
        pod::env("JOB_UID", "metadata.labels['batch.kubernetes.io/controller-uid']"),
    ]);
    container.resources = Some(pod::resources("50m", "64Mi", "512Mi"));
    let labels = labels::labels(&pipeline.id.name, component);
    let meta = ObjectMeta {
        labels: Some(labels),
        ..ObjectMeta::default()
    };
    let schedule = &pipeline.spec.schedule;
    let configuration_is_wrong = PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(CONTAINER.to_owned()),
            operator: "In".to_owned(),
            values: vec![i32::from(exit::CONFIGURATION)],
        }),
        on_pod_conditions: None,
    };
    CronJob {
        metadata: labels::meta(pipeline, name, component),
        spec: Some(CronJobSpec {
            schedule: schedule.cron.clone(),
            time_zone: Some(schedule.time_zone.clone()),
            suspend: Some(pipeline.spec.suspend),
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
                metadata: Some(meta.clone()),
                spec: Some(JobSpec {
                    active_deadline_seconds: Some(schedule.active_deadline_seconds),
                    backoff_limit: Some(schedule.backoff_limit),
                    pod_failure_policy: Some(PodFailurePolicy {
                        rules: vec![configuration_is_wrong, schema_job::ignore_disruptions()],
                    }),
                    template: PodTemplateSpec {
                        metadata: Some(meta),
                        spec: Some(pod::pod(pipeline, container, "Never", given)),
                    },
                    ..JobSpec::default()
                }),
            },
        }),
        status: None,
    }
}
