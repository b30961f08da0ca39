//! A run: what the CronJob makes its Jobs from, and the Jobs that the operator makes itself.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use kube::core::ObjectMeta;
use userpipeline_api::{DataInterval, Schedule, names, report::exit};

use super::{Given, Images, labels, pod, settings, task};
use crate::pipeline::{schedule::NewRun, validate::ValidatedPipeline};

const CONTAINER: &str = "ingest";

/// The Job of a run that the operator starts: unlike one of the CronJob, it is told which run it is.
pub(super) fn build(pipeline: &ValidatedPipeline, schedule: &Schedule, images: &Images, given: &Given, run: &NewRun) -> Job {
    let nonce = run.nonce.as_deref().unwrap_or_default();
    let name = run.job.clone().unwrap_or_else(|| names::run_now(&pipeline.parent.id.name, nonce));
    let mut metadata = labels::meta(&pipeline.parent, name, labels::Component::Ingest);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(labels::RUN_KIND.to_owned(), run.kind.to_string());
    if let Some(nonce) = &run.nonce {
        labels.insert(labels::NONCE.to_owned(), nonce.clone());
    }
    metadata.annotations = run.interval.map(annotations);
    Job {
        metadata,
        spec: Some(spec(pipeline, schedule, images, given, &told(run))),
        status: None,
    }
}

/// What the program of a run is told beside the usual.
pub fn told(run: &NewRun) -> Vec<String> {
    let mut told = vec![
        "--run-id".to_owned(),
        run.run_id.clone(),
        "--run-kind".to_owned(),
        run.kind.to_string(),
    ];
    if let Some(interval) = run.interval {
        let (start, end) = (interval.start.to_string(), interval.end.to_string());
        told.extend(["--interval-start".to_owned(), start, "--interval-end".to_owned(), end]);
    }
    if !run.arguments.is_empty() {
        // Kubernetes would take `$(NAME)` for a variable.
        let text = serde_json::json!(run.arguments).to_string().replace('$', "$$");
        told.extend(["--arguments".to_owned(), text]);
    }
    told
}

/// By which the operator knows a run's interval again.
pub fn annotations(interval: DataInterval) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::INTERVAL_START.to_owned(), interval.start.to_string()),
        (labels::INTERVAL_END.to_owned(), interval.end.to_string()),
    ])
}

/// The metadata of a Job that is made from the template, and of its pods.
pub(super) fn template_meta(pipeline: &ValidatedPipeline) -> ObjectMeta {
    ObjectMeta {
        labels: Some(labels::with_owner(&pipeline.parent, labels::Component::Ingest)),
        ..ObjectMeta::default()
    }
}

/// A run's Job, with what its program is told beside the usual.
pub(super) fn spec(pipeline: &ValidatedPipeline, schedule: &Schedule, images: &Images, given: &Given, told: &[String]) -> JobSpec {
    let mut container = pod::container(CONTAINER, "ingest-job", images, given);
    let mut arguments = pod::arguments(&[]);
    let cron_job = names::cron_job(&pipeline.parent.id.name);
    arguments.extend(["--job", "$(JOB_NAME)", "--job-uid", "$(JOB_UID)", "--cronjob", &cron_job].map(str::to_owned));
    arguments.extend_from_slice(told);
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
            rules: vec![configuration_is_wrong, task::ignore_disruptions()],
        }),
        template: settings::template(
            &pipeline.spec.pods.ingest,
            template_meta(pipeline),
            pod::pod(&pipeline.parent, container, "Never", given),
        ),
        ..JobSpec::default()
    }
}
