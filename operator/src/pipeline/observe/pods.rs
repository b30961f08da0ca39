//! A pod: its termination message, and what keeps it from running or ending.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::ResourceExt;
use serde::de::DeserializeOwned;

use crate::pipeline::model::{Problem, labels};

const CRASH_LOOP: &str = "CrashLoopBackOff";
const PULL_BACK_OFF: &str = "ImagePullBackOff";
const OUT_OF_MEMORY: &str = "OOMKilled";
/// With this many restarts, an unready container counts as crash-looping also while it runs.
const MANY_RESTARTS: i32 = 3;

/// Reasons of waiting containers that do not pass without a change.
const STUCK: [&str; 8] = [
    PULL_BACK_OFF,
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
];

/// Whether the Job controls the pod. A label alone proves nothing: anyone who may create pods can set it.
pub fn is_of_job(pod: &Pod, job_uid: &str) -> bool {
    controller(pod).is_some_and(|owner| owner.kind == "Job" && owner.uid == job_uid)
}

/// The controller of an object.
pub fn controller(object: &impl ResourceExt) -> Option<&OwnerReference> {
    object.owner_references().iter().find(|owner| owner.controller == Some(true))
}

/// Whether its containers have not ended.
pub fn is_live(pod: &Pod) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The IP address of a running pod.
pub fn address(pod: &Pod) -> Option<&str> {
    (phase(pod) == "Running").then_some(pod.status.as_ref()?.pod_ip.as_deref()?)
}

/// How the operator's own container ended. Other containers are injected by other controllers.
pub fn own_end(pod: &Pod) -> Option<&ContainerStateTerminated> {
    container_end(pod, own_container(pod)?)
}

pub fn container_end<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStateTerminated> {
    terminated(containers(pod).find(|container| container.name == name)?)
}

/// The report in a termination message, and when its container ended.
pub fn report<T: DeserializeOwned>(end: &ContainerStateTerminated) -> Option<(Timestamp, T)> {
    let report = serde_json::from_str(end.message.as_deref()?.trim()).ok()?;
    Some((ended_at(end), report))
}

pub fn ended_at(end: &ContainerStateTerminated) -> Timestamp {
    end.finished_at.as_ref().map_or(Timestamp::MIN, |t| t.0)
}

/// Injected containers that failed, with their exit codes.
pub fn failed_sidecars(pod: &Pod) -> impl Iterator<Item = (&str, i32)> {
    let own = own_container(pod);
    containers(pod)
        .filter(move |container| Some(container.name.as_str()) != own)
        .filter_map(|container| {
            let code = terminated(container)?.exit_code;
            (code != 0).then_some((container.name.as_str(), code))
        })
}

/// Injected containers that have not ended. Native sidecars are not among them: Kubernetes ends those itself.
pub fn running_sidecars(pod: &Pod) -> impl Iterator<Item = &str> {
    let own = own_container(pod);
    containers(pod)
        .filter(move |container| Some(container.name.as_str()) != own && terminated(container).is_none())
        .map(|container| container.name.as_str())
}

/// How a container of the pod ended, with Kubernetes' reason.
pub fn end(pod: &str, terminated: &ContainerStateTerminated) -> Option<Problem> {
    let reason = terminated.reason.clone().filter(|r| !r.is_empty())?;
    let mut message = format!("pod {pod} ended with exit code {}", terminated.exit_code);
    if let Some(text) = termination_text(terminated) {
        message = format!("{message}: {text}");
    }
    if reason == OUT_OF_MEMORY {
        message.push_str("; raise its memory limit");
    }
    Some((reason, message))
}

/// What keeps the pod from running; the message names the pod.
pub fn problem(pod: &Pod) -> Option<Problem> {
    if is_terminating(pod) || !is_live(pod) {
        return None;
    }
    let name = pod.name_any();
    if let Some(("False", Some("Unschedulable"), message)) = condition(pod, "PodScheduled") {
        return Some((
            "Unschedulable".to_owned(),
            format!(
                "pod {name} cannot be scheduled: {}",
                message.unwrap_or("the scheduler gives no reason")
            ),
        ));
    }
    let own = own_container(pod);
    all_containers(pod).find_map(|container| {
        let is_own = own.is_none_or(|own| own == container.name);
        let place = if is_own {
            format!("pod {name}")
        } else {
            format!("container {} of pod {name}", container.name)
        };
        crashing(&place, container).or_else(|| stuck(&place, container))
    })
}

