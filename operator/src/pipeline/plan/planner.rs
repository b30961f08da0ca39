//! Computes a plan.

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use kube::{Client, ResourceExt, api::ListParams};
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
    error::{PlanError, refused},
    hosts::{host, not_allowed},
    schema_dry_run,
};
use crate::{
    identity::MANAGER,
    metrics::Metrics,
    pipeline::{
        apply::Override,
        cache::{Absence, CacheWriter, Presence},
        caches::Writers,
        children::{ChildKind, VisitWriters},
        connections::ConnectionLookup,
        context::Context,
        decide::schema,
        model::{ConnectionId, FINALIZER, Installation, connection_id, has_finalizer, labels},
        observe::{ForeignField, Observed, run_jobs, schema_jobs},
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

/// Whether a Job prints what a schema Job would do.
#[derive(Clone, Debug, Default)]
pub struct SchemaDryRun {
    pub is_requested: bool,
    /// Hosts that receive Secrets although no connection of the cluster has them.
    pub allowed_hosts: Vec<String>,
}

/// What would change if `document`, a `UserPipeline`, were applied by `manager`, with these connections. Nothing is written; but with
/// `schema`, a Job runs that prints what a schema Job would do.
pub async fn plan(
    client: &Client,
    installation: Installation,
    document: &Value,
    connections: &PlannedConnections,
    manager: &str,
    schema: &SchemaDryRun,
) -> Result<Plan, PlanError> {
    let now = Timestamp::now();
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
    let listeners = strimzi_listeners(&pipeline, connections);
    let mut writers = Writers::new(&listeners.iter().map(|kafka| cluster(kafka, &id)).collect::<Vec<_>>());
    let caches = writers.caches();
    writers.connections.fill(connections.all.clone());
    let needs_user = listeners.iter().any(has_user);
    fill(client, &id, needs_user, writers).await?;

    let observed = Observed::cached(&pipeline, &caches.children, now);
    let named = ConnectionLookup::new(caches.connections.clone(), caches.children.config_maps.clone()).named_by(&pipeline);
    let valid = validate(&pipeline, &named.connections, &installation)?;
    let schema_job = due_schema_job(&pipeline, &valid, &observed, now);
    let schema = if schema.is_requested {
        let resolved = resolve(&pipeline, &named.connections).map_err(ValidateError::from)?;
        verify_hosts(&resolved, &pipeline.spec.pods.tasks, connections, &schema.allowed_hosts)?;
        Some(schema_dry_run::run(client, &installation, &valid, created_objects(&pipeline)).await?)
    } else {
        None
    };
    let (dry_run_client, recorded_changes) = dry_run_client::client(client.clone());
    let context = Context::new(dry_run_client, caches, Metrics::new(), installation, "plan".to_owned())
        .map_err(|e| PlanError::Unreadable(format!("cannot create an HTTP client: {e}")))?;
    let context = Context {
        ignore_rollout_order: true,
        ..context
    };
    let pipeline = with_applied_schema(pipeline, valid);
    let runs = run_jobs(&names::cron_job(&id.name), &observed);
    let applied = Box::pin(converge(&pipeline, &observed, &runs, &context, now)).await?;
    let errors: Vec<String> = applied.errors().map(ToString::to_string).collect();
    if !errors.is_empty() {
        return Err(PlanError::Children(errors));
    }
    let own = Change::between("UserPipeline", &id.name, before, Some(after));
    Ok(Plan {
        changes: own.into_iter().chain(recorded_changes.changes()).collect(),
        schema_job,
        schema,
        foreign: observed.foreign_fields(),
        topics: applied.decisions.topics.plan_note(),
        kafka_user: applied.decisions.kafka_user.problem().map(|(_, message)| message.clone()),
        connections: applied.decisions.connections.problem.map(|(_, message)| message),
        overridden: applied.overridden,
    })
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
        ..recorded
    });
    pipeline
}

