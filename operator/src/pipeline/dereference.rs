//! What there is: children, pods and their messages from the caches, and what workers say when asked. IO, and only reading.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Pod, PodTemplateSpec, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use userpipeline_api::{
    names::PipelineId,
    report::{DeletionReport, DrainReport, SchemaReport, WORKER_PORT, WorkerReport},
};

use super::{
    build::{Gate, Given, labels},
    caches::{Caches, of_pipeline},
    deletion, drain, pods,
    schema::{Progress, SeenJob},
};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const LARGEST_ANSWER: usize = 512 * 1024;
const ASKED_AT_ONCE: usize = 16;

/// What there is of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Files of the binaries.
    pub config_maps: Vec<Arc<ConfigMap>>,
    /// Who the pods are.
    pub accounts: Vec<Arc<ServiceAccount>>,
    /// Schema Jobs and runs.
    pub jobs: Vec<Arc<Job>>,
    /// Schedules.
    pub cron_jobs: Vec<Arc<CronJob>>,
    /// Workers.
    pub deployments: Vec<Arc<Deployment>>,
    /// Their budgets.
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
    /// All its pods.
    pub pods: Vec<Arc<Pod>>,
    /// What workers have answered, by the pod's name; those that did not are not in it.
    pub reports: BTreeMap<String, WorkerReport>,
}

/// Reads all there is of a pipeline.
pub async fn dereference(id: &PipelineId, caches: &Caches, http: &reqwest::Client) -> Observed {
    let mut observed = children(id, caches);
    observed.reports = ask(&observed, http).await;
    observed
}

/// The same without asking the workers.
pub fn children(id: &PipelineId, caches: &Caches) -> Observed {
    Observed {
        config_maps: of_pipeline(&caches.config_maps, id),
        accounts: of_pipeline(&caches.accounts, id),
        jobs: of_pipeline(&caches.jobs, id),
        cron_jobs: of_pipeline(&caches.cron_jobs, id),
        deployments: of_pipeline(&caches.deployments, id),
        budgets: of_pipeline(&caches.budgets, id),
        pods: of_pipeline(&caches.pods, id),
        reports: BTreeMap::new(),
    }
}

/// The client with which workers are asked: it follows nobody elsewhere.
pub fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .timeout(ANSWER_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}