/// A crash-looping container, with the same message while it runs, ends and waits in turn.
fn crashing(place: &str, container: &ContainerStatus) -> Option<Problem> {
    let state = container.state.as_ref()?;
    let backs_off = state
        .waiting
        .as_ref()
        .is_some_and(|waiting| waiting.reason.as_deref() == Some(CRASH_LOOP));
    if container.ready || !(backs_off || container.restart_count >= MANY_RESTARTS) {
        return None;
    }
    let before = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let end = state.terminated.as_ref().or(before)?;
    if end.reason.as_deref() == Some(OUT_OF_MEMORY) {
        let advice = if container.name == "worker" {
            "; raise spec.pods.workers.resources.limits.memory"
        } else {
            ""
        };
        return Some((
            OUT_OF_MEMORY.to_owned(),
            format!("{place} is repeatedly killed because it exceeds its memory limit{advice}"),
        ));
    }
    let text = termination_text(end).map_or_else(String::new, |text| format!(": {text}"));
    Some((
        CRASH_LOOP.to_owned(),
        format!("{place} is crash-looping, last exit code {}{text}", end.exit_code),
    ))
}

fn stuck(place: &str, container: &ContainerStatus) -> Option<Problem> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| STUCK.contains(reason))?;
    let message = waiting.message.as_deref().unwrap_or(reason);
    if matches!(reason, "ErrImagePull" | PULL_BACK_OFF) {
        // The kubelet alternates between pulling and waiting: one problem with one reason.
        let why = message.split_once("ErrImagePull: ").map_or(message, |(_, why)| why);
        return Some((
            PULL_BACK_OFF.to_owned(),
            format!("{place} cannot pull its image {}: {why}", container.image),
        ));
    }
    Some((reason.to_owned(), format!("{place}: {message}")))
}

/// The termination message, or the field `message` of a report in it.
fn termination_text(end: &ContainerStateTerminated) -> Option<String> {
    let text = end.message.as_deref().map(str::trim).filter(|text| !text.is_empty())?;
    let report: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let message = report.as_ref().and_then(|report| report.get("message")?.as_str());
    Some(message.unwrap_or(text).to_owned())
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

/// Init containers first: the others wait for them.
fn all_containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let init = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    init.chain(containers(pod))
}

/// The name of the operator's container, which is that of the component.
fn own_container(pod: &Pod) -> Option<&str> {
    pod.labels().get(labels::COMPONENT).map(String::as_str)
}

fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    container.state.as_ref()?.terminated.as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &serde_json::Value) -> Pod {
        let component = json!({labels::COMPONENT: "worker"});
        serde_json::from_value(json!({"metadata": {"name": "p", "labels": component}, "status": status})).unwrap()
    }

    fn container(restarts: i32, state: &serde_json::Value, last: &serde_json::Value) -> Pod {
        pod(
            &json!({"phase": "Running", "containerStatuses": [{"name": "worker", "image": "i:1", "imageID": "", "ready": false,
            "restartCount": restarts, "state": state, "lastState": last}]}),
        )
    }

    fn waiting(reason: &str, message: &str) -> serde_json::Value {
        json!({"waiting": {"reason": reason, "message": message}})
    }

    #[test]
    fn a_stuck_pod_is_reported_with_its_reason() {
        for reason in STUCK {
            let (word, sentence) = problem(&container(0, &waiting(reason, "because"), &json!({}))).unwrap();
            assert!(sentence.starts_with("pod p") && sentence.ends_with(": because"), "{sentence}");
            assert_eq!(word, if reason == "ErrImagePull" { PULL_BACK_OFF } else { reason });
        }
        for reason in ["ContainerCreating", "PodInitializing"] {
            assert_eq!(problem(&container(0, &waiting(reason, ""), &json!({}))), None, "{reason}");
        }
        let unschedulable = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
        assert_eq!(problem(&pod(&unschedulable)).unwrap().0, "Unschedulable");
    }

    #[test]
    fn a_recurring_problem_always_has_the_same_message() {
        let same = |pods: &[Pod], word: &str, sentence: &str| {
            for pod in pods {
                assert_eq!(problem(pod), Some((word.to_owned(), sentence.to_owned())), "{pod:?}");
            }
        };
        let pulls = [
            container(0, &waiting("ErrImagePull", "no such image"), &json!({})),
            container(
                0,
                &waiting("ImagePullBackOff", "Back-off pulling image \"i:1\": ErrImagePull: no such image"),
                &json!({}),
            ),
        ];
        same(&pulls, "ImagePullBackOff", "pod p cannot pull its image i:1: no such image");

        let ended = json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "{\"message\":\"no table\"}"}});
        let crashes = [
            container(1, &waiting("CrashLoopBackOff", "back-off 10s"), &ended),
            container(3, &waiting("CrashLoopBackOff", "back-off 40s"), &ended),
            container(3, &json!({"running": {}}), &ended),
            container(3, &ended, &json!({})),
        ];
        same(&crashes, "CrashLoopBackOff", "pod p is crash-looping, last exit code 2: no table");

        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let advice = "pod p is repeatedly killed because it exceeds its memory limit; raise spec.pods.workers.resources.limits.memory";
        same(&[container(1, &waiting("CrashLoopBackOff", ""), &killed)], "OOMKilled", advice);
        assert_eq!(
            problem(&container(1, &json!({"running": {}}), &killed)),
            None,
            "one restart is no crash loop"
        );
    }

    #[test]
    fn a_termination_message_that_is_no_report_is_used_as_text() {
        let ended = pod(
            &json!({"phase": "Failed", "containerStatuses": [{"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 101, "reason": "Error", "message": "panicked"}}}]}),
        );
        let terminated = own_end(&ended).unwrap();
        assert_eq!(report::<userpipeline_api::report::SchemaReport>(terminated), None);
        assert_eq!(
            end("p", terminated).unwrap(),
            ("Error".to_owned(), "pod p ended with exit code 101: panicked".to_owned())
        );
    }

    fn status(name: &str, state: &serde_json::Value) -> serde_json::Value {
        json!({"name": name, "image": "i:1", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn the_report_is_that_of_our_container_wherever_a_sidecar_is_in_the_list() {
        let own = status(
            "worker",
            &json!({"terminated": {"exitCode": 0, "message": "{\"reason\":\"Applied\"}"}}),
        );
        let sidecar = status("istio-proxy", &json!({"terminated": {"exitCode": 3, "message": "bye"}}));
        let running = status("vault-agent", &json!({"running": {}}));
        for containers in [json!([own, sidecar, running]), json!([running, sidecar, own])] {
            let pod = pod(&json!({"phase": "Running", "containerStatuses": containers}));
            let (_, report) = report::<userpipeline_api::report::SchemaReport>(own_end(&pod).unwrap()).unwrap();
            assert_eq!(report.reason, "Applied");
            assert_eq!(failed_sidecars(&pod).collect::<Vec<_>>(), [("istio-proxy", 3)]);
            assert_eq!(running_sidecars(&pod).collect::<Vec<_>>(), ["vault-agent"]);
        }
    }

    #[test]
    fn a_problem_of_an_injected_container_is_reported_with_its_name() {
        let (running, pull) = (json!({"running": {}}), waiting("ErrImagePull", "no such image"));
        let sidecar = json!({"phase": "Running", "containerStatuses": [status("worker", &running), status("istio-proxy", &pull)]});
        let message = "container istio-proxy of pod p cannot pull its image i:1: no such image";
        assert_eq!(problem(&pod(&sidecar)), Some((PULL_BACK_OFF.to_owned(), message.to_owned())));
        let waits = waiting("PodInitializing", "");
        let init = json!({"phase": "Pending", "initContainerStatuses": [status("istio-init", &pull)], "containerStatuses": [status("worker", &waits)]});
        assert!(problem(&pod(&init)).unwrap().1.starts_with("container istio-init of pod p"));
    }
}
