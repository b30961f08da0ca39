//! Validates what the CRD's schema cannot. No client.

mod aggregates;
mod bounds;
mod connections;
mod error;
mod kafka_user;
mod placeholders;
mod pod_settings;
mod source;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};
use userpipeline_api::{
    Connections, DeletionPolicy, KafkaSpec, ResolvedPipeline, Schedule, StoreObject, Ticks, UserPipeline, UserPipelineSpec, bytes,
    document::{self, Binary},
    names, resolve, zone,
};
use userpipeline_record::{RecordSchema, bookkeeping};

use self::{
    aggregates::aggregate_problems,
    connections::{own_addresses, replication_problem},
    kafka_user::requested_user,
    placeholders::{misplaced_placeholders, placeholder_problems},
    pod_settings::pod_settings_problems,
    source::{cron_problem, response_problems},
};
pub use self::{connections::connection_problems, error::ValidateError, pod_settings::read_pod_settings};
use super::model::{DefaultTls, Installation, Owner, PodConfig, PodMetadata, RequestedUser, StoredConnection, StrimziTopics, quantity};

/// The runs of a pipeline.
#[derive(Clone, Debug)]
pub struct Ingest {
    pub schedule: Schedule,
    pub ticks: Ticks,
    pub config: PodConfig,
}

#[derive(Clone, Debug)]
pub struct ValidatedPipeline {
    pub owner: Owner,
    /// As written, with the proxy of the connection that has the source.
    pub spec: UserPipelineSpec,
    /// `None` where external producers write to the topic (`spec.source.topic`).
    pub ingest: Option<Ingest>,
    pub worker: PodConfig,
    pub schema: PodConfig,
    /// The config of a later deletion Job, where connections may have changed by then.
    pub deletion: Option<PodConfig>,
    /// The hash of the schema that a schema Job must have applied.
    pub schema_hash: String,
    pub default_tls: DefaultTls,
    /// The topics, where Strimzi manages them.
    pub topics: Option<StrimziTopics>,
    /// The user in Kafka that the operator creates for it.
    pub kafka_user: Option<RequestedUser>,
    /// The connections that it uses, to be stored.
    pub connections: Vec<StoredConnection>,
    /// Ids of Kafka clusters and PostgreSQL servers that are accepted although they are others than before.
    pub accepted_stores: Vec<String>,
    pub operator_version: String,
}

impl ValidatedPipeline {
    /// Whether schema Jobs compare the stores with those of the last one: connections may change them without an edit. A pinned version
    /// may not know the arguments for it.
    pub fn compares_stores(&self) -> bool {
        !self.is_pinned() && !self.spec.connections.is_empty()
    }

    /// Whether the pods may be of another version than the operator.
    pub fn is_pinned(&self) -> bool {
        let pinned = self.spec.image.as_ref().and_then(|image| image.version.as_ref());
        pinned.is_some_and(|version| *version != self.operator_version)
    }

    /// Whether schema Jobs receive the record of what the pipeline created. Also those of a pinned version, which fails if it does not
    /// know the argument: a pin must not let claims decide, which an author can forge. Not in a pipeline that was pinned before the
    /// record existed.
    pub fn passes_record(&self, recorded: Option<&[StoreObject]>) -> bool {
        recorded.is_some() || !self.is_pinned()
    }

    /// Whether the replicas of the topic are the default of a connection, which is for new topics only.
    pub fn has_default_replicas(&self) -> bool {
        has_default_replicas(&self.spec)
    }
}

fn has_default_replicas(spec: &UserPipelineSpec) -> bool {
    let is_own = |kafka: &KafkaSpec| kafka.bootstrap_servers.is_some() || kafka.topic.replicas.is_some();
    !spec.connections.is_empty() && !spec.kafka.as_ref().is_some_and(is_own)
}

