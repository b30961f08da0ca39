//! What the schema Job would do: one is run that only says it.

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
use userpipeline_api::{UserPipeline, document::Binary, names};

use super::{PlanError, refused};
use crate::pipeline::{
    Installation, build, dereference, pods,
    validate::{Document, ValidatedPipeline},
};

const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long a pod may be held up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the Job's own deadline.
const WITHIN: Duration = Duration::from_secs(330);

/// Runs a schema Job in plan mode, gives what it prints, and clears up.
pub async fn say(
    client: &Client,
    installation: &Installation,
    pipeline: &UserPipeline,
    valid: &ValidatedPipeline,
) -> Result<String, PlanError> {
    let id = &valid.parent.id;
    let suffix = format!("plan-{}", names::hash(&Timestamp::now().to_string()));
    let name = names::child(&id.name, &suffix, names::LABEL_LIMIT);
    let document = Document::of(pipeline, Binary::Schema, "plan");
    let (file, job) = build::plan_job::build(&valid.parent, installation, &document, &name);

    let files: Api<ConfigMap> = Api::namespaced(client.clone(), &id.namespace);
    let jobs: Api<Job> = Api::namespaced(client.clone(), &id.namespace);
    let made = PostParams::default();
    files
        .create(&made, &file)
        .await
        .map_err(refused(format!("making ConfigMap {name}")))?;
    let said = match jobs.create(&made, &job).await.map_err(refused(format!("making Job {name}"))) {
        Ok(_) => ended(client, &jobs, &id.namespace, &name).await,
        Err(error) => Err(error),
    };
    // What cannot be deleted goes by itself, the file aside.
    let _ = jobs.delete(&name, &DeleteParams::background()).await;
    let _ = files.delete(&name, &DeleteParams::default()).await;
    said
}

async fn ended(client: &Client, jobs: &Api<Job>, namespace: &str, name: &str) -> Result<String, PlanError> {
    let all: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let own = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
    let until = tokio::time::Instant::now() + WITHIN;
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        let job = jobs.get(name).await.map_err(refused(format!("Job {name}")))?;
        let found = all.list(&own).await.map_err(refused(format!("the pods of Job {name}")))?.items;
        if let Some(end) = dereference::end(&job) {
            let Some(pod) = found.first() else {
                return Err(PlanError::Children(vec![format!("Job {name} {}: {}", end.reason, end.message)]));
            };
            let text = all.logs(&pod.name_any(), &LogParams::default()).await;
            let text = text.map_err(refused(format!("the log of Pod {}", pod.name_any())))?;
            return if end.succeeded {
                Ok(text)
            } else {
                Err(PlanError::Children(vec![text]))
            };
        }
        // What is held up may be in a moment: a node may be on its way.
        if let Some((reason, message)) = found.iter().find_map(pods::problem)
            && tokio::time::Instant::now() > patience
        {
            return Err(PlanError::Children(vec![format!("Job {name} is held up: {reason}: {message}")]));
        }
        if tokio::time::Instant::now() > until {
            return Err(PlanError::Children(vec![format!("Job {name} has not ended")]));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
