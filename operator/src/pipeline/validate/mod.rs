//! A pipeline that can be built: what the apiserver's rules cannot see is checked here. No client.

mod bounds;
mod placeholders;

use k8s_openapi::{
    api::core::v1::ResourceRequirements,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::OwnerReference},
};
use kube::{Resource, ResourceExt};
use userpipeline_api::{
    Cron, PodSettings, Schedule, Ticks, UserPipeline, UserPipelineSpec, bytes, document, document::Binary, names, names::PipelineId, zone,
};
use userpipeline_record::{RecordSchema, bookkeeping};

use self::placeholders::placeholder_problems;
use super::{
    build::{Images, settings},
    quantity,
};

/// Why a pipeline cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// A field is wrong; each is named, with what to do.
    #[error("{}", .0.join("; "))]
    InvalidSpec(Vec<String>),
    /// An elder pipeline has what this one would write to.
    #[error("{what} is UserPipeline {elder}'s, which was there first: choose another name, or delete one of the two. Nothing was touched")]
    Conflict {
        /// What both want.
        what: String,
        /// The elder pipeline.
        elder: PipelineId,
    },
}

impl ValidateError {
    /// The variant's name.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidSpec(_) => "InvalidSpec",
            Self::Conflict { .. } => "Conflict",
        }
    }
}

/// What a binary is handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The name of the ConfigMap that holds it: its content's hash is in it.
    pub config_map: String,
    /// The resource, reduced.
    pub text: String,
    /// The Secrets that the binary needs.
    pub secrets: Vec<String>,
}

impl Document {
    /// What `binary` is handed, in a ConfigMap with `word` in its name.
    pub fn of(pipeline: &UserPipeline, binary: Binary, word: &str) -> Self {
        let text = document::reduce(pipeline, binary);
        let name = pipeline.name_any();
        Self {
            config_map: names::child(&name, &format!("{word}-{}", names::hash(&text)), names::LABEL_LIMIT),
            text,
            secrets: binary.secrets(pipeline),
        }
    }
}

/// Whose the children are.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Which pipeline.
    pub id: PipelineId,
    /// Its uid.
    pub uid: String,
    /// By which its children go with it; those that are to be there until it is gone have none.
    pub reference: Option<OwnerReference>,
    /// Whom to ask: `spec.owner`.
    pub contact: Option<String>,
    /// Which images its pods run.
    pub images: Images,
    /// What the pods of its tasks are to be like.
    pub tasks: PodSettings,
}

impl Parent {
    /// None where a pipeline has no name or no uid, so is not from an apiserver.
    pub fn of(pipeline: &UserPipeline, images: Images) -> Option<Self> {
        let reference = pipeline.controller_owner_ref(&())?;
        Some(Self {
            id: PipelineId::of(pipeline),
            uid: reference.uid.clone(),
            reference: Some(reference),
            contact: pipeline.spec.owner.clone(),
            images,
            tasks: pipeline.spec.pods.tasks.clone(),
        })
    }

    /// How the pods of its tasks are to be, in short: one that was made otherwise is not waited for.
    pub fn task(&self) -> String {
        let settings = serde_json::to_string(&self.tasks).unwrap_or_default();
        names::hash(&format!("{}\n{settings}", self.images.of("stream-worker")))
    }
}

/// What a pipeline's runs are.
#[derive(Clone, Debug)]
pub struct Ingest {
    /// When they happen, and how.
    pub schedule: Schedule,
    /// When they are due.
    pub ticks: Ticks,
    /// What `ingest-job` is handed.
    pub document: Document,
}

/// A pipeline that can be built.
#[derive(Clone, Debug)]
pub struct ValidatedPipeline {
    /// Whose the children are.
    pub parent: Parent,
    /// What is wanted, with every name filled in.
    pub spec: UserPipelineSpec,
    /// What its runs are; none where others write to the topic.
    pub ingest: Option<Ingest>,
    /// What `stream-worker` is handed.
    pub worker: Document,
    /// What the schema Job is handed.
    pub schema: Document,
    /// What a schema Job must have applied.
    pub schema_hash: String,
}