/// Validates a pipeline. Its images must be among those that the operator allows. `connections` are those that it names and that
/// exist.
pub fn validate(
    pipeline: &UserPipeline,
    connections: &Connections,
    installation: &Installation,
) -> Result<ValidatedPipeline, ValidateError> {
    let beyond = bounds::problems(&pipeline.spec);
    if !beyond.is_empty() {
        return Err(ValidateError::InvalidSpec(beyond));
    }
    let resolved = resolve(pipeline, connections)?;
    let mut problems = spec_problems(&pipeline.spec, &resolved, &installation.pod_metadata);
    let mut check = |field: &str, result: Result<(), String>| problems.extend(result.err().map(|problem| format!("{field}: {problem}")));

    let images = &installation.images;
    let chosen = images.chosen(pipeline.spec.image.as_ref());
    check("spec.image.registry", chosen.as_ref().map(drop).map_err(Clone::clone));
    let owner = Owner::of(pipeline, chosen.unwrap_or_else(|_| images.clone()));
    if owner.is_none() {
        check("metadata", Err("name and uid are missing".to_owned()));
    }
    if installation.requires_connections {
        problems.extend(own_addresses(&pipeline.spec));
    }
    let (Some(owner), true) = (owner, problems.is_empty()) else {
        return Err(ValidateError::InvalidSpec(problems));
    };
    Ok(validated(pipeline, owner, &resolved, images.tag.clone()))
}

fn validated(pipeline: &UserPipeline, owner: Owner, resolved: &ResolvedPipeline, operator_version: String) -> ValidatedPipeline {
    let mut spec = pipeline.spec.clone();
    spec.pods.ingest.proxy.clone_from(&resolved.ingest_proxy);
    let keeps_deletion = spec.deletion_policy == DeletionPolicy::Delete && !spec.connections.is_empty();
    let schema_hash = hash_of_schema(&spec, resolved);
    let default_tls = DefaultTls::of(pipeline.status.as_ref(), &resolved.spec, &schema_hash);
    let config = |binary, infix| PodConfig::of(resolved, default_tls.mode, binary, infix);
    ValidatedPipeline {
        owner,
        ingest: ingest(&spec, config(Binary::Ingest, "ingest")),
        worker: config(Binary::Worker, "worker"),
        schema_hash,
        schema: config(Binary::Schema, "schema"),
        kafka_user: requested_user(resolved, spec.deletion_policy),
        accepted_stores: Vec::new(),
        connections: Vec::new(),
        topics: StrimziTopics::of(resolved, has_default_replicas(&spec)),
        deletion: keeps_deletion.then(|| config(Binary::Schema, "deletion")),
        default_tls,
        operator_version,
        spec,
    }
}

/// The hash of the schema that a Job must have applied. It does not contain the default of TLS, so that no schema Job runs because of
/// an upgrade.
fn hash_of_schema(spec: &UserPipelineSpec, resolved: &ResolvedPipeline) -> String {
    names::hash(&format!(
        "{}\n{}\n{}\n{}\n{}",
        document::reduce(resolved, Binary::Schema),
        resolved.spec.kafka.topic.message_limit(),
        // A declared record is part of the text; the built-in one is not.
        RecordSchema::user().fingerprint(),
        bookkeeping::fingerprint(),
        // A pinned version may apply another schema for the same spec.
        spec.image.iter().filter_map(|image| image.version.as_deref()).collect::<String>(),
    ))
}

/// What `status.schema.appliedHash` is once the schema of a pipeline without connections is applied: eight hexadecimal digits. `None`
/// for a pipeline that cannot be resolved.
pub fn schema_hash(pipeline: &UserPipeline) -> Option<String> {
    let resolved = resolve(pipeline, &Connections::new()).ok()?;
    Some(hash_of_schema(&pipeline.spec, &resolved))
}

/// What holds where a resolved pipeline omits `tls`.
pub fn default_tls(pipeline: &UserPipeline, resolved: &ResolvedPipeline) -> DefaultTls {
    DefaultTls::of(pipeline.status.as_ref(), &resolved.spec, &hash_of_schema(&pipeline.spec, resolved))
}

/// The runs of a valid spec.
fn ingest(spec: &UserPipelineSpec, config: PodConfig) -> Option<Ingest> {
    let schedule = spec.schedule.as_ref().filter(|_| spec.source.http.is_some())?;
    Some(Ingest {
        schedule: schedule.clone(),
        ticks: Ticks::read(&schedule.cron, &schedule.time_zone).ok()?,
        config,
    })
}

