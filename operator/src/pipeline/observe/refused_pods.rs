//! Why the API server refuses the pods of a Job: a quota, a limit range, an admission webhook. A Job has no condition for it, so its
//! Events are read, on demand.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Event};
use kube::{Api, Client, ResourceExt, api::ListParams};
use userpipeline_api::names::PipelineId;

use super::{
    jobs::job_end,
    observed::Observed,
    pods,
    refusals::{FAILED_CREATE, Refusals},
};
use crate::pipeline::model::elapsed;

/// A Job has its pod sooner, unless it is refused.
const AFTER: Duration = Duration::from_secs(5);
/// The time between two requests for the Events of a Job that has had no pod yet.
const EVERY: Duration = Duration::from_secs(10);
/// The same for a Job that had one: most likely it waits for its next attempt.
const EVERY_BETWEEN_ATTEMPTS: Duration = Duration::from_secs(60);
/// Once it is known to be refused, only another message may follow: a pod that is created is observed.
const EVERY_WHEN_REFUSED: Duration = Duration::from_secs(60);
/// What is known of Jobs that are gone is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Jobs of a pipeline: others are most likely refused for the same cause.
const JOBS: usize = 4;
/// Kubernetes combines similar Events of an object after ten.
const EVENTS: u32 = 20;
/// Kubernetes cuts the base of a pod's name to this length, and appends five random characters.
const BASE: usize = 58;
const RANDOM: usize = 5;

struct Known {
    /// The time of the last request.
    at: Instant,
    message: Option<String>,
}

/// Reads the Events of Jobs without pods, and remembers for a short time what they say.
#[derive(Clone)]
pub struct RefusedPods {
    client: Client,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

impl RefusedPods {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Arc::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn of(&self, id: &PipelineId, observed: &Observed, now: Timestamp) -> Refusals {
        self.at(id, observed, now, Instant::now()).await
    }

    /// `instant` does not jump when the clock is set.
    async fn at(&self, id: &PipelineId, observed: &Observed, now: Timestamp, instant: Instant) -> Refusals {
        let mut check_after = None;
        for job in observed.children.jobs.iter().filter(|job| lacks_pod(observed, job)).take(JOBS) {
            let age = elapsed(created_at(job), now);
            if age >= AFTER && self.wait(observed, job, instant).is_zero() {
                self.read(id, observed, job, instant).await;
            }
            let wait = AFTER.saturating_sub(age).max(self.wait(observed, job, instant));
            check_after = Some(check_after.map_or(wait, |known: Duration| known.min(wait)));
        }
        let mut known = self.known();
        known.retain(|_, known| instant.duration_since(known.at) < FORGET_AFTER);
        let mut by_job = BTreeMap::new();
        for job in &observed.children.jobs {
            let uid = job.uid().unwrap_or_default();
            if has_live_pod(observed, job) {
                known.remove(&uid);
            } else if let Some(message) = known.get(&uid).and_then(|known| known.message.clone()) {
                by_job.insert(uid, message);
            }
        }
        Refusals { by_job, check_after }
    }

    /// The time until the next request for the Events of a Job.
    fn wait(&self, observed: &Observed, job: &Job, now: Instant) -> Duration {
        let known = self.known();
        let Some(last) = known.get(&job.uid().unwrap_or_default()) else {
            return Duration::ZERO;
        };
        let every = if last.message.is_some() {
            EVERY_WHEN_REFUSED
        } else if last_pod_created_at(observed, job).is_some() {
            EVERY_BETWEEN_ATTEMPTS
        } else {
            EVERY
        };
        every.saturating_sub(now.duration_since(last.at))
    }

    async fn read(&self, id: &PipelineId, observed: &Observed, job: &Job, now: Instant) {
        let uid = job.uid().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &id.namespace);
        let params = ListParams::default()
            .fields(&format!("involvedObject.uid={uid},reason={FAILED_CREATE}"))
            .limit(EVENTS);
        let unchanged = || self.known().get(&uid).and_then(|known| known.message.clone());
        let message = match tokio::time::timeout(TIMEOUT, api.list(&params)).await {
            Ok(Ok(events)) => refusal(&events.items, job, last_pod_created_at(observed, job)),
            Ok(Err(error)) => {
                tracing::warn!(%error, job = job.name_any(), namespace = id.namespace, "cannot list the Events of a Job without pods");
                unchanged()
            }
            Err(_) => unchanged(),
        };
        self.known().insert(uid, Known { at: now, message });
    }
}

/// An unfinished Job that should have a pod and has none.
fn lacks_pod(observed: &Observed, job: &Job) -> bool {
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let is_deleting = job.metadata.deletion_timestamp.is_some();
    let active = job.status.as_ref().and_then(|status| status.active).unwrap_or(0);
    active == 0 && !is_suspended && !is_deleting && job_end(job).is_none() && !has_live_pod(observed, job)
}