/// Fills the caches once, with lists instead of watches.
async fn fill(client: &Client, id: &PipelineId, needs_user: bool, writers: Writers) -> Result<(), PlanError> {
    let Writers {
        mut pipelines,
        children,
        strimzi_views,
        ..
    } = writers;
    // All namespaces, because a pipeline in another one may use the same resource; only this one where the user may not list more.
    match pipelines.load(client, None, &ListParams::default()).await {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if status.code == 403 => pipelines
            .load(client, Some(&id.namespace), &ListParams::default())
            .await
            .map_err(refused("listing UserPipelines"))?,
        Err(error) => return Err(refused("listing UserPipelines")(error)),
    }
    let mut lists = Lists {
        client: client.clone(),
        id: id.clone(),
        requests: Vec::new(),
    };
    children.each(&mut lists);
    for request in lists.requests {
        request.await?;
    }
    strimzi_views.load_topics(client).await.map_err(refused("listing KafkaTopics"))?;
    match strimzi_views.load_users(client).await {
        // Without a user of its own, a pipeline has at most an earlier one.
        Err(kube::Error::Api(status)) if status.code == 403 && !needs_user => Ok(()),
        loaded => loaded.map_err(refused("listing Kafka resources and KafkaUsers")),
    }
}

/// A list request for each kind of child.
struct Lists {
    client: Client,
    id: PipelineId,
    requests: Vec<BoxFuture<'static, Result<(), PlanError>>>,
}

impl VisitWriters for Lists {
    fn visit<K: ChildKind>(&mut self, mut writer: CacheWriter<K>) {
        let (client, PipelineId { namespace, name }) = (self.client.clone(), self.id.clone());
        let children = ListParams::default().labels(&format!("{}={MANAGER},{}={name}", labels::MANAGED_BY, labels::PIPELINE));
        let request = async move {
            let what = format!("listing {}s of {namespace}", K::KIND);
            let Err(error) = writer.load(&client, Some(&namespace), &children).await else {
                return Ok(());
            };
            // Not where the user lacks a right: the plan would silently lack changes.
            if K::PRESENCE == Presence::Optional && Absence::of::<K>(&error, &client).await == Some(Absence::NotServed) {
                writer.mark_absent();
                return Ok(());
            }
            Err(refused(what)(error))
        };
        self.requests.push(request.boxed());
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        http::{StatusCode, Uri},
        response::{IntoResponse, Json, Response},
    };
    use k8s_openapi::api::core::v1::{ConfigMap, Endpoints};
    use serde_json::json;

    use super::*;

    /// The result of listing `K`, and whether it is absent, where its lists and discovery are answered with these codes.
    async fn list<K: ChildKind>(code: u16, discovery: u16) -> (Result<(), String>, bool) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer = move |uri: Uri| async move { respond(if uri.path() == "/api/v1" { discovery } else { code }) };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let client = Client::try_from(kube::Config::new(address.parse().unwrap())).unwrap();
        let (writer, id) = (
            CacheWriter::<K>::default(),
            crate::pipeline::model::pipeline_id(&crate::pipeline::example()),
        );
        let cache = writer.cache();
        let mut lists = Lists {
            client,
            id,
            requests: Vec::new(),
        };
        lists.visit(writer);
        let listed = lists.requests.pop().unwrap().await.map_err(|error| error.to_string());
        (listed, cache.is_absent())
    }

    fn respond(code: u16) -> Response {
        let resources = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [{"name": "endpoints", "singularName": "", "namespaced": true, "kind": "Endpoints", "verbs": []}]});
        let refused = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "x", "message": "refused", "code": code});
        let body = if code == 200 { resources } else { refused };
        (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
    }

    #[test]
    fn a_plan_with_an_earlier_version_of_a_connection_says_so() {
        let plan = Plan {
            connections: Some("spec.connections names connections that do not exist: stores".into()),
            ..Plan::default()
        };
        assert_eq!(plan.to_string(), "! spec.connections names connections that do not exist: stores\n");
        assert!(plan.is_empty(), "nothing would change");
    }

    #[tokio::test]
    async fn a_plan_works_without_an_optional_kind_that_is_not_served() {
        assert_eq!(list::<Endpoints>(404, 404).await, (Ok(()), true));
        // A user without rights to the kind gets a 403 also where it does not exist.
        assert_eq!(list::<Endpoints>(403, 404).await, (Ok(()), true));
        let refused = |kind: &str| (Err(format!("listing {kind}s of demo: refused")), false);
        assert_eq!(list::<Endpoints>(403, 200).await, refused("Endpoints"));
        assert_eq!(list::<ConfigMap>(404, 200).await, refused("ConfigMap"));
    }
}
