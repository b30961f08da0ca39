//! A Job that does one thing for the operator and tells it: of the schema, of draining.

use k8s_openapi::api::batch::v1::{Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule};
use kube::core::ObjectMeta;
use userpipeline_api::names;

use super::{Given, labels, pod, settings};
use crate::pipeline::validate::Parent;

const DEADLINE_SECONDS: i64 = 300;

/// What makes one kind of task differ from another.
pub(super) struct Task<'a> {
    /// The part of the pipeline that it is; also its container's name.
    pub component: labels::Component,
    /// What its name has behind the pipeline's.
    pub suffix: &'a str,
    /// The command of `stream-worker`.
    pub command: &'a str,
    /// Its arguments beside the usual.
    pub arguments: &'a [&'a str],
    /// By which the operator knows it again.
    pub labels: &'a [(&'a str, &'a str)],
}

impl Task<'_> {
    /// The Job.
    pub fn build(&self, parent: &Parent, given: &Given) -> Job {
        let mut container = pod::container(self.component.as_str(), "stream-worker", &parent.images, given);
        let mut arguments = pod::arguments(&[self.command]);
        arguments.extend(self.arguments.iter().map(|argument| (*argument).to_owned()));
        container.args = Some(arguments);
        container.resources = Some(pod::resources("50m", "32Mi", "256Mi"));
        let name = names::child(&parent.id.name, self.suffix, names::LABEL_LIMIT);
        let mut metadata = labels::meta(parent, name, self.component);
        let own = self.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let labels = metadata.labels.get_or_insert_default();
        labels.extend(own);
        labels.insert(labels::TASK.to_owned(), parent.task());
        let pod_metadata = ObjectMeta {
            labels: Some(labels::labels(&parent.id.name, self.component)),
            ..ObjectMeta::default()
        };
        Job {
            metadata,
            spec: Some(JobSpec {
                active_deadline_seconds: Some(DEADLINE_SECONDS),
                // The operator makes the next one itself, with a back-off of its own. No TTL: it deletes a Job when it has recorded it.
                backoff_limit: Some(0),
                pod_failure_policy: Some(PodFailurePolicy {
                    rules: vec![ignore_disruptions()],
                }),
                template: settings::template(&parent.tasks, pod_metadata, pod::pod(parent, container, "Never", given)),
                ..JobSpec::default()
            }),
            status: None,
        }
    }
}

/// A pod that a drained node has lost is no failed attempt.
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