fn has_live_pod(observed: &Observed, job: &Job) -> bool {
    observed.pods_of(job).into_iter().any(pods::is_live)
}

fn created_at(job: &Job) -> Timestamp {
    job.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |at| at.0)
}

fn last_pod_created_at(observed: &Observed, job: &Job) -> Option<Timestamp> {
    let pods = observed.all_pods_of(job).into_iter();
    pods.filter_map(|pod| pod.metadata.creation_timestamp.as_ref()).map(|at| at.0).max()
}

/// The newest message, if it is newer than the last pod that was created.
fn refusal(events: &[Event], job: &Job, last_pod: Option<Timestamp>) -> Option<String> {
    let newest = events.iter().max_by_key(|event| last_seen(event))?;
    if last_pod.is_some_and(|created| last_seen(newest) <= Some(created)) {
        return None;
    }
    let name = job.name_any();
    Some(format!(
        "the pod of Job {name} cannot be created: {}",
        stable(newest.message.as_deref()?, &name)
    ))
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let micro = series.or(event.event_time.as_ref()).map(|at| at.0);
    event.last_timestamp.as_ref().map(|at| at.0).max(micro)
}

/// The message without what changes from one attempt to the next, so that the status does not change with each.
fn stable(message: &str, job: &str) -> String {
    let message = message
        .trim_start_matches("(combined from similar events): ")
        .trim_start_matches("Error creating: ");
    let pod = format!("{job}-");
    let base = pod.get(..BASE.min(pod.len())).unwrap_or(&pod);
    let mut text = String::new();
    let mut rest = message;
    while let Some(at) = rest.find(base) {
        let after = &rest[at + base.len()..];
        text.push_str(&rest[..at]);
        text.push_str(job);
        let random = after
            .bytes()
            .take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            .count();
        rest = if random == RANDOM { &after[RANDOM..] } else { after };
    }
    text.push_str(rest);
    // Of a quota; it changes with other pods.
    if let Some((before, after)) = text.split_once(", used: ")
        && let Some((_, limited)) = after.split_once(", limited: ")
    {
        return format!("{before}, limited: {limited}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const QUOTA: &str = "is forbidden: exceeded quota: small, requested: pods=1, used: pods=7, limited: pods=7";

    fn job(name: &str) -> Job {
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name, "creationTimestamp": "2025-01-01T00:00:00Z"}})).unwrap()
    }

    fn event(at: &str, message: &str) -> Event {
        serde_json::from_value(
            json!({"metadata": {}, "involvedObject": {}, "reason": "FailedCreate", "lastTimestamp": at, "message": message}),
        )
        .unwrap()
    }

    #[test]
    fn the_message_is_the_same_for_each_attempt() {
        let long = "users-schema-with-a-name-that-kubernetes-cuts-to-make-room-for-it";
        for name in ["users-schema-a-0", long] {
            let pod = |random: &str| format!("{}{random}", &format!("{name}-")[..BASE.min(name.len() + 1)]);
            let used = QUOTA.replace("used: pods=7", "used: pods=8");
            let messages = [
                format!("Error creating: pods \"{}\" {QUOTA}", pod("7k2lm")),
                format!("Error creating: pods \"{}\" {used}", pod("x9zzz")),
                format!("(combined from similar events): Error creating: pods \"{}\" {QUOTA}", pod("abcde")),
            ];
            let expected = format!(
                "the pod of Job {name} cannot be created: pods \"{name}\" is forbidden: exceeded quota: small, requested: pods=1, limited: pods=7"
            );
            for message in messages {
                let events = [event("2025-01-01T00:00:09Z", "older"), event("2025-01-01T00:01:00Z", &message)];
                assert_eq!(refusal(&events, &job(name), None).as_deref(), Some(expected.as_str()));
            }
        }
        let webhook = "Error creating: admission webhook \"policy\" denied the request: no label";
        let said = refusal(&[event("2025-01-01T00:00:09Z", webhook)], &job("j"), None).unwrap();
        assert_eq!(
            said,
            "the pod of Job j cannot be created: admission webhook \"policy\" denied the request: no label"
        );
    }

    #[test]
    fn a_refusal_counts_only_until_a_pod_was_created() {
        let events = [event("2025-01-01T00:01:00Z", "no")];
        let at = |text: &str| Some(text.parse().unwrap());
        assert_eq!(refusal(&events, &job("j"), at("2025-01-01T00:02:00Z")), None);
        assert!(refusal(&events, &job("j"), at("2025-01-01T00:00:30Z")).is_some());
        assert_eq!(refusal(&[], &job("j"), None), None);
    }

    #[test]
    fn only_an_unfinished_job_that_may_run_lacks_a_pod() {
        let with = |change: &dyn Fn(&mut Job)| {
            let mut job = job("j");
            change(&mut job);
            job
        };
        let none = Observed::default();
        assert!(lacks_pod(&none, &job("j")));
        let spec = |suspend: bool| serde_json::from_value(json!({"suspend": suspend, "template": {}})).unwrap();
        let status = |status: serde_json::Value| serde_json::from_value(status).unwrap();
        for other in [
            with(&|job| job.spec = spec(true)),
            with(&|job| job.status = status(json!({"active": 1}))),
            with(&|job| job.status = status(json!({"conditions": [{"type": "Failed", "status": "True"}]}))),
            with(&|job| job.metadata.deletion_timestamp = job.metadata.creation_timestamp.clone()),
        ] {
            assert!(!lacks_pod(&none, &other), "{other:?}");
        }
        for (phase, lacks) in [("Pending", false), ("Running", false), ("Failed", true)] {
            let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": true}]);
            let pod = json!({"metadata": {"name": "p", "ownerReferences": owners}, "status": {"phase": phase}});
            let mut observed = Observed::default();
            observed.children.pods = vec![Arc::new(serde_json::from_value(pod).unwrap())];
            assert_eq!(lacks_pod(&observed, &job("j")), lacks, "{phase}");
        }
    }

    #[tokio::test]
    async fn events_are_read_rarely_and_only_while_there_is_no_pod() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let asked = Arc::new(Mutex::new(Vec::<String>::new()));
        let log = asked.clone();
        let app = axum::Router::new().fallback(move |uri: axum::http::Uri| async move {
            log.lock().unwrap().push(uri.to_string());
            let event = json!({"metadata": {"name": "e"}, "involvedObject": {}, "lastTimestamp": "2025-01-01T00:00:01Z", "message": "Error creating: no"});
            let items = if uri.to_string().contains("uid%3Dj%2C") { vec![event] } else { vec![] };
            axum::Json(json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": items}))
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let refused = RefusedPods::new(Client::try_from(kube::Config::new(uri)).unwrap());
        let id = PipelineId {
            namespace: "demo".into(),
            name: "users".into(),
        };
        let mut observed = Observed::default();
        observed.children.jobs = vec![Arc::new(job("j"))];
        let start = Instant::now();
        let at = async |observed: &Observed, second: u64| {
            let now = "2025-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_secs(second);
            refused.at(&id, observed, now, start + Duration::from_secs(second)).await
        };
        // When, the time to the next look, and how many requests there were.
        for (second, wait, requests) in [(1, 4, 0), (5, 60, 1), (20, 45, 1), (65, 60, 2)] {
            let refusals = at(&observed, second).await;
            assert_eq!(refusals.check_after, Some(Duration::from_secs(wait)), "{second}");
            assert_eq!(
                refusals.by_job.get("j").map(String::as_str),
                (requests > 0).then_some("the pod of Job j cannot be created: no")
            );
            assert_eq!(asked.lock().unwrap().len(), requests, "{second}");
        }
        let asked_for = asked.lock().unwrap()[0].clone();
        assert!(
            asked_for.contains("/namespaces/demo/events?") && asked_for.contains("involvedObject.uid%3Dj%2Creason%3DFailedCreate"),
            "{asked_for}"
        );

        let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": true}]);
        let pod = json!({"metadata": {"name": "p", "ownerReferences": owners}, "status": {"phase": "Pending"}});
        observed.children.pods = vec![Arc::new(serde_json::from_value(pod).unwrap())];
        let refusals = at(&observed, 200).await;
        assert_eq!((refusals.by_job.len(), refusals.check_after), (0, None));
        assert_eq!(asked.lock().unwrap().len(), 2);

        // A Job whose first attempt failed waits for the next one: its Events are of less interest.
        observed.children.jobs = vec![Arc::new(job("never")), Arc::new(job("failed"))];
        let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "failed", "uid": "failed", "controller": true}]);
        let created = json!({"name": "p", "ownerReferences": owners, "creationTimestamp": "2025-01-01T00:00:02Z"});
        observed.children.pods = vec![Arc::new(
            serde_json::from_value(json!({"metadata": created, "status": {"phase": "Failed"}})).unwrap(),
        )];
        for (second, wait, requests) in [(300, 10, 4), (310, 10, 5), (350, 10, 6), (360, 10, 8)] {
            assert_eq!(at(&observed, second).await.check_after, Some(Duration::from_secs(wait)), "{second}");
            assert_eq!(asked.lock().unwrap().len(), requests, "{second}");
        }
    }
}
