//! Runs a schema Job that only prints what it would do.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, PostParams},
};
use userpipeline_api::{StoreObject, names};

use super::error::{PlanError, refused};
use crate::pipeline::{
    desired::plan_objects,
    model::{Installation, labels::Component},
    observe::{job_end, pods},
    validate::ValidatedPipeline,
};

const POLL: Duration = Duration::from_millis(500);
/// A pod may have a problem for this time.
const STUCK_WITHIN: Duration = Duration::from_secs(60);
/// Longer than the Job's own deadline.
const ENDS_WITHIN: Duration = Duration::from_secs(330);

/// Runs the Job, returns what it prints, and deletes it.
pub async fn run(
    client: &Client,
    installation: &Installation,
    valid: &ValidatedPipeline,
    created: Option<&[StoreObject]>,
) -> Result<String, PlanError> {
    let id = &valid.owner.id;
    let suffix = format!("plan-{}", names::hash(&Timestamp::now().to_string()));
    let name = names::child(&id.name, &suffix, names::LABEL_LIMIT);
    let (config_map, job) = plan_objects(valid, installation, created, &name);

    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &id.namespace);
    let jobs: Api<Job> = Api::namespaced(client.clone(), &id.namespace);
    let params = PostParams::default();
    config_maps
        .create(&params, &config_map)
        .await
        .map_err(refused(format!("creating ConfigMap {name}")))?;
    let output = match jobs.create(&params, &job).await.map_err(refused(format!("creating Job {name}"))) {
        Ok(_) => ended(client, &jobs, &id.namespace, &name).await,
        Err(error) => Err(error),
    };
    // Where this fails, Kubernetes deletes the Job later, but not the ConfigMap.
    let _ = jobs.delete(&name, &DeleteParams::background()).await;
    let _ = config_maps.delete(&name, &DeleteParams::default()).await;
    output
}

async fn ended(client: &Client, jobs: &Api<Job>, namespace: &str, name: &str) -> Result<String, PlanError> {
    let all: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let own = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
    let until = tokio::time::Instant::now() + ENDS_WITHIN;
    let stuck_until = tokio::time::Instant::now() + STUCK_WITHIN;
    loop {
        let job = jobs.get(name).await.map_err(refused(format!("Job {name}")))?;
        let found = all.list(&own).await.map_err(refused(format!("the pods of Job {name}")))?.items;
        let container = Component::Schema.as_str();
        let job_end = job_end(&job);
        // An injected container may keep the pod, and with it the Job, from ending.
        let is_final = |pod: &Pod, code: i32| code == 0 || job_end.is_some() || pods::running_sidecars(pod).next().is_some();
        let mut ended = found.iter().filter_map(|pod| Some((pod, pods::container_end(pod, container)?)));
        if let Some((pod, end)) = ended.find(|(pod, end)| is_final(pod, end.exit_code)) {
            let params = LogParams {
                container: Some(container.to_owned()),
                ..LogParams::default()
            };
            let text = all.logs(&pod.name_any(), &params).await;
            let text = text.map_err(refused(format!("the log of Pod {}", pod.name_any())))?;
            return if end.exit_code == 0 {
                Ok(text)
            } else {
                Err(PlanError::Children(vec![text]))
            };
        }
        if let Some(end) = job_end {
            return Err(PlanError::Children(vec![format!("Job {name} {}: {}", end.reason, end.message)]));
        }
        // A problem may pass, for example when a node is added.
        if let Some((reason, message)) = found.iter().find_map(pods::problem)
            && tokio::time::Instant::now() > stuck_until
        {
            return Err(PlanError::Children(vec![format!("Job {name} is stuck: {reason}: {message}")]));
        }
        if tokio::time::Instant::now() > until {
            return Err(PlanError::Children(vec![format!(
                "Job {name} did not end within {} s",
                ENDS_WITHIN.as_secs()
            )]));
        }
        tokio::time::sleep(POLL).await;
    }
}
