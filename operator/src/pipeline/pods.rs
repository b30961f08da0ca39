//! What a pod tells: its termination message, and what holds it up.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;
use serde::de::DeserializeOwned;

/// The label by which a pod knows its Job.
const JOB_UID: &str = "batch.kubernetes.io/controller-uid";

/// Container states from which only a change gets a pod out, or nothing does.
const STUCK: [&str; 9] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
    "StartError",
];

/// Whether the pod is one of this Job.
pub fn is_of_job(pod: &Pod, job_uid: &str) -> bool {
    pod.labels().get(JOB_UID).is_some_and(|uid| uid == job_uid)
}

/// Whether it has yet to end.
pub fn is_live(pod: &Pod) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it is being deleted.
pub fn is_going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Its address, once its container runs.
pub fn address(pod: &Pod) -> Option<&str> {
    (phase(pod) == "Running").then_some(pod.status.as_ref()?.pod_ip.as_deref()?)
}

/// What the last container to end has said, and when.
pub fn last_words<T: DeserializeOwned>(pod: &Pod) -> Option<(Timestamp, T)> {
    let terminated = terminated(pod)?;
    let report = serde_json::from_str(terminated.message.as_deref()?.trim()).ok()?;
    Some((terminated.finished_at.as_ref().map_or(Timestamp::MIN, |t| t.0), report))
}

/// How its container ended, in Kubernetes' words, where it left no message of its own.
pub fn end(pod: &Pod) -> Option<(String, String)> {
    let terminated = terminated(pod)?;
    let reason = terminated.reason.clone().filter(|r| !r.is_empty())?;
    let mut message = format!("pod {} ended with exit code {}", pod.name_any(), terminated.exit_code);
    if let Some(text) = terminated.message.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        message = format!("{message}: {text}");
    }
    if reason == "OOMKilled" {
        message.push_str("; give it more memory");
    }
    Some((reason, message))
}

/// What holds the pod up: a word and a sentence that names it.
pub fn problem(pod: &Pod) -> Option<(String, String)> {
    if is_going(pod) || !is_live(pod) {
        return None;
    }
    let name = pod.name_any();
    if let Some(("False", Some("Unschedulable"), message)) = condition(pod, "PodScheduled") {
        return Some((
            "Unschedulable".to_owned(),
            format!("pod {name} has no node: {}", message.unwrap_or("the scheduler does not say why")),
        ));
    }
    containers(pod).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| STUCK.contains(reason))?;
        let before = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        if let Some(killed) = before.filter(|t| t.reason.as_deref() == Some("OOMKilled")) {
            return Some((
                "OOMKilled".to_owned(),
                format!(
                    "pod {name} was killed for want of memory (exit code {}); raise spec.workers.resources.limits.memory",
                    killed.exit_code
                ),
            ));
        }
        let mut message = format!("pod {name}: {}", waiting.message.as_deref().unwrap_or(reason));
        if let Some(words) = before
            .and_then(|t| t.message.as_deref())
            .map(str::trim)
            .filter(|words| !words.is_empty())
        {
            message = format!("{message}; it last said: {words}");
        }
        Some((reason.to_owned(), message))
    })
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, Option<&'a str>, Option<&'a str>)> {
    let condition = pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)?;
    Some((&condition.status, condition.reason.as_deref(), condition.message.as_deref()))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    containers(pod).filter_map(|c| c.state.as_ref()?.terminated.as_ref()).last()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    #[test]
    fn a_stuck_pod_says_by_what() {
        let waiting = |reason: &str| {
            json!({"phase": "Pending", "containerStatuses": [{"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": "because"}}}]})
        };
        for reason in STUCK {
            let (word, sentence) = problem(&pod(&waiting(reason))).unwrap();
            assert_eq!((word.as_str(), sentence.as_str()), (reason, "pod p: because"));
        }
        for reason in ["ContainerCreating", "PodInitializing"] {
            assert_eq!(problem(&pod(&waiting(reason))), None, "{reason}");
        }
        let unschedulable = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
        assert_eq!(problem(&pod(&unschedulable)).unwrap().0, "Unschedulable");
        let killed = json!({"phase": "Running", "containerStatuses": [{"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
        assert_eq!(problem(&pod(&killed)).unwrap().0, "OOMKilled");
    }

    #[test]
    fn last_words_that_are_not_a_report_are_kept_as_text() {
        let ended = pod(
            json!({"phase": "Failed", "containerStatuses": [{"name": "schema", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 101, "reason": "Error", "message": "panicked"}}}]}),
        );
        assert_eq!(last_words::<userpipeline_api::report::SchemaReport>(&ended), None);
        assert_eq!(
            end(&ended).unwrap(),
            ("Error".to_owned(), "pod p ended with exit code 101: panicked".to_owned())
        );
    }
}
