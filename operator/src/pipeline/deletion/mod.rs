//! A pipeline that is being deleted. Its children go by garbage collection; with `spec.deletionPolicy: Delete` a finalizer
//! holds the pipeline until a Job has deleted what it has made outside of Kubernetes.

mod decide;
mod status;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{ResourceExt, runtime::controller::Action};
use userpipeline_api::{UserPipeline, document::Binary, names::PipelineId};

pub use self::decide::{SeenJob, Step};
use super::{
    Context, ReconcileError,
    apply::{ApplyError, Target, is_namespace_terminating},
    build::{self, labels},
    dereference::{self, Observed},
    event::Reason,
    pods,
    validate::{Document, Parent},
    write,
};

/// Holds a pipeline whose data is to be deleted with it.
pub const FINALIZER: &str = "userpipeline.dev/delete-data";
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Whether a pipeline is held by the finalizer.
pub fn is_held(pipeline: &UserPipeline) -> bool {
    pipeline.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// One step towards a pipeline that is gone.
pub async fn reconcile(pipeline: &UserPipeline, context: &Context) -> Result<Action, ReconcileError> {
    // One that is no longer allowed does not keep a pipeline from going.
    let own = &context.installation.images;
    let images = own.chosen(pipeline.spec.image.as_ref()).unwrap_or_else(|_| own.clone());
    let Some(parent) = Parent::of(pipeline, images).filter(|_| is_held(pipeline)) else {
        return Ok(Action::await_change());
    };
    let observed = dereference::children(&parent.id, &context.caches);
    let recorded = pipeline.status.clone().unwrap_or_default();
    let job = observed.deletion_job();
    let now = Timestamp::now();
    let facts = decide::Facts {
        policy: pipeline.spec.deletion_policy,
        began: recorded.schema.is_some() || !observed.schema_jobs().is_empty(),
        left: left(&observed),
        recorded: recorded.deletion.as_ref(),
        job: job.as_ref(),
        task: &parent.task(),
    };
    let decision = decide::decide(&facts, now);
    // Whatever is made from here on must outlive a deletion that takes the children first (`--cascade=foreground`).
    let parent = Parent { reference: None, ..parent };
    let to = Target::new(&context.client, &context.metrics, &parent);
    let mut problem = take(&decision.step, pipeline, &observed, &to, context).await.err();
    if problem.as_ref().is_some_and(is_namespace_terminating) {
        give_up(&parent.id, context).await;
        problem = to
            .clear_deletion(&observed)
            .await
            .and(to.set_finalizer(FINALIZER, false).await)
            .err();
    }
    let status = status::of(pipeline, &decision, problem.as_ref(), now);
    write::status(pipeline, &status, context).await?;
    if let Some(problem) = problem {
        return Err(ReconcileError::Apply(vec![problem.to_string()]));
    }
    context.back_off.forget(&parent.id);
    Ok(match decision.step {
        Step::LetGo => Action::await_change(),
        Step::Wait(_, Some(wait)) => Action::requeue(wait),
        _ => Action::requeue(LOOK_AGAIN),
    })
}

async fn take(step: &Step, pipeline: &UserPipeline, observed: &Observed, to: &Target<'_>, context: &Context) -> Result<(), ApplyError> {
    match step {
        Step::Stop(_) => to.stop_all(observed).await,
        Step::Create(attempt) => {
            let document = Document::of(pipeline, Binary::Schema, "deletion");
            let made = build::deletion(to.parent, &context.installation, &document, *attempt);
            to.delete_data(made, observed).await
        }
        Step::Clear => to.clear_deletion(observed).await,
        Step::Wait(..) => Ok(()),
        Step::LetGo => {
            to.clear_deletion(observed).await?;
            to.set_finalizer(FINALIZER, false).await
        }
    }
}

/// What could still write, for people.
fn left(observed: &Observed) -> Vec<String> {
    let is_deletion = |labels: &std::collections::BTreeMap<String, String>| {
        labels.get(labels::COMPONENT).map(String::as_str) == Some(labels::Component::Deletion.as_str())
    };
    let cron_jobs = observed.cron_jobs.iter().map(|o| format!("CronJob {}", o.name_any()));
    let deployments = observed.deployments.iter().map(|o| format!("Deployment {}", o.name_any()));
    let jobs = observed.jobs.iter().filter(|job| !is_deletion(job.labels()));
    let pods = observed.pods.iter().filter(|pod| !is_deletion(pod.labels()) && pods::is_live(pod));
    cron_jobs
        .chain(deployments)
        .chain(jobs.map(|o| format!("Job {}", o.name_any())))
        .chain(pods.map(|o| format!("Pod {}", o.name_any())))
        .collect()
}

/// Nothing can be made in a namespace that is going, not even an Event.
async fn give_up(id: &PipelineId, context: &Context) {
    let namespace = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Namespace".to_owned()),
        name: Some(id.namespace.clone()),
        ..ObjectReference::default()
    };
    let note = format!(
        "UserPipeline {id} was deleted with its namespace, in which no Job can delete its data any more: topic, subject, consumer group and tables stay"
    );
    write::publish(Reason::DataRetained, &note, &namespace, context).await;
}
