//! The Job of a run: the CronJob's template, and the Jobs that the operator creates itself.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use kube::core::ObjectMeta;
use userpipeline_api::{DataInterval, Schedule, names, report::exit};

use super::{pod, settings, task_job};
use crate::pipeline::{
    decide::schedule::NewRun,
    model::{PodConfigRef, labels},
    validate::ValidatedPipeline,
};

const CONTAINER: &str = "ingest";

/// The Job of a run that the operator starts. Unlike a Job of the CronJob, its arguments define the run.
pub(super) fn build(pipeline: &ValidatedPipeline, schedule: &Schedule, config: &PodConfigRef, run: &NewRun) -> Job {
    let nonce = run.nonce.as_deref().unwrap_or_default();
    let name = run.job.clone().unwrap_or_else(|| names::run_now(&pipeline.owner.id.name, nonce));
    let mut metadata = labels::meta(&pipeline.owner, name, labels::Component::Ingest);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(labels::RUN_KIND.to_owned(), run.kind.to_string());
    if let Some(nonce) = &run.nonce {
        labels.insert(labels::NONCE.to_owned(), nonce.clone());
    }
    metadata.annotations = run.interval.map(annotations);
    Job {
        metadata,
        spec: Some(spec(pipeline, schedule, config, &run_arguments(run))),
        status: None,
    }
}

/// The arguments that define a run.
pub fn run_arguments(run: &NewRun) -> Vec<String> {
    let mut arguments = vec![
        "--run-id".to_owned(),
        run.run_id.clone(),
        "--run-kind".to_owned(),
        run.kind.to_string(),
    ];
    if let Some(interval) = run.interval {
        let (start, end) = (interval.start.to_string(), interval.end.to_string());
        arguments.extend(["--interval-start".to_owned(), start, "--interval-end".to_owned(), end]);
    }
    if !run.arguments.is_empty() {
        // Kubernetes would expand `$(NAME)` as a variable.
        let text = serde_json::json!(run.arguments).to_string().replace('$', "$$");
        arguments.extend(["--arguments".to_owned(), text]);
    }
    arguments
}

/// The annotations from which the operator reads a run's interval.
pub fn annotations(interval: DataInterval) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::INTERVAL_START.to_owned(), interval.start.to_string()),
        (labels::INTERVAL_END.to_owned(), interval.end.to_string()),
    ])
}

/// The metadata of the CronJob's Jobs, and of all pods of runs.
pub(super) fn template_meta(pipeline: &ValidatedPipeline) -> ObjectMeta {
    ObjectMeta {
        labels: Some(labels::with_owner(&pipeline.owner, labels::Component::Ingest)),
        ..ObjectMeta::default()
    }
}

/// The spec of a run's Job; `run_arguments` follow the common arguments.
pub(super) fn spec(pipeline: &ValidatedPipeline, schedule: &Schedule, config: &PodConfigRef, run_arguments: &[String]) -> JobSpec {
    let mut container = pod::container(CONTAINER, "ingest-job", &pipeline.owner.images, config);
    let mut arguments = pod::arguments(&[]);
    let cron_job = names::cron_job(&pipeline.owner.id.name);
    arguments.extend(["--job", "$(JOB_NAME)", "--job-uid", "$(JOB_UID)", "--cronjob", &cron_job].map(str::to_owned));
    arguments.extend_from_slice(run_arguments);
    container.args = Some(arguments);
    container.env = Some(vec![
        pod::env("JOB_NAME", "metadata.labels['batch.kubernetes.io/job-name']"),
        pod::env("JOB_UID", "metadata.labels['batch.kubernetes.io/controller-uid']"),
    ]);
    container.resources = Some(pod::resources("50m", "64Mi", "512Mi"));
    let configuration_is_wrong = PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(CONTAINER.to_owned()),
            operator: "In".to_owned(),
            values: vec![i32::from(exit::CONFIGURATION)],
        }),
        on_pod_conditions: None,
    };
    JobSpec {
        active_deadline_seconds: Some(schedule.active_deadline_seconds),
        backoff_limit: Some(schedule.backoff_limit),
        pod_failure_policy: Some(PodFailurePolicy {
            rules: vec![configuration_is_wrong, task_job::ignore_disruptions()],
        }),
        template: settings::template(
            &pipeline.spec.pods.ingest,
            template_meta(pipeline),
            pod::pod(&pipeline.owner, container, "Never", config),
        ),
        ..JobSpec::default()
    }
}
