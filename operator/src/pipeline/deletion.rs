//! One reconcile of a pipeline that is being deleted. Kubernetes garbage-collects its children; with `spec.deletionPolicy: Delete`
//! a finalizer keeps the pipeline until a Job has deleted its data outside Kubernetes.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::{ResourceExt, runtime::controller::Action};
use userpipeline_api::{
    Image, StoreObject, StoreObjectKind, TopicsStatus, UserPipeline, UserPipelineStatus, document::Binary, names, names::PipelineId,
    resolve,
};

use super::{
    apply::{Applier, ApplyError, is_namespace_terminating},
    children::Children,
    context::Context,
    decide::{
        DeletableTopics, created_objects,
        deletion::{DeletionInput, DeletionStep, decide},
        held_jobs,
    },
    desired::{deletion_account, deletion_objects},
    model::{Owner, PodConfig, has_finalizer, is_recorded, labels},
    observe::{Observed, deletion_jobs, is_deletion_job, pods, schema_jobs},
    reconcile_error::ReconcileError,
    status::{Reason, deletion_status},
    validate::{ValidateError, default_tls},
};
use crate::strimzi::ClusterId;

const REQUEUE: Duration = Duration::from_secs(10);

pub async fn reconcile_deletion(pipeline: &UserPipeline, context: &Context, now: Timestamp) -> Result<Action, ReconcileError> {
    let Some(owner) = deletion_owner(pipeline, context).filter(|_| has_finalizer(pipeline)) else {
        return Ok(Action::await_change());
    };
    context.rollouts.set_slot(&owner.id, None);
    let mut observed = Observed::cached(pipeline, &context.caches.children, now);
    observed.refusals = context.refused_pods.of(&owner.id, &observed, now).await;
    let recorded = pipeline.status.clone().unwrap_or_default();
    let all = context.caches.pipelines.store().state();
    let shared = context.resources.shared(pipeline, &all, &context.connections);
    let topics = deletable_topics(&recorded, pipeline, &shared, context);
    let input = DeletionInput {
        policy: pipeline.spec.deletion_policy,
        may_have_data: recorded.schema.is_some() || !schema_jobs(&observed).is_empty(),
        writers: writers(&observed.children),
        recorded: recorded.deletion.as_ref(),
        jobs: &deletion_jobs(&observed),
        task_hash: &owner.task_hash(),
        topics: &topics,
        topics_cluster: recorded.topics.as_ref().map_or("", |topics| &topics.cluster),
    };
    let mut decision = decide(&input, now);
    let (created, deletable) = created_and_deletable(pipeline, &recorded, &observed, &shared);
    let config = deletion_config(pipeline, &observed.children, context);
    // From here on, children must outlive a deletion that starts with the children (`--cascade=foreground`).
    let owner = Owner { reference: None, ..owner };
    let applier = context.applier(&owner.id, &owner.uid);
    let held = held_jobs::decide(&observed, now);
    let not_ended = applier.end_jobs(&held.end).await;
    let config_and_record = (config.as_ref().ok(), deletable.as_deref());
    let taken = take(&decision.step, config_and_record, &owner, &observed.children, &applier, context).await;
    let mut error = taken.err();
    if error.as_ref().is_some_and(is_namespace_terminating) {
        publish_data_retained(&owner.id, context).await;
        error = applier
            .clear_deletion(&observed.children)
            .await
            .and(applier.clear_kafka_users(&context.caches.strimzi).await)
            .and(applier.set_finalizer(false).await)
            .err();
    }
    if let (DeletionStep::Create(_), Err(problem)) = (&decision.step, &config) {
        let problem = (problem.reason().to_owned(), problem.to_string());
        decision.step = DeletionStep::Wait(Some(problem), None);
    }
    let error = error.or(not_ended.into_iter().next().map(|(_, error)| error));
    let status = UserPipelineStatus {
        created_objects: created.or(recorded.created_objects),
        ..deletion_status(pipeline, &decision, error.as_ref(), now)
    };
    context.status.write(pipeline, &status).await?;
    if let Some(error) = error {
        return Err(ReconcileError::Apply(vec![error.to_string()]));
    }
    context.back_off.forget(&owner.id);
    Ok(next(&decision.step, held.requeue))
}

