//! Computes a plan.

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use serde_json::Value;
use userpipeline_api::{
    DeletionPolicy, KafkaAuth, PodSettings, ResolvedPipeline, SchemaStatus, StoreObject, StrimziListener, UserPipeline, names,
    names::PipelineId, resolve,
};

use super::{
    connections::PlannedConnections,
    diff::Change,
    dry_run_apply::{apply, id_of},
    dry_run_client,
    error::PlanError,
    fill_caches::fill,
    hosts::{host, not_allowed},
    schema_dry_run,
};
use crate::{
    metrics::Metrics,
    pipeline::{
        apply::{ApplyError, Override},
        caches::{Caches, Writers},
        connections::{ConnectionLookup, NamedConnections},
        context::Context,
        decide::schema,
        model::{ConnectionId, FINALIZER, Installation, connection_id, has_finalizer, labels::Component},
        observe::{ForeignField, Observed, is_of_component, run_jobs, schema_jobs},
        reconcile::converge,
        validate::{ValidateError, ValidatedPipeline, validate},
    },
    strimzi::{ClusterId, ListedCluster},
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they would be written; the pipeline itself first.
    pub changes: Vec<Change>,
    /// Why earlier versions of connections are used.
    pub connections: Option<String>,
    /// What keeps KafkaTopics from being as planned, or what a plan cannot know of them.
    pub topics: Option<String>,
    /// What keeps the KafkaUser from being as planned.
    pub kafka_user: Option<String>,
    /// The name of the schema Job that would run first, if one is due.
    pub schema_job: Option<String>,
    /// The printed plan of the schema Job, where one was requested.
    pub schema: Option<String>,
    /// Fields that others set in the templates of pods. They stay, and count as a change: pods are not as the operator makes them.
    pub foreign: Vec<ForeignField>,
    /// Children that a mutating webhook changes, which no plan can end.
    pub overridden: Vec<Override>,
}

impl Plan {
    /// Nothing would change, and pods are as the operator makes them.
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.schema_job.is_none() && self.foreign.is_empty()
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for problem in self.connections.iter().chain(&self.topics).chain(&self.kafka_user) {
            writeln!(f, "! {problem}")?;
        }
        if let Some(job) = &self.schema_job {
            writeln!(
                f,
                "! Job {job} would run first, because topic, subject or tables may not match the spec. The changes below follow after its success"
            )?;
        }
        for line in self.schema.iter().flat_map(|plan| plan.lines()) {
            writeln!(f, "! {line}")?;
        }
        for field in &self.foreign {
            writeln!(f, "! {field} was set by another manager; the operator does not remove it")?;
        }
        for child in &self.overridden {
            writeln!(f, "! {child} would be changed by a mutating webhook")?;
        }
        for change in &self.changes {
            write!(f, "{change}")?;
        }
        Ok(())
    }
}

/// An object rarely changes between its observation and its planned deletion, and hardly ever this often in a row.
const ATTEMPTS: usize = 5;

/// Whether a Job prints what a schema Job would do.
#[derive(Clone, Debug, Default)]
pub struct SchemaDryRun {
    pub is_requested: bool,
    /// Hosts that receive Secrets although no connection of the cluster has them.
    pub allowed_hosts: Vec<String>,
}

/// What is planned: a `UserPipeline` as it would be if its document were applied, with these connections.
struct Planner<'a> {
    client: &'a Client,
    installation: &'a Installation,
    connections: &'a PlannedConnections,
    pipeline: UserPipeline,
}

/// What would change if `document`, a `UserPipeline`, were applied by `manager`, with these connections. Nothing is written; but with
/// `schema`, a Job runs that prints what a schema Job would do.
pub async fn plan(
    client: &Client,
    installation: &Installation,
    document: &Value,
    connections: &PlannedConnections,
    manager: &str,
    schema: &SchemaDryRun,
) -> Result<Plan, PlanError> {
    let id = id_of(document, client);
    let (before, after) = apply::<UserPipeline>(client, &id, document, manager).await?;
    let mut pipeline: UserPipeline = serde_json::from_value(after.clone())
        .map_err(|e| PlanError::Unreadable(format!("UserPipeline {id} does not match this version of the resource: {e}")))?;
    if pipeline.metadata.deletion_timestamp.is_some() {
        return Err(PlanError::BeingDeleted(id));
    }
    if before.is_none() {
        set_finalizer(&mut pipeline);
    }
    let planner = Planner {
        client,
        installation,
        connections,
        pipeline,
    };
    let printed = if schema.is_requested {
        Some(Box::pin(planner.run_schema_dry_run(schema)).await?)
    } else {
        None
    };
    let mut plan = Box::pin(planner.plan_children()).await?;
    plan.schema = printed;
    plan.changes
        .splice(0..0, Change::between("UserPipeline", &id.name, before, Some(after)));
    Ok(plan)
}