fn spec_problems(written: &UserPipelineSpec, resolved: &ResolvedPipeline, pod_metadata: &PodMetadata) -> Vec<String> {
    let spec = &resolved.spec;
    let mut problems = Vec::new();
    let mut check = |field: &str, result: Result<(), String>| problems.extend(result.err().map(|problem| format!("{field}: {problem}")));

    if let (Some(schedule), Some(http)) = (&spec.schedule, &spec.source.http) {
        check("spec.schedule.cron", cron_problem(&schedule.cron));
        check("spec.schedule.timeZone", zone(&schedule.time_zone).map(drop));
        let is_below = written.source.http.as_ref().is_some_and(|http| http.path.is_some());
        for (field, problem) in placeholder_problems(http, is_below, schedule, written.run_now.as_ref()) {
            check(&field, Err(problem));
        }
        check("spec.source.http.maxBodySize", bytes(&http.max_body_size).map(drop));
        for (field, problem) in response_problems(http) {
            check(&field, Err(problem));
        }
    }
    for (field, problem) in misplaced_placeholders(written) {
        check(&field, Err(problem));
    }
    match RecordSchema::of(spec.record.as_ref()) {
        Ok(schema) => aggregate_problems(spec, &schema)
            .into_iter()
            .for_each(|problem| check(&problem.field, Err(problem.problem))),
        Err(problems) => problems.into_iter().for_each(|problem| check(&problem.field, Err(problem.problem))),
    }
    if let Some(sink) = &spec.sinks.cassandra {
        check("spec.sinks.cassandra.replication", replication_problem(&sink.replication));
    }
    if let Some(sink) = &spec.sinks.postgres {
        check(
            "spec.sinks.postgres.table",
            differs(sink.table.as_ref(), spec.landing.table.as_ref(), "spec.landing.table"),
        );
    }
    check(
        "spec.deadLetter.topic",
        differs(
            spec.dead_letter.topic.as_ref(),
            spec.kafka.topic.name.as_ref(),
            "spec.kafka.topic.name",
        ),
    );
    for (program, settings) in [
        ("ingest", &written.pods.ingest),
        ("workers", &written.pods.workers),
        ("tasks", &written.pods.tasks),
    ] {
        let resources = settings.resources.iter().flat_map(resource_problems);
        for (field, problem) in resources.chain(pod_settings_problems(settings, pod_metadata)) {
            check(&format!("spec.pods.{program}.{field}"), Err(problem));
        }
    }
    problems
}

fn differs(name: Option<&String>, other: Option<&String>, field: &str) -> Result<(), String> {
    if name.is_some() && name == other {
        return Err(format!(
            "`{}` is also the name of {field} (set or derived); choose another name",
            name.map_or("", String::as_str)
        ));
    }
    Ok(())
}

