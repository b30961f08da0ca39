//! The user that a pipeline logs in with in Kafka, as it is now.

use std::collections::BTreeSet;

use super::{
    context::Context,
    decide::{
        Decisions,
        kafka_user::{Decision, KafkaUserInput, UserCluster, decide},
        upgrade::Turn,
    },
    model::{Gate, PodConfigRef},
    observe::{Observed, has_acls, is_rolled_out, kafka_users, mounted_secrets},
    validate::ValidatedPipeline,
};

/// A plan shows the end of a rollout: no pod has an earlier user.
pub fn kafka_user(valid: &ValidatedPipeline, decisions: &Decisions, observed: &Observed, context: &Context) -> Decision {
    // While the pipeline waits for its turn, pods log in as before.
    if decisions.connections.turn == Turn::Waiting {
        return Decision::default();
    }
    let (id, strimzi) = (&valid.owner.id, &context.caches.strimzi);
    let requested = valid.kafka_user.as_ref();
    let live = kafka_users(id, strimzi);
    if requested.is_none() && live.is_none() {
        return Decision::default();
    }
    let cluster = requested.map_or_else(
        || Ok(UserCluster::default()),
        |requested| {
            strimzi.cluster(&requested.cluster).map(|cluster| UserCluster {
                user_namespace: cluster.user_namespace.clone(),
                has_acls: has_acls(requested, strimzi),
            })
        },
    );
    let is_plan = context.ignore_rollout_order;
    let mounted = if is_plan { BTreeSet::new() } else { mounted_secrets(observed) };
    decide(&KafkaUserInput {
        requested,
        namespace: &id.namespace,
        live,
        cluster,
        is_rolled_out: is_plan || (decisions.gate == Gate::Open && workers_are_current(valid, observed)),
        mounted: &mounted,
        assumes_ready: is_plan,
    })
}

/// So they are where there is no Deployment.
fn workers_are_current(valid: &ValidatedPipeline, observed: &Observed) -> bool {
    observed.worker_deployment(&valid.owner.id).is_none_or(|deployment| {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let config = template.and_then(PodConfigRef::of_template);
        let mut pods = observed.workers().filter_map(|pod| PodConfigRef::of_pod(pod.spec.as_ref()?));
        let is_current = |config: &PodConfigRef| config.config_map == valid.worker.config_map;
        config.as_ref().is_some_and(is_current) && is_rolled_out(deployment) && pods.all(|config| is_current(&config))
    })
}