impl Planner<'_> {
    /// Caches as they would be once the connections were applied, too.
    async fn filled_caches(&self) -> Result<Caches, PlanError> {
        let id = PipelineId::of(&self.pipeline);
        let listeners = strimzi_listeners(&self.pipeline, self.connections);
        let mut writers = Writers::new(&listeners.iter().map(|kafka| cluster(kafka, &id)).collect::<Vec<_>>());
        let caches = writers.caches();
        writers.connections.fill(self.connections.all.clone());
        fill(self.client, &id, listeners.iter().any(has_user), writers).await?;
        Ok(caches)
    }

    fn connections(&self, caches: &Caches) -> NamedConnections {
        ConnectionLookup::new(caches.connections.clone(), caches.children.config_maps.clone()).named_by(&self.pipeline)
    }

    async fn run_schema_dry_run(&self, schema: &SchemaDryRun) -> Result<String, PlanError> {
        let pipeline = &self.pipeline;
        let named = self.connections(&self.filled_caches().await?);
        let valid = validate(pipeline, &named.connections, self.installation)?;
        let resolved = resolve(pipeline, &named.connections).map_err(ValidateError::from)?;
        verify_hosts(&resolved, &pipeline.spec.pods.tasks, self.connections, &schema.allowed_hosts)?;
        schema_dry_run::run(self.client, self.installation, &valid, created_objects(pipeline)).await
    }

    /// Where the cluster changes while its children are planned, as it does while an earlier change is applied, they are planned again.
    async fn plan_children(&self) -> Result<Plan, PlanError> {
        for _ in 1..ATTEMPTS {
            match Box::pin(self.plan_observed_children()).await {
                Err(PlanError::Changed(_)) => {}
                planned => return planned,
            }
        }
        Box::pin(self.plan_observed_children()).await
    }

    async fn plan_observed_children(&self) -> Result<Plan, PlanError> {
        let now = Timestamp::now();
        let caches = self.filled_caches().await?;
        let mut observed = Observed::cached(&self.pipeline, &caches.children, now);
        let valid = validate(&self.pipeline, &self.connections(&caches).connections, self.installation)?;
        let schema_job = due_schema_job(&self.pipeline, &valid, &observed, now);
        // Its success is assumed below, and so is the end of earlier ones.
        observed
            .children
            .jobs
            .retain(|job| !is_of_component(job.as_ref(), Component::Schema));
        let (dry_run_client, recorded_changes) = dry_run_client::client(self.client.clone());
        let context = Context::new(dry_run_client, caches, Metrics::new(), self.installation.clone(), "plan".to_owned())
            .map_err(|e| PlanError::Unreadable(format!("cannot create an HTTP client: {e}")))?;
        let context = Context {
            ignore_rollout_order: true,
            ..context
        };
        let pipeline = with_applied_schema(self.pipeline.clone(), valid);
        let runs = run_jobs(&names::cron_job(&pipeline.name_any()), &observed);
        let applied = Box::pin(converge(&pipeline, &observed, &runs, &context, now)).await?;
        let texts = || applied.errors().map(ToString::to_string).collect::<Vec<_>>();
        if applied.errors().any(|error| matches!(error, ApplyError::Changed { .. })) {
            return Err(PlanError::Changed(texts()));
        }
        if applied.errors().next().is_some() {
            return Err(PlanError::Children(texts()));
        }
        Ok(Plan {
            changes: recorded_changes.changes(),
            schema_job,
            schema: None,
            foreign: observed.foreign_fields(),
            topics: applied.decisions.topics.plan_note(),
            kafka_user: applied.decisions.kafka_user.problem().map(|(_, message)| message.clone()),
            connections: applied.decisions.connections.problem.map(|(_, message)| message),
            overridden: applied.overridden,
        })
    }
}

/// The Kafka blocks of the pipeline's connections that refer to a cluster of Strimzi.
fn strimzi_listeners(pipeline: &UserPipeline, connections: &PlannedConnections) -> Vec<(StrimziListener, Option<KafkaAuth>)> {
    let id = PipelineId::of(pipeline);
    let is_named = |connection: &ConnectionId| {
        let mut named = pipeline.spec.connections.iter();
        connection.namespace == id.namespace && named.any(|named| named.name == connection.name)
    };
    let named = connections.all.iter().filter(|connection| is_named(&connection_id(*connection)));
    let blocks = named.filter_map(|connection| connection.read().ok()?.spec.kafka);
    blocks.filter_map(|kafka| Some((kafka.strimzi?, kafka.auth))).collect()
}