async fn ask(observed: &Observed, http: &reqwest::Client) -> BTreeMap<String, WorkerReport> {
    let asked: Vec<(String, String)> = observed
        .workers()
        .filter_map(|pod| Some((pod.name_any(), pods::address(pod)?.to_owned())))
        .collect();
    stream::iter(asked)
        .map(|(name, address)| async move { Some((name, report(&address, WORKER_PORT, http).await?)) })
        .buffer_unordered(ASKED_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn report(address: &str, port: u16, http: &reqwest::Client) -> Option<WorkerReport> {
    let host = match address.parse().ok()? {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let mut answer = http
        .get(format!("http://{host}:{port}/status"))
        .send()
        .await
        .ok()?
        .error_for_status()
        .ok()?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.ok()? {
        if body.len() + part.len() > LARGEST_ANSWER {
            return None;
        }
        body.extend_from_slice(&part);
    }
    serde_json::from_slice(&body).ok()
}

fn is<K: ResourceExt>(object: &K, component: labels::Component) -> bool {
    object
        .labels()
        .get(labels::COMPONENT)
        .is_some_and(|label| label == component.as_str())
}

fn label(job: &Job, key: &str) -> String {
    job.labels().get(key).cloned().unwrap_or_default()
}

/// A label that is a number.
fn number<N: FromStr + Default>(job: &Job, key: &str) -> N {
    label(job, key).parse().unwrap_or_default()
}

impl Observed {
    /// The workers' pods, those that go included.
    pub fn workers(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods
            .iter()
            .filter(|pod| is(pod.as_ref(), labels::Component::Worker) && pods::is_live(pod))
    }

    /// The Jobs of runs, those made by hand included.
    pub fn runs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.iter().filter(|job| is(job.as_ref(), labels::Component::Ingest))
    }

    /// The last tick for which the CronJob has started a run.
    pub fn cron_job_ran(&self, name: &str) -> Option<Timestamp> {
        let cron_job = self.cron_jobs.iter().find(|cron_job| cron_job.name_any() == name)?;
        Some(cron_job.status.as_ref()?.last_schedule_time.as_ref()?.0)
    }

    /// The pods of a Job.
    pub fn pods_of(&self, job: &Job) -> Vec<&Pod> {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        self.pods
            .iter()
            .map(AsRef::as_ref)
            .filter(|pod| pods::is_of_job(pod, uid))
            .collect()
    }

    /// The schema Jobs.
    pub fn schema_jobs(&self) -> Vec<SeenJob> {
        self.jobs.iter().filter_map(|job| self.schema_job(job)).collect()
    }

    /// The drain Jobs.
    pub fn drain_jobs(&self) -> Vec<drain::SeenJob> {
        let jobs = self.jobs.iter().filter(|job| is(job.as_ref(), labels::Component::Drain));
        jobs.map(|job| drain::SeenJob {
            name: job.name_any(),
            attempt: number(job, labels::DRAIN_ATTEMPT),
            since: number(job, labels::DRAIN_SINCE),
            task: label(job, labels::TASK),
            deleting: job.metadata.deletion_timestamp.is_some(),
            stuck: self.stuck(job),
            ended: self.told::<DrainReport>(job).map(|(end, mut report)| {
                self.explain(job, &end, &mut report.reason, &mut report.message);
                (end.at, end.succeeded, report)
            }),
        })
        .collect()
    }

    /// Whether a Job deletes what the pipeline has made.
    pub fn is_deletion_job(job: &Job) -> bool {
        is(job, labels::Component::Deletion)
    }

    /// The deletion Job; there is one at a time.
    pub fn deletion_job(&self) -> Option<deletion::SeenJob> {
        let job = self.jobs.iter().find(|job| is(job.as_ref(), labels::Component::Deletion))?;
        Some(deletion::SeenJob {
            attempt: number(job, labels::DELETION_ATTEMPT),
            task: label(job, labels::TASK),
            deleting: job.metadata.deletion_timestamp.is_some(),
            stuck: self.stuck(job),
            ended: self.told::<DeletionReport>(job).map(|(end, mut report)| {
                self.explain(job, &end, &mut report.reason, &mut report.message);
                (end.at, end.succeeded, report)
            }),
        })
    }

    /// What keeps a Job's pod from ending.
    fn stuck(&self, job: &Job) -> Option<(String, String)> {
        self.pods_of(job).iter().find_map(|pod| pods::problem(pod))
    }

    /// How a Job has ended, if it has, and what its pod told last.
    fn told<R: DeserializeOwned + Default>(&self, job: &Job) -> Option<(JobEnd, R)> {
        let pods = self.pods_of(job);
        let told = pods.iter().filter_map(|pod| pods::last_words::<R>(pod)).max_by_key(|(at, _)| *at);
        Some((end(job)?, told.map(|(_, report)| report).unwrap_or_default()))
    }

    /// Fills in why, where a pod has told nothing: from how it ended, or from the Job itself.
    fn explain(&self, job: &Job, end: &JobEnd, reason: &mut String, message: &mut String) {
        if end.succeeded || !reason.is_empty() {
            return;
        }
        let words = self
            .pods_of(job)
            .iter()
            .find_map(|pod| pods::end(pod))
            .filter(|_| end.reason != "DeadlineExceeded");
        (*reason, *message) = words.unwrap_or_else(|| (end.reason.clone(), end.message.clone()));
    }

    /// How many workers there still are; none where there never was a Deployment. Pods are the truth, but their cache may be
    /// behind; a Deployment that is to have replicas has some.
    pub fn workers_left(&self, deployment: &str) -> Option<usize> {
        let deployment = self.deployments.iter().find(|d| d.name_any() == deployment)?;
        let status = deployment.status.clone().unwrap_or_default();
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let is_behind = status.observed_generation < deployment.metadata.generation;
        let told = if is_behind {
            status.replicas.unwrap_or(0).max(1)
        } else {
            status.replicas.unwrap_or(0)
        };
        let counted = usize::try_from(told.max(wanted)).unwrap_or(0);
        Some(self.workers().count().max(counted))
    }

    /// Runs that are under way: those that were stopped with the pipeline are not, once their pods are gone.
    pub fn runs_under_way(&self) -> Vec<String> {
        let under_way = self.runs().filter(|job| {
            let rests = job.annotations().contains_key(labels::STOPPED) && job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
            let has_pods = self.pods_of(job).into_iter().any(pods::is_live);
            end(job).is_none() && (!rests || has_pods)
        });
        under_way.map(|job| job.name_any()).collect()
    }

    fn schema_job(&self, job: &Job) -> Option<SeenJob> {
        let hash = job.labels().get(labels::SCHEMA_HASH).cloned()?;
        let progress = match self.told::<SchemaReport>(job) {
            None => Progress::Running { stuck: self.stuck(job) },
            Some((end, report)) if end.succeeded => Progress::Succeeded { at: end.at, report },
            Some((end, mut report)) => {
                self.explain(job, &end, &mut report.reason, &mut report.message);
                Progress::Failed { at: end.at, report }
            }
        };
        Some(SeenJob {
            name: job.name_any(),
            hash,
            task: label(job, labels::TASK),
            attempt: number(job, labels::SCHEMA_ATTEMPT),
            created_at: job.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0),
            deleting: job.metadata.deletion_timestamp.is_some(),
            progress,
        })
    }

    /// What runs and workers have now, to be kept while the schema is behind.
    pub fn held(&self, cron_job: &str, deployment: &str) -> Gate {
        let given = |template: Option<&PodTemplateSpec>| Given::read(template?.spec.as_ref()?);
        let cron_job = self.cron_jobs.iter().find(|c| c.name_any() == cron_job);
        let deployment = self.deployments.iter().find(|d| d.name_any() == deployment);
        Gate::Held {
            ingest: given(cron_job.and_then(|c| Some(&c.spec.as_ref()?.job_template.spec.as_ref()?.template))),
            worker: given(deployment.and_then(|d| Some(&d.spec.as_ref()?.template))),
        }
    }
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEnd {
    /// Whether it did what it was for.
    pub succeeded: bool,
    /// When.
    pub at: Timestamp,
    /// A word, from its condition.
    pub reason: String,
    /// A sentence, from its condition.
    pub message: String,
}

/// How a Job ended, if it has.
pub fn end(job: &Job) -> Option<JobEnd> {
    let status = job.status.as_ref()?;
    let condition = status
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))?;
    let succeeded = condition.type_ == "Complete";
    let at = status
        .completion_time
        .as_ref()
        .filter(|_| succeeded)
        .or(condition.last_transition_time.as_ref())
        .map_or(Timestamp::MIN, |t| t.0);
    Some(JobEnd {
        succeeded,
        at,
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use axum::{Router, response::Redirect, routing::get};

    use super::*;

    async fn asked(app: Router) -> Option<WorkerReport> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, app).await });
        report("127.0.0.1", port, &http_client().unwrap()).await
    }

    #[tokio::test]
    async fn a_worker_is_asked_for_its_report() {
        let app = Router::new().route(
            "/status",
            get(|| async { r#"{"ready":true,"topicPartitions":3,"news":"unknown fields are fine"}"# }),
        );
        let report = asked(app).await.unwrap();
        assert_eq!((report.ready, report.topic_partitions), (true, 3));
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_taken_for_none() {
        let table = [
            Router::new(),
            Router::new().route("/status", get(|| async { "no JSON" })),
            Router::new().route("/status", get(|| async { " ".repeat(LARGEST_ANSWER) + r#"{"ready":true}"# })),
            Router::new()
                .route("/status", get(|| async { Redirect::temporary("/elsewhere") }))
                .route("/elsewhere", get(|| async { r#"{"ready":true}"# })),
            Router::new().route("/status", get(|| async { tokio::time::sleep(ANSWER_WITHIN * 2).await })),
        ];
        for app in table {
            assert_eq!(asked(app).await, None);
        }
    }
}
