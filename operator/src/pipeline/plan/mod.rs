//! What would change if a pipeline were applied: the reconcile itself, with a client that only rehearses.

mod diff;
mod rehearsal;
mod schema_job;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    runtime::{
        reflector::{Lookup, store::Writer},
        watcher::Event,
    },
};
use serde_json::Value;
use userpipeline_api::{SchemaStatus, UserPipeline, names, names::PipelineId};

pub use self::diff::Change;
use super::{Context, Installation, Writers, advance, build::labels, dereference, kept::Kept, runs, schema, validate};
use crate::{MANAGER, metrics::Metrics};

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The apiserver does not take the resource, or does not answer.
    #[error("{what}: {}", words(.source))]
    Refused {
        /// What was asked of it.
        what: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The operator would not take the resource.
    #[error("{0}")]
    Invalid(#[from] validate::ValidateError),
    /// It is on its way out.
    #[error("UserPipeline {0} is being deleted")]
    BeingDeleted(PipelineId),
    /// The apiserver would not take some of the children.
    #[error("{}", .0.join("; "))]
    Children(Vec<String>),
    /// The file holds something else.
    #[error("{0}")]
    Unreadable(String),
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

fn refused(what: impl Into<String>) -> impl FnOnce(kube::Error) -> PlanError {
    let what = what.into();
    move |source| PlanError::Refused {
        what,
        source: Box::new(source),
    }
}

/// What would change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Objects, in the order in which they would be written; the pipeline itself first.
    pub changes: Vec<Change>,
    /// The schema Job that would run before all else, if one is due.
    pub schema_job: Option<String>,
    /// What it says that it would do, where it was asked.
    pub schema: Option<String>,
}

impl Plan {
    /// Whether anything would change.
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.schema_job.is_none()
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(job) = &self.schema_job {
            writeln!(
                f,
                "! Job {job} would run first: topic, subject or tables are not known to be as this pipeline wants them. The rest follows its success"
            )?;
        }
        for line in self.schema.iter().flat_map(|said| said.lines()) {
            writeln!(f, "! {line}")?;
        }
        for change in &self.changes {
            write!(f, "{change}")?;
        }
        Ok(())
    }
}

/// The pipelines that a file holds.
pub fn pipelines(text: &str) -> Result<Vec<Value>, PlanError> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let document =
            <Value as serde::Deserialize>::deserialize(document).map_err(|e| PlanError::Unreadable(format!("the file is no YAML: {e}")))?;
        if document["kind"] == "UserPipeline" {
            found.push(document);
        }
    }
    if found.is_empty() {
        return Err(PlanError::Unreadable("the file holds no UserPipeline".to_owned()));
    }
    Ok(found)
}

