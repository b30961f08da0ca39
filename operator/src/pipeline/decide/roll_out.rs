//! The order of a rollout: schema, workers, runs. A worker that does not know a new field yet would store records without it, and
//! nothing would store them again; so runs publish the field only when every worker knows it. Pure.

use kube::ResourceExt;
use serde_json::Value;

use crate::pipeline::{
    model::{Gate, PodConfigRef},
    observe::{Observed, current_pod_configs, is_rolled_out},
    validate::ValidatedPipeline,
};

/// Which pod configs runs and workers may use now.
pub fn gate(pipeline: &ValidatedPipeline, observed: &Observed, schema_is_applied: bool) -> Gate {
    let (ingest, worker) = current_pod_configs(observed, &pipeline.owner.id);
    if !schema_is_applied {
        return Gate::Held { ingest, worker };
    }
    match ingest {
        Some(ingest)
            if !workers_know_the_record(pipeline, observed, worker.as_ref()) && changes_the_record(pipeline, observed, &ingest) =>
        {
            Gate::WorkersFirst { ingest }
        }
        _ => Gate::Open,
    }
}

/// Whether every worker has the current config; so it is where there is no Deployment.
fn workers_know_the_record(pipeline: &ValidatedPipeline, observed: &Observed, worker: Option<&PodConfigRef>) -> bool {
    let is_current = |config: &PodConfigRef| config.config_map == pipeline.worker.config_map;
    observed.worker_deployment(&pipeline.owner.id).is_none_or(|deployment| {
        let mut pods = observed.workers().filter_map(|pod| PodConfigRef::of_pod(pod.spec.as_ref()?));
        worker.is_some_and(is_current) && is_rolled_out(deployment) && pods.all(|config| is_current(&config))
    })
}

/// Whether the runs' current ConfigMap has another record than the new one.
fn changes_the_record(pipeline: &ValidatedPipeline, observed: &Observed, current: &PodConfigRef) -> bool {
    let desired = pipeline.ingest.as_ref().map_or("", |ingest| &ingest.config.text);
    let config_maps = &observed.children.config_maps;
    let current = config_maps.iter().find(|config_map| config_map.name_any() == current.config_map);
    let text = current.and_then(|config_map| config_map.data.as_ref()?.values().next());
    text.and_then(|text| record(text))
        .is_none_or(|current| Some(current) != record(desired))
}

fn record(config: &str) -> Option<Value> {
    let config: Value = serde_yaml::from_str(config).ok()?;
    Some(config.get("spec")?.get("record").cloned().unwrap_or_default())
}
