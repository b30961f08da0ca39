//! The decision about the topics of a pipeline that Strimzi manages, from what is observed now.

use jiff::Timestamp;
use kube::ResourceExt;
use userpipeline_api::{ACCEPT_TOPIC, UserPipeline};

use super::{
    context::Context,
    decide::{
        Decisions,
        topics::{Decision, TopicsInput, concerns, decide},
        upgrade::Turn,
    },
    observe::{Observed, inspection_jobs},
    validate::ValidatedPipeline,
};

/// `decisions` are the others.
pub fn topics_turn(
    pipeline: &UserPipeline,
    valid: &ValidatedPipeline,
    observed: &Observed,
    decisions: &Decisions,
    context: &Context,
    now: Timestamp,
) -> Decision {
    let status = pipeline.status.clone().unwrap_or_default();
    let jobs = inspection_jobs(observed);
    // Its children still have earlier connections, maybe of another cluster.
    if decisions.connections.turn == Turn::Waiting {
        return Decision::held(status.topics);
    }
    let Some(declared) = &valid.topics else {
        return Decision::not_managed(status.topics, &jobs);
    };
    let cluster = context.caches.strimzi.cluster(&declared.cluster);
    let schema = &decisions.schema;
    let recorded_cluster = schema
        .status
        .kafka_cluster
        .clone()
        .filter(|id| valid.compares_stores() && !id.is_empty());
    let kafka_clusters: Vec<String> = recorded_cluster
        .into_iter()
        .flat_map(|id| std::iter::once(id).chain(valid.accepted_stores.iter().cloned()))
        .collect();
    let input = TopicsInput {
        declared,
        owner: &valid.owner,
        recorded: status.topics.as_ref(),
        observed: &cluster.and_then(|cluster| cluster.topics.select(|name, topic| concerns(declared, name, topic))),
        jobs: &jobs,
        created: decisions.created_objects.as_deref().unwrap_or_default(),
        kafka_clusters: &kafka_clusters,
        verified_id: schema.status.topic_id.as_deref().filter(|_| schema.is_applied()),
        accepted: &accepted(pipeline),
        skip_inspection: context.ignore_rollout_order,
    };
    let decision = decide(&input, &valid.owner.task_hash(), now);
    match decisions.kafka_user.problem() {
        Some(problem) => decision.before_login(problem),
        None => decision,
    }
}

/// The ids in the annotation. Others than those of topics are ignored.
fn accepted(pipeline: &UserPipeline) -> Vec<String> {
    let ids = pipeline.annotations().get(ACCEPT_TOPIC).into_iter().flat_map(|ids| ids.split(','));
    let is_id = |id: &&str| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    ids.map(str::trim).filter(is_id).map(str::to_owned).collect()
}