/// Tells what would change if `document`, a `UserPipeline`, were applied by `manager`. Nothing is written; but with `schema` a Job
/// is run that tells what a schema Job would do.
pub async fn plan(client: &Client, installation: Installation, document: &Value, manager: &str, schema: bool) -> Result<Plan, PlanError> {
    let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let namespace = document["metadata"]["namespace"]
        .as_str()
        .unwrap_or_else(|| client.default_namespace())
        .to_owned();
    let id = PipelineId { namespace, name };
    let (before, after) = apply(client, &id, document, manager).await?;
    let pipeline: UserPipeline = serde_json::from_value(after.clone())
        .map_err(|e| PlanError::Unreadable(format!("UserPipeline {id} does not read as this version of the resource: {e}")))?;
    if pipeline.metadata.deletion_timestamp.is_some() {
        return Err(PlanError::BeingDeleted(id));
    }
    let writers = Writers::default();
    let caches = writers.caches();
    fill(client, &id, writers).await?;

    let observed = dereference::children(&id, &caches);
    let seen = runs::seen(&names::cron_job(&id.name), &observed);
    let valid = validate::validate(&pipeline, &installation.images)?;
    let recorded = pipeline.status.clone().unwrap_or_default().schema.unwrap_or_default();
    let decision = schema::decide(
        &valid.schema_hash,
        &valid.parent.task(),
        &recorded,
        &observed.schema_jobs(),
        Timestamp::now(),
    );
    let schema_job = (!decision.is_applied()).then(|| {
        let attempt = decision.create.unwrap_or_default();
        names::child(&id.name, &format!("schema-{}-{attempt}", valid.schema_hash), names::LABEL_LIMIT)
    });
    let said = if schema {
        Some(schema_job::say(client, &installation, &pipeline, &valid).await?)
    } else {
        None
    };
    // What would follow once that has succeeded.
    let mut applied = pipeline.clone();
    applied.status.get_or_insert_default().schema = Some(SchemaStatus {
        applied_hash: Some(valid.schema_hash),
        ..recorded
    });
    let (rehearsing, rehearsed) = rehearsal::client(client.clone());
    let context = Context::new(rehearsing, caches, Metrics::new(), installation, "plan".to_owned())
        .map_err(|e| PlanError::Unreadable(format!("no HTTP client: {e}")))?;
    let context = Context { at_once: true, ..context };
    let outcome = Box::pin(advance(&applied, &observed, &seen, &context)).await?;
    let problems: Vec<String> = outcome.errors().map(ToString::to_string).collect();
    if !problems.is_empty() {
        return Err(PlanError::Children(problems));
    }
    let own = Change::between("UserPipeline", &id.name, before, Some(after));
    Ok(Plan {
        changes: own.into_iter().chain(rehearsed.changes()).collect(),
        schema_job,
        schema: said,
    })
}

/// The pipeline as it is, and as the apiserver would keep it.
async fn apply(client: &Client, id: &PipelineId, document: &Value, manager: &str) -> Result<(Option<Value>, Value), PlanError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &id.namespace, &ApiResource::erase::<UserPipeline>(&()));
    let what = format!("UserPipeline {id}");
    let before = api.get_opt(&id.name).await.map_err(refused(what.clone()))?;
    let params = PatchParams::apply(manager).force().dry_run();
    let after = api.patch(&id.name, &params, &Patch::Apply(document)).await.map_err(refused(what))?;
    let value = |object: DynamicObject| serde_json::to_value(object).unwrap_or_default();
    Ok((before.map(value), value(after)))
}

/// Fills the caches once, as the watches would.
async fn fill(client: &Client, id: &PipelineId, writers: Writers) -> Result<(), PlanError> {
    // All of them, for one elsewhere may have what this one wants; its own namespace's where more may not be seen.
    let everywhere = Api::<Kept<UserPipeline>>::all(client.clone()).list(&ListParams::default()).await;
    let pipelines = match everywhere {
        Ok(list) => list.items,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let api = Api::<Kept<UserPipeline>>::namespaced(client.clone(), &id.namespace);
            api.list(&ListParams::default())
                .await
                .map_err(refused("listing UserPipelines"))?
                .items
        }
        Err(error) => return Err(refused("listing UserPipelines")(error)),
    };
    write(pipelines, writers.pipelines);
    children(client, id, writers.config_maps).await?;
    children(client, id, writers.accounts).await?;
    children(client, id, writers.jobs).await?;
    children(client, id, writers.cron_jobs).await?;
    children(client, id, writers.deployments).await?;
    children(client, id, writers.budgets).await?;
    children(client, id, writers.pods).await
}

async fn children<K>(client: &Client, id: &PipelineId, writer: Writer<Kept<K>>) -> Result<(), PlanError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + 'static,
{
    let ours = ListParams::default().labels(&format!("{}={MANAGER},{}={}", labels::MANAGED_BY, labels::PIPELINE, id.name));
    let api: Api<Kept<K>> = Api::namespaced(client.clone(), &id.namespace);
    let what = format!("listing {}s of {}", K::kind(&()), id.namespace);
    write(api.list(&ours).await.map_err(refused(what))?.items, writer);
    Ok(())
}

fn write<K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + 'static>(objects: Vec<K>, mut writer: Writer<K>) {
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
}