fn resource_problems(resources: &ResourceRequirements) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (part, quantities) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, Quantity(text)) in quantities.iter().flatten() {
            if quantity::value(text).is_none_or(|value| value < 0.0) {
                problems.push((
                    format!("resources.{part}.{name}"),
                    format!("`{text}` is not a quantity; write it as 500m or 256Mi"),
                ));
            }
        }
    }
    for (name, Quantity(request)) in resources.requests.iter().flatten() {
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
        if let Some(Quantity(limit)) = limit
            && let (Some(requested), Some(most)) = (quantity::value(request), quantity::value(limit))
            && requested > most
        {
            problems.push((
                format!("resources.requests.{name}"),
                format!("`{request}` is more than the limit `{limit}`"),
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use userpipeline_api::HttpSource;

    use super::*;
    use crate::pipeline::example;

    fn problem(change: impl FnOnce(&mut UserPipelineSpec)) -> String {
        let mut pipeline = example::pipeline();
        change(&mut pipeline.spec);
        let error = example::validate(&pipeline).expect_err("invalid");
        assert_eq!(error.reason(), "InvalidSpec");
        error.to_string()
    }

    fn schedule(spec: &mut UserPipelineSpec) -> &mut Schedule {
        spec.schedule.as_mut().unwrap()
    }

    fn http(spec: &mut UserPipelineSpec) -> &mut HttpSource {
        spec.source.http.as_mut().unwrap()
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_field() {
        assert!(problem(|spec| schedule(spec).cron = "61 * * * *".into()).starts_with("spec.schedule.cron: "));
        assert!(problem(|spec| schedule(spec).time_zone = "Mars/Olympus".into()).starts_with("spec.schedule.timeZone: "));
        assert!(problem(|spec| http(spec).max_body_size = Quantity("8 apples".into())).starts_with("spec.source.http.maxBodySize: "));
        assert!(problem(|spec| spec.landing.table = Some("demo_users".into())).starts_with("spec.sinks.postgres.table: "));
        assert!(problem(|spec| spec.dead_letter.topic = Some("demo.users".into())).starts_with("spec.deadLetter.topic: "));
        let resources = |requests: &str, limits: &str| ResourceRequirements {
            requests: Some([("memory".to_owned(), Quantity(requests.into()))].into()),
            limits: Some([("memory".to_owned(), Quantity(limits.into()))].into()),
            claims: None,
        };
        assert!(
            problem(|spec| spec.pods.workers.resources = Some(resources("much", "1Gi")))
                .starts_with("spec.pods.workers.resources.requests.memory: ")
        );
        assert!(problem(|spec| spec.pods.workers.resources = Some(resources("2Gi", "1Gi"))).contains("more than the limit"));
        assert!(
            problem(|spec| spec
                .sinks
                .cassandra
                .as_mut()
                .unwrap()
                .replication
                .insert("dc1".into(), 0)
                .map_or((), drop))
            .starts_with("spec.sinks.cassandra.replication: ")
        );
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let error = problem(|spec| {
            schedule(spec).cron = "never".into();
            schedule(spec).time_zone = "Nowhere".into();
        });
        assert!(
            error.contains("spec.schedule.cron") && error.contains("spec.schedule.timeZone"),
            "{error}"
        );
    }

    #[test]
    fn placeholders_must_be_known_and_arguments_must_have_values() {
        type Change = fn(&mut UserPipelineSpec);
        let table: [(Change, &str); 5] = [
            (
                |spec| http(spec).url = Some("http://source/{{when}}".into()),
                "spec.source.http.url: `{{when}}` is not known",
            ),
            (
                |spec| http(spec).url = Some("http://source/{{arguments.x}}".into()),
                "needs a value in spec.schedule.arguments",
            ),
            (
                |spec| {
                    schedule(spec).arguments.insert("h".into(), "evil".into());
                    http(spec).url = Some("http://{{arguments.h}}/".into());
                },
                "part of the host",
            ),
            (
                |spec| {
                    http(spec).query = serde_json::from_value(serde_json::json!([{"name": "a", "value": "{{interval.start"}])).unwrap();
                },
                "spec.source.http.query[0].value",
            ),
            (
                |spec| {
                    spec.run_now = serde_json::from_value(serde_json::json!({"nonce": "a", "arguments": {"y": "1"}})).unwrap();
                },
                "spec.runNow.arguments.y: is not among",
            ),
        ];
        for (change, expected) in table {
            let error = problem(change);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn only_changes_that_affect_the_schema_need_a_schema_job() {
        let before = example::validate(&example::pipeline()).unwrap();
        let after = |change: fn(&mut UserPipelineSpec)| {
            let mut pipeline = example::pipeline();
            change(&mut pipeline.spec);
            example::validate(&pipeline).unwrap().schema_hash
        };
        assert_eq!(after(|spec| schedule(spec).cron = "@daily".into()), before.schema_hash);
        assert_eq!(after(|spec| spec.workers.replicas = 5), before.schema_hash);
        assert_eq!(after(|spec| spec.workers.batch.max_records = 7), before.schema_hash);
        assert_ne!(after(|spec| spec.kafka.as_mut().unwrap().topic.partitions = 12), before.schema_hash);
    }
}
