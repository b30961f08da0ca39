//! A resource that does not match this operator's version of it: reported in its own status; other pipelines are unaffected.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Api, Resource, runtime::controller::Action};
use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, condition, names::PipelineId};

use super::{
    cache::CachedPipeline,
    context::Context,
    model::whole_seconds,
    reconcile_error::ReconcileError,
    status::{Reason, WriteError},
};

/// Reports in status, Event, log and metric that and why the resource cannot be read.
pub async fn report_unreadable(id: &PipelineId, error: &str, context: &Context, now: Timestamp) -> Result<Action, ReconcileError> {
    context.metrics.unreadable(id);
    context.rollouts.set_slot(id, None);
    let api: Api<CachedPipeline> = Api::namespaced(context.client.clone(), &id.namespace);
    let failed = |error| ReconcileError::Status(WriteError::StatusFailed(Box::new(error)));
    let Some(object) = api.get_opt(&id.name).await.map_err(failed)? else {
        return Ok(Action::await_change());
    };
    let metadata = object.meta().clone();
    let before = object.status().unwrap_or_else(|| json!({}));
    let after = status(&before, error, metadata.generation, now);
    if before != after {
        tracing::warn!(error, pipeline = %id, "cannot read the pipeline");
        context.status.patch(id, metadata.uid.clone(), after).await?;
        let about = ObjectReference {
            api_version: Some(UserPipeline::api_version(&()).into_owned()),
            kind: Some(UserPipeline::kind(&()).into_owned()),
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            ..ObjectReference::default()
        };
        context.status.publish(Reason::Unreadable, error, &about).await;
    }
    Ok(Action::await_change())
}

/// The status with Ready, Stalled and Reconciling set, the other conditions unknown, and everything else unchanged.
fn status(before: &Value, error: &str, generation: Option<i64>, now: Timestamp) -> Value {
    let mut after = before.clone();
    let old: Vec<Condition> = before
        .get("conditions")
        .and_then(|list| serde_json::from_value(list.clone()).ok())
        .unwrap_or_default();
    let unreadable = [
        (condition::READY, "False"),
        (condition::STALLED, "True"),
        (condition::RECONCILING, "False"),
    ];
    let mut conditions: Vec<Condition> = old
        .iter()
        .filter(|c| !unreadable.iter().any(|(type_, _)| c.type_ == *type_))
        .cloned()
        .collect();
    for condition in &mut conditions {
        "Unknown".clone_into(&mut condition.status);
    }
    conditions.extend(unreadable.map(|(type_, status)| {
        let same = old.iter().find(|c| c.type_ == type_ && c.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Reason::Unreadable.as_str().to_owned(),
            message: format!("this version of the operator cannot read the resource: {error}"),
            observed_generation: generation,
            last_transition_time: same.map_or_else(|| whole_seconds(now), |c| c.last_transition_time.clone()),
        }
    }));
    after["conditions"] = json!(conditions);
    after["observedGeneration"] = json!(generation);
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_retained_and_no_condition_but_stalled_is_true() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let before = json!({"totals": {"fetched": 7}, "conditions": [
            {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"},
            {"type": "WorkersReady", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"},
        ]});
        let after = status(&before, "missing field `kafka`", Some(3), now);
        assert_eq!(after["totals"]["fetched"], 7);
        assert_eq!(after["observedGeneration"], 3);
        assert!(
            after["conditions"]
                .as_array()
                .unwrap()
                .iter()
                .all(|c| c["status"] != "True" || c["type"] == "Stalled")
        );
        assert_eq!(
            status(&after, "missing field `kafka`", Some(3), Timestamp::now()),
            after,
            "nothing to write the second time"
        );
    }
}