fn next(step: &DeletionStep, held: Option<Duration>) -> Action {
    match step {
        DeletionStep::Release => Action::await_change(),
        DeletionStep::Wait(_, Some(wait)) => Action::requeue(*wait),
        _ => Action::requeue(held.map_or(REQUEUE, |held| held.min(REQUEUE))),
    }
}

/// With the images of the operator's version: an older one would delete what claims list, which an author can forge. A registry that
/// is no longer allowed must not block the deletion.
fn deletion_owner(pipeline: &UserPipeline, context: &Context) -> Option<Owner> {
    let default = &context.installation.images;
    let image = pipeline.spec.image.clone().map(|image| Image { version: None, ..image });
    Owner::of(pipeline, default.chosen(image.as_ref()).unwrap_or_else(|_| default.clone()))
}

/// The record of what the pipeline created, also by a schema Job that was stopped for the deletion; and what of it no other pipeline
/// uses.
fn created_and_deletable(
    pipeline: &UserPipeline,
    recorded: &UserPipelineStatus,
    observed: &Observed,
    shared: &[String],
) -> (Option<Vec<StoreObject>>, Option<Vec<StoreObject>>) {
    let names = names::in_stores(&pipeline.spec, &PipelineId::of(pipeline));
    let created = created_objects(recorded, &schema_jobs(observed), &names);
    let deletable = created.as_ref().map(|created| unshared(created, shared));
    (created, deletable)
}

/// The KafkaTopics that are deleted with the pipeline, in the cluster that was recorded before they were created.
fn deletable_topics(recorded: &UserPipelineStatus, pipeline: &UserPipeline, shared: &[String], context: &Context) -> DeletableTopics {
    let names = names::in_stores(&pipeline.spec, &PipelineId::of(pipeline));
    let uid = pipeline.uid().unwrap_or_default();
    let observe = |topics: &TopicsStatus| {
        let cluster = context.caches.strimzi.cluster(&cluster_id(&topics.cluster))?;
        cluster.topics.select(|_, _| true)
    };
    DeletableTopics::of(recorded.topics.as_ref(), &names, &uid, shared, observe)
}

