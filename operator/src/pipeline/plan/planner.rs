//! Computes a plan.

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::Value;
use userpipeline_api::{DeletionPolicy, SchemaStatus, UserPipeline, UserPipelineConnection, names, names::PipelineId};

use super::{
    diff::Change,
    dry_run_client,
    error::{PlanError, refused},
    schema_dry_run,
};
use crate::{
    identity::MANAGER,
    metrics::Metrics,
    pipeline::{
        apply::Override,
        cache::{Absence, CacheWriter, CachedConnection, Presence},
        caches::Writers,
        children::{ChildKind, VisitWriters},
        connections::ConnectionLookup,
        context::Context,
        decide::schema,
        model::{FINALIZER, Installation, connection_id, has_finalizer, labels},
        observe::{ForeignField, Observed, run_jobs, schema_jobs},
        reconcile::converge,
        validate::{ValidatedPipeline, validate},
    },
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they would be written; the pipeline itself first.
    pub changes: Vec<Change>,
    /// Why earlier versions of connections are used.
    pub connections: Option<String>,
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
        if let Some(problem) = &self.connections {
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

/// What would change in a connection if `document` were applied by `manager`.
pub async fn connection(client: &Client, document: &Value, manager: &str) -> Result<Option<Change>, PlanError> {
    let id = id_of(document, client);
    let (before, after) = apply::<UserPipelineConnection>(client, &id, document, manager).await?;
    Ok(Change::between("UserPipelineConnection", &id.name, before, Some(after)))
}

/// What would change if `document`, a `UserPipeline`, were applied by `manager` after the documents of `connections`. Nothing is
/// written; but with `schema`, a Job runs that prints what a schema Job would do.
pub async fn plan(
    client: &Client,
    installation: Installation,
    document: &Value,
    connections: &[Value],
    manager: &str,
    schema: bool,
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
    let mut writers = Writers::default();
    let caches = writers.caches();
    let applied = applied_connections(client, &id, connections, manager).await?;
    load_connections(client, &id, applied, &mut writers.connections).await?;
    fill(client, &id, writers).await?;

    let observed = Observed::cached(&pipeline, &caches.children, now);
    let named = ConnectionLookup::new(caches.connections.clone(), caches.children.config_maps.clone()).named_by(&pipeline);
    let valid = validate(&pipeline, &named.connections, &installation)?;
    let schema_job = due_schema_job(&pipeline, &valid, &observed, now);
    let schema = if schema {
        Some(schema_dry_run::run(client, &installation, &valid).await?)
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
        connections: applied.decisions.connections.problem.map(|(_, message)| message),
        overridden: applied.overridden,
    })
}

/// The pipeline as it is after the operator's first write to it. That write cannot be tried: the apiserver refuses one to a resource
/// that does not exist.
fn set_finalizer(pipeline: &mut UserPipeline) {
    if pipeline.spec.deletion_policy == DeletionPolicy::Delete && !has_finalizer(pipeline) {
        pipeline.finalizers_mut().push(FINALIZER.to_owned());
    }
}

fn id_of(document: &Value, client: &Client) -> PipelineId {
    let metadata = &document["metadata"];
    PipelineId {
        name: metadata["name"].as_str().unwrap_or_default().to_owned(),
        namespace: metadata["namespace"]
            .as_str()
            .unwrap_or_else(|| client.default_namespace())
            .to_owned(),
    }
}

/// The name of the schema Job that would run first.
fn due_schema_job(pipeline: &UserPipeline, valid: &ValidatedPipeline, observed: &Observed, now: Timestamp) -> Option<String> {
    let mut recorded = pipeline.status.clone().unwrap_or_default().schema.unwrap_or_default();
    if valid.compares_stores() {
        recorded = schema::until_stores_are_known(recorded, &valid.schema_hash);
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
    let recorded = status.schema.clone().unwrap_or_default();
    status.schema = Some(SchemaStatus {
        applied_hash: Some(valid.schema_hash),
        kafka_cluster: Some(recorded.kafka_cluster.unwrap_or_default()),
        ..recorded
    });
    pipeline
}

/// The resource as it is, and as the apiserver would store it.
async fn apply<K: Resource<DynamicType = ()>>(
    client: &Client,
    id: &PipelineId,
    document: &Value,
    manager: &str,
) -> Result<(Option<Value>, Value), PlanError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &id.namespace, &ApiResource::erase::<K>(&()));
    let what = format!("{} {id}", K::kind(&()));
    let before = api.get_opt(&id.name).await.map_err(refused(what.clone()))?;
    let params = PatchParams::apply(manager).force().dry_run();
    let after = api.patch(&id.name, &params, &Patch::Apply(document)).await.map_err(refused(what))?;
    let value = |object: DynamicObject| serde_json::to_value(object).unwrap_or_default();
    Ok((before.map(value), value(after)))
}

/// The connections of the pipeline's namespace in the file, as the apiserver would store them.
async fn applied_connections(client: &Client, id: &PipelineId, documents: &[Value], manager: &str) -> Result<Vec<Value>, PlanError> {
    let mut applied = Vec::new();
    for document in documents {
        let connection = id_of(document, client);
        if connection.namespace == id.namespace {
            applied.push(apply::<UserPipelineConnection>(client, &connection, document, manager).await?.1);
        }
    }
    Ok(applied)
}

/// The connections of the cluster, and those of the file in their place.
async fn load_connections(
    client: &Client,
    id: &PipelineId,
    applied: Vec<Value>,
    writer: &mut CacheWriter<UserPipelineConnection>,
) -> Result<(), PlanError> {
    let mut connections = list_connections(client, &id.namespace).await?;
    for document in applied {
        let connection: CachedConnection =
            serde_json::from_value(document).map_err(|e| PlanError::Unreadable(format!("a connection of the file: {e}")))?;
        connections.retain(|other| connection_id(other) != connection_id(&connection));
        connections.push(connection);
    }
    writer.fill(connections);
    Ok(())
}

/// Of all namespaces, because pipelines of others may use the same resource; only of this one where the user may not list more.
async fn list_connections(client: &Client, namespace: &str) -> Result<Vec<CachedConnection>, PlanError> {
    let all: Api<CachedConnection> = Api::all(client.clone());
    let listed = match all.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let own: Api<CachedConnection> = Api::namespaced(client.clone(), namespace);
            own.list(&ListParams::default()).await
        }
        listed => listed,
    };
    Ok(listed.map_err(refused("listing UserPipelineConnections"))?.items)
}

/// Fills the caches once, with lists instead of watches.
async fn fill(client: &Client, id: &PipelineId, writers: Writers) -> Result<(), PlanError> {
    let Writers {
        mut pipelines, children, ..
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
    Ok(())
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

    #[tokio::test]
    async fn connections_of_all_namespaces_are_listed_where_the_user_may() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for (code, expected) in [(200, "all"), (403, "own")] {
            let answer = move |uri: Uri| async move {
                let is_own = uri.path().contains("/namespaces/demo/");
                if !is_own && code != 200 {
                    return respond(code);
                }
                let items = json!([{"metadata": {"name": if is_own { "own" } else { "all" }}}]);
                Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})).into_response()
            };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
            let client = Client::try_from(kube::Config::new(address.parse().unwrap())).unwrap();
            let listed = list_connections(&client, "demo").await.unwrap();
            assert_eq!(listed[0].meta().name.as_deref(), Some(expected));
        }
    }
}