/// Whether the operator may use it, the user cannot know. A connection with `auth.strimziUser` is usable only where the User Operator watches
/// the namespace of its pipelines.
fn cluster((listener, _): &(StrimziListener, Option<KafkaAuth>), id: &PipelineId) -> ListedCluster {
    ListedCluster {
        id: ClusterId::of(listener),
        user_namespace: id.namespace.clone(),
    }
}

fn has_user((_, auth): &(StrimziListener, Option<KafkaAuth>)) -> bool {
    auth.as_ref().is_some_and(|auth| auth.strimzi_user.is_some())
}

/// The Job sends Secrets of the namespace to the hosts that the file names. Only those of connections are known to be right.
fn verify_hosts(
    pipeline: &ResolvedPipeline,
    pods: &PodSettings,
    connections: &PlannedConnections,
    allowed: &[String],
) -> Result<(), PlanError> {
    let namespace = &pipeline.id.namespace;
    let mut hosts = connections.hosts.get(namespace).cloned().unwrap_or_default();
    hosts.extend(allowed.iter().map(|allowed| host(allowed)));
    let unknown = not_allowed(pipeline, pods, &hosts);
    if unknown.is_empty() {
        return Ok(());
    }
    let fields: Vec<String> = unknown.iter().map(|(host, field)| format!("{host} ({field})")).collect();
    let options: Vec<String> = unknown.iter().map(|(host, _)| format!("--allow-host {host}")).collect();
    Err(PlanError::Children(vec![format!(
        "--schema would send Secrets of namespace {namespace} to {}, which no UserPipelineConnection there names: leave --schema out, or check the hosts and add {}",
        fields.join(", "),
        options.join(" ")
    )]))
}

/// The record of what the pipeline created. None in a pipeline that is older than it.
fn created_objects(pipeline: &UserPipeline) -> Option<&[StoreObject]> {
    let status = pipeline.status.as_ref();
    let recorded = status.and_then(|status| status.created_objects.as_deref());
    let is_older = status.is_some_and(|status| status.schema.is_some());
    recorded.or((!is_older).then_some(&[][..]))
}

/// The pipeline as it is after the operator's first write to it. That write cannot be tried: the apiserver refuses one to a resource
/// that does not exist.
fn set_finalizer(pipeline: &mut UserPipeline) {
    if pipeline.spec.deletion_policy == DeletionPolicy::Delete && !has_finalizer(pipeline) {
        pipeline.finalizers_mut().push(FINALIZER.to_owned());
    }
}

/// The name of the schema Job that would run first.
fn due_schema_job(pipeline: &UserPipeline, valid: &ValidatedPipeline, observed: &Observed, now: Timestamp) -> Option<String> {
    let mut recorded = pipeline.status.clone().unwrap_or_default().schema.unwrap_or_default();
    if valid.compares_stores() {
        recorded = schema::until_stores_are_known(recorded, &valid.schema_hash);
    }
    let is_recorded = pipeline
        .status
        .as_ref()
        .is_none_or(|status| status.schema.is_none() || status.created_objects.is_some());
    if !is_recorded && !valid.is_pinned() {
        recorded = schema::once_more(recorded, &valid.schema_hash);
    }
    let decision = schema::decide(&valid.schema_hash, &valid.owner.task_hash(), &recorded, &schema_jobs(observed), now);
    (!decision.is_applied()).then(|| {
        let attempt = decision.create.unwrap_or_default();
        names::child(
            &valid.owner.id.name,
            &format!("schema-{}-{attempt}", valid.schema_hash),
            names::LABEL_LIMIT,
        )
    })
}

/// The pipeline as it is after the schema Job succeeded.
fn with_applied_schema(mut pipeline: UserPipeline, valid: ValidatedPipeline) -> UserPipeline {
    let status = pipeline.status.get_or_insert_default();
    // Or a new pipeline would pass for an older one.
    status.default_tls_mode = Some(valid.default_tls.mode);
    status.created_objects.get_or_insert_default();
    let recorded = status.schema.clone().unwrap_or_default();
    status.schema = Some(SchemaStatus {
        applied_hash: Some(valid.schema_hash),
        kafka_cluster: Some(recorded.kafka_cluster.unwrap_or_default()),
        attempted_hash: None,
        ..recorded
    });
    pipeline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_with_an_earlier_version_of_a_connection_says_so() {
        let plan = Plan {
            connections: Some("spec.connections names connections that do not exist: stores".into()),
            ..Plan::default()
        };
        assert_eq!(plan.to_string(), "! spec.connections names connections that do not exist: stores\n");
        assert!(plan.is_empty(), "nothing would change");
    }
}