fn cluster_id(text: &str) -> ClusterId {
    let (namespace, name) = text.split_once('/').unwrap_or_default();
    ClusterId {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// What the deletion Job reads, and whether a ConfigMap has it already.
struct DeletionConfig {
    config: PodConfig,
    is_stored: bool,
}

/// The stored config, which says where the data is; connections may say something else by now. Otherwise the one that follows from
/// the spec.
fn deletion_config(pipeline: &UserPipeline, observed: &Children, context: &Context) -> Result<DeletionConfig, ValidateError> {
    let recorded = pipeline.status.clone().unwrap_or_default();
    if let Some(config) = stored_config(pipeline, &recorded, observed) {
        return Ok(DeletionConfig { config, is_stored: true });
    }
    let resolved = resolve(pipeline, &context.connections.named_by(pipeline).connections)?;
    let default_tls = default_tls(pipeline, &resolved);
    Ok(DeletionConfig {
        config: PodConfig::of(&resolved, default_tls.mode, Binary::Schema, "deletion"),
        is_stored: false,
    })
}

/// Of the schema that was applied last, or else of one that was about to be applied. It decides which Secrets are mounted, so it must
/// be one that the operator wrote for this pipeline.
fn stored_config(pipeline: &UserPipeline, status: &UserPipelineStatus, observed: &Children) -> Option<PodConfig> {
    let recorded = status.schema.clone().unwrap_or_default();
    let is_own = |config_map: &ConfigMap| config_map.labels().get(labels::PIPELINE_UID) == pipeline.uid().as_ref();
    let stored = observed
        .config_maps
        .iter()
        .filter(|config_map| is_deletion(config_map.labels()) && is_own(config_map) && is_recorded(config_map, &status.config_digests));
    let age = |config_map: &ConfigMap| {
        let hash = config_map.labels().get(labels::SCHEMA_HASH);
        let hashes = [&recorded.applied_hash, &recorded.attempted_hash];
        hashes
            .iter()
            .position(|recorded| hash.is_some() && recorded.as_ref() == hash)
            .unwrap_or(hashes.len())
    };
    let config_map = stored.min_by_key(|config_map| age(config_map))?;
    PodConfig::stored(config_map)
}

/// Without what other pipelines use, as the index of conflicts names it, and the subjects of such topics.
fn unshared(created: &[StoreObject], shared: &[String]) -> Vec<StoreObject> {
    let is_shared = |object: &StoreObject| {
        let name = &object.name;
        let what = match object.kind {
            StoreObjectKind::Topic => format!("topic {name}"),
            StoreObjectKind::Subject => format!("topic {}", name.strip_suffix("-value").unwrap_or(name)),
            StoreObjectKind::ConsumerGroup => format!("consumer group {name}"),
            StoreObjectKind::Table => format!("table {name} in PostgreSQL"),
            StoreObjectKind::CassandraTable => format!("table {name} in Cassandra"),
        };
        shared.contains(&what)
    };
    created.iter().filter(|object| !is_shared(object)).cloned().collect()
}

async fn take(
    step: &DeletionStep,
    (config, created): (Option<&DeletionConfig>, Option<&[StoreObject]>),
    owner: &Owner,
    observed: &Children,
    applier: &Applier<'_>,
    context: &Context,
) -> Result<(), ApplyError> {
    match step {
        DeletionStep::Stop(_) => applier.stop_writers(observed).await,
        DeletionStep::Create(attempt) => {
            let desired = match config {
                Some(DeletionConfig { config, is_stored }) => {
                    deletion_objects(owner, &context.installation, config, *is_stored, created, *attempt)
                }
                // Even this fails in a namespace that is being deleted, where the stored config and the connections go before the
                // pipeline: nothing else distinguishes that from a connection that may come back.
                None => deletion_account(owner),
            };
            applier.apply_deletion(desired, observed).await
        }
        DeletionStep::Clear => applier.clear_deletion(observed).await,
        DeletionStep::DeleteTopics { cluster, names } => applier.delete_kafka_topics(&cluster_id(cluster), names).await,
        // Strimzi, or the right to its resources, may never come back, which must not keep a namespace from being deleted: in one that
        // is, even this fails.
        DeletionStep::AwaitStrimzi(_) => applier.apply_deletion(deletion_account(owner), observed).await,
        DeletionStep::Wait(..) | DeletionStep::AwaitTopics | DeletionStep::Record => Ok(()),
        DeletionStep::Release => {
            applier.clear_deletion(observed).await?;
            applier.clear_kafka_users(&context.caches.strimzi).await?;
            applier.set_finalizer(false).await
        }
    }
}

fn is_deletion(labels: &BTreeMap<String, String>) -> bool {
    labels.get(labels::COMPONENT).map(String::as_str) == Some(labels::Component::Deletion.as_str())
}

/// The children that can still write, for people.
fn writers(observed: &Children) -> Vec<String> {
    let cron_jobs = observed.cron_jobs.iter().map(|o| format!("CronJob {}", o.name_any()));
    let deployments = observed.deployments.iter().map(|o| format!("Deployment {}", o.name_any()));
    let jobs = observed.jobs.iter().filter(|job| !is_deletion_job(job));
    let pods = observed.pods.iter().filter(|pod| !is_deletion(pod.labels()) && pods::is_live(pod));
    cron_jobs
        .chain(deployments)
        .chain(jobs.map(|o| format!("Job {}", o.name_any())))
        .chain(pods.map(|o| format!("Pod {}", o.name_any())))
        .collect()
}

/// Nothing can be created in a namespace that is being deleted, so the Event is about the namespace itself.
async fn publish_data_retained(id: &PipelineId, context: &Context) {
    let namespace = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Namespace".to_owned()),
        name: Some(id.namespace.clone()),
        ..ObjectReference::default()
    };
    let note = format!(
        "UserPipeline {id} was deleted with its namespace, in which no Job can run any more to delete its data: topic, subject, consumer group and tables are retained"
    );
    context.status.publish(Reason::DataRetained, &note, &namespace).await;
}