/// Checks a pipeline; its images must be among those that there are to choose from.
pub fn validate(pipeline: &UserPipeline, images: &Images) -> Result<ValidatedPipeline, ValidateError> {
    let beyond = bounds::problems(&pipeline.spec);
    if !beyond.is_empty() {
        return Err(ValidateError::InvalidSpec(beyond));
    }
    let id = PipelineId::of(pipeline);
    let spec = names::with_names(pipeline.spec.clone(), &id);
    let mut problems = Vec::new();
    let mut check = |field: &str, result: Result<(), String>| problems.extend(result.err().map(|problem| format!("{field}: {problem}")));

    let mut ingest = None;
    if let (Some(schedule), Some(http)) = (&spec.schedule, &spec.source.http) {
        check("spec.schedule.cron", Cron::read(&schedule.cron).map(drop));
        check("spec.schedule.timeZone", zone(&schedule.time_zone).map(drop));
        for (field, problem) in placeholder_problems(http, schedule, spec.run_now.as_ref()) {
            check(&field, Err(problem));
        }
        check("spec.source.http.maxBodySize", bytes(&http.max_body_size).map(drop));
        ingest = Ticks::read(&schedule.cron, &schedule.time_zone).ok().map(|ticks| Ingest {
            schedule: schedule.clone(),
            ticks,
            document: Document::of(pipeline, Binary::Ingest, "ingest"),
        });
    }
    for problem in RecordSchema::of(spec.record.as_ref()).err().into_iter().flatten() {
        check(&problem.field, Err(problem.problem));
    }
    if let Some(sink) = &spec.sinks.cassandra {
        check("spec.sinks.cassandra.replication", replication(sink.replication.iter()));
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
        ("ingest", &spec.pods.ingest),
        ("workers", &spec.pods.workers),
        ("tasks", &spec.pods.tasks),
    ] {
        let resources = settings.resources.iter().flat_map(resource_problems);
        for (field, problem) in resources.chain(settings::problems(settings)) {
            check(&format!("spec.pods.{program}.{field}"), Err(problem));
        }
    }
    let chosen = images.chosen(spec.image.as_ref());
    check("spec.image.registry", chosen.as_ref().map(drop).map_err(Clone::clone));
    let parent = Parent::of(pipeline, chosen.unwrap_or_else(|_| images.clone()));
    if parent.is_none() {
        check("metadata", Err("name and uid are missing".to_owned()));
    }
    let (Some(parent), true) = (parent, problems.is_empty()) else {
        return Err(ValidateError::InvalidSpec(problems));
    };

    let schema = Document::of(pipeline, Binary::Schema, "schema");
    Ok(ValidatedPipeline {
        parent,
        ingest,
        worker: Document::of(pipeline, Binary::Worker, "worker"),
        // A pinned version applies what it knows, which may differ from what this one does.
        schema_hash: names::hash(&format!(
            "{}\n{}\n{}\n{}\n{}",
            schema.text,
            spec.kafka.topic.message_limit(),
            // What is declared is in the text; what is built in is not.
            RecordSchema::user().fingerprint(),
            bookkeeping::fingerprint(),
            spec.image.iter().filter_map(|image| image.version.as_deref()).collect::<String>(),
        )),
        schema,
        spec,
    })
}

fn replication<'a>(mut datacenters: impl Iterator<Item = (&'a String, &'a i32)>) -> Result<(), String> {
    match datacenters.find(|(name, copies)| **copies < 1 || name.is_empty()) {
        Some((name, copies)) => Err(format!("`{name}: {copies}` must name a datacenter and keep at least 1 copy")),
        None => Ok(()),
    }
}

fn differs(name: Option<&String>, other: Option<&String>, field: &str) -> Result<(), String> {
    if name.is_some() && name == other {
        return Err(format!(
            "`{}` is also the name of {field}, given or derived; choose another",
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
            && let (Some(wanted), Some(most)) = (quantity::value(request), quantity::value(limit))
            && wanted > most
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
        let error = validate(&pipeline, &example::images()).expect_err("invalid");
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
    fn what_is_wrong_is_named_by_its_field() {
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
    fn all_that_is_wrong_is_told_at_once() {
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
    fn placeholders_must_be_known_and_arguments_have_values() {
        type Change = fn(&mut UserPipelineSpec);
        let table: [(Change, &str); 5] = [
            (
                |spec| http(spec).url = "http://source/{{when}}".into(),
                "spec.source.http.url: `{{when}}` is not known",
            ),
            (
                |spec| http(spec).url = "http://source/{{arguments.x}}".into(),
                "needs a value in spec.schedule.arguments",
            ),
            (
                |spec| {
                    schedule(spec).arguments.insert("h".into(), "evil".into());
                    http(spec).url = "http://{{arguments.h}}/".into();
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
        for (change, says) in table {
            let error = problem(change);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_schema_job_is_due_for_what_concerns_the_schema_and_nothing_else() {
        let before = validate(&example::pipeline(), &example::images()).unwrap();
        let after = |change: fn(&mut UserPipelineSpec)| {
            let mut pipeline = example::pipeline();
            change(&mut pipeline.spec);
            validate(&pipeline, &example::images()).unwrap().schema_hash
        };
        assert_eq!(after(|spec| schedule(spec).cron = "@daily".into()), before.schema_hash);
        assert_eq!(after(|spec| spec.workers.replicas = 5), before.schema_hash);
        assert_eq!(after(|spec| spec.workers.batch.max_records = 7), before.schema_hash);
        assert_ne!(after(|spec| spec.kafka.topic.partitions = 12), before.schema_hash);
    }
}
