//! A Job that performs a task once and reports: apply a schema, verify a drain, delete data.

use k8s_openapi::api::batch::v1::{Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule};
use kube::core::ObjectMeta;
use userpipeline_api::names;

use super::{pod, settings};
use crate::pipeline::model::{Owner, PodConfigRef, labels};

const DEADLINE_SECONDS: i64 = 300;

/// What differs between tasks.
pub(super) struct Task<'a> {
    /// Also the container's name.
    pub component: labels::Component,
    /// Follows the pipeline's name in the Job's name.
    pub suffix: &'a str,
    /// The command of `stream-worker`.
    pub command: &'a str,
    /// Follow the common arguments.
    pub arguments: &'a [&'a str],
    /// From which the operator reads what the Job is for.
    pub labels: &'a [(&'a str, &'a str)],
}

impl Task<'_> {
    pub fn build(&self, owner: &Owner, config: &PodConfigRef) -> Job {
        let mut container = pod::container(self.component.as_str(), "stream-worker", &owner.images, config);
        let mut arguments = pod::arguments(&[self.command]);
        arguments.extend(self.arguments.iter().map(|argument| (*argument).to_owned()));
        container.args = Some(arguments);
        container.resources = Some(pod::resources("50m", "32Mi", "256Mi"));
        let name = names::child(&owner.id.name, self.suffix, names::LABEL_LIMIT);
        let mut metadata = labels::meta(owner, name, self.component);
        let own = self.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let labels = metadata.labels.get_or_insert_default();
        labels.extend(own);
        labels.insert(labels::TASK.to_owned(), owner.task_hash());
        let pod_metadata = ObjectMeta {
            labels: Some(labels::labels(&owner.id.name, self.component)),
            ..ObjectMeta::default()
        };
        Job {
            metadata,
            spec: Some(JobSpec {
                active_deadline_seconds: Some(DEADLINE_SECONDS),
                // The operator creates the next Job, with its own back-off. There is no TTL: the operator deletes a Job once its result is
                // recorded.
                backoff_limit: Some(0),
                pod_failure_policy: Some(PodFailurePolicy {
                    rules: vec![ignore_disruptions()],
                }),
                template: settings::template(&owner.tasks, pod_metadata, pod::pod(owner, container, "Never", config)),
                ..JobSpec::default()
            }),
            status: None,
        }
    }
}

/// A pod that was evicted from a drained node is not a failed attempt.
pub(super) fn ignore_disruptions() -> PodFailurePolicyRule {
    PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
        }]),
        on_exit_codes: None,
    }
}
