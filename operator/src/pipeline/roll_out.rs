//! A changed record reaches the workers before the runs: a worker that does not know a field yet would store records without it,
//! and nobody would store them again.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use serde_json::Value;
use userpipeline_api::names;

use super::{
    build::{Gate, Given},
    dereference::Observed,
    validate::ValidatedPipeline,
};

/// What the pods may have once the schema that is wanted has been applied.
pub fn gate(pipeline: &ValidatedPipeline, observed: &Observed) -> Gate {
    let id = &pipeline.parent.id;
    let deployment = names::workers(&id.name);
    let Gate::Held {
        ingest: Some(ingest),
        worker,
    } = observed.held(&names::cron_job(&id.name), &deployment)
    else {
        return Gate::Open;
    };
    let wanted = &pipeline.worker.config_map;
    let rolled_out = observed
        .deployments
        .iter()
        .find(|d| d.name_any() == deployment)
        .is_none_or(|deployment| {
            let has = |given: &Given| given.config_map == *wanted;
            let mut pods = observed.workers().filter_map(|pod| Given::read(pod.spec.as_ref()?));
            worker.as_ref().is_some_and(has) && caught_up(deployment) && pods.all(|given| has(&given))
        });
    let wanted = pipeline.ingest.as_ref().map_or("", |ingest| &ingest.document.text);
    if rolled_out || same_record(observed, &ingest, wanted) {
        Gate::Open
    } else {
        Gate::WorkersFirst { ingest }
    }
}

/// Whether all replicas that there are were made from the template as it is.
fn caught_up(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation >= deployment.metadata.generation && status.updated_replicas.unwrap_or(0) == status.replicas.unwrap_or(0)
}

/// Whether the runs know the record already: the file that they have says the same of it as the new one.
fn same_record(observed: &Observed, given: &Given, wanted: &str) -> bool {
    let file = observed.config_maps.iter().find(|file| file.name_any() == given.config_map);
    let text = file.and_then(|file| file.data.as_ref()?.values().next());
    text.and_then(|text| record(text)).is_some_and(|has| Some(has) == record(wanted))
}

fn record(document: &str) -> Option<Value> {
    let document: Value = serde_yaml::from_str(document).ok()?;
    Some(document.get("spec")?.get("record").cloned().unwrap_or_default())
}
