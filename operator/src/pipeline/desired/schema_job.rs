//! The schema Job: it applies topic, subject and tables.

use k8s_openapi::api::batch::v1::Job;
use userpipeline_api::{SchemaStatus, StoreObject, TakenName};

use super::task_job::Task;
use crate::pipeline::{
    decide::Decisions,
    model::{Installation, labels},
    validate::ValidatedPipeline,
};

/// The totals of a large table take long.
const AGGREGATES_DEADLINE_SECONDS: i64 = 3600;

pub(super) fn build(pipeline: &ValidatedPipeline, installation: &Installation, decisions: &Decisions, attempt: i32) -> Job {
    let hash = &pipeline.schema_hash;
    let mut expected = expected_stores(pipeline, &decisions.schema.status);
    let recorded = decisions.created_objects.as_deref();
    if pipeline.passes_record(recorded) {
        expected.extend(created_objects(recorded));
        expected.extend(taken_names(&decisions.taken_names));
    }
    let mut arguments = vec!["--cluster", &installation.cluster];
    arguments.extend(expected.iter().map(String::as_str));
    let task = Task {
        component: labels::Component::Schema,
        suffix: &format!("schema-{hash}-{attempt}"),
        command: "apply-schema",
        arguments: &arguments,
        labels: &[(labels::SCHEMA_HASH, hash), (labels::SCHEMA_ATTEMPT, &attempt.to_string())],
    };
    let mut job = task.build(&pipeline.owner, &pipeline.schema.reference());
    if let Some(spec) = job.spec.as_mut().filter(|_| !pipeline.spec.aggregates.is_empty()) {
        spec.active_deadline_seconds = Some(AGGREGATES_DEADLINE_SECONDS);
    }
    job
}

/// The record of what the pipeline created, which is filled from claims in a pipeline that is older than it.
pub(super) fn created_objects(recorded: Option<&[StoreObject]>) -> Vec<String> {
    let objects = serde_json::to_string(recorded.unwrap_or_default()).unwrap_or_default();
    let fill = recorded.is_none().then(|| "--fill-created-objects".to_owned());
    std::iter::once(format!("--created-objects={objects}")).chain(fill).collect()
}

/// Names of other pipelines, in stores that may be those of this one.
fn taken_names(names: &[TakenName]) -> Option<String> {
    let json = serde_json::to_string(names).ok()?;
    (!names.is_empty()).then(|| format!("--taken-names={json}"))
}

/// Where connections say where the stores are, the stores are those of the last schema Job, or accepted ones; and a default for the
/// replicas of new topics does not apply to existing ones.
fn expected_stores(pipeline: &ValidatedPipeline, recorded: &SchemaStatus) -> Vec<String> {
    if !pipeline.compares_stores() {
        return Vec::new();
    }
    let kafka = recorded.kafka_cluster.iter().map(|id| format!("--expected-kafka-cluster={id}"));
    let postgres = recorded.postgres_system.iter().map(|id| format!("--expected-postgres-system={id}"));
    // As one argument: the id is of an annotation, and must not become another option.
    let accepted = pipeline.accepted_stores.iter().map(|id| format!("--accept-store={id}"));
    let replicas = pipeline.has_default_replicas().then(|| "--any-replicas".to_owned());
    kafka.chain(postgres).chain(accepted).chain(replicas).collect()
}

#[cfg(test)]
mod tests {
    use userpipeline_api::Image;

    use super::*;
    use crate::pipeline::{example, validate::validate};

    #[test]
    fn a_schema_job_receives_the_names_that_others_use_only_if_there_are_any() {
        assert_eq!(taken_names(&[]), None);
        let name = TakenName {
            store: "k1".into(),
            what: "topic payments".into(),
        };
        let expected = r#"--taken-names=[{"store":"k1","what":"topic payments"}]"#;
        assert_eq!(taken_names(&[name]).as_deref(), Some(expected));
    }

    #[test]
    fn a_pinned_version_receives_the_record_unless_it_was_pinned_before_there_was_one() {
        let mut valid = example::validate(&example::pipeline()).unwrap();
        let operator = valid.operator_version.clone();
        for (version, recorded, expected) in [
            (None, Some(&[][..]), true),
            (None, None, true),
            (Some(operator.as_str()), None, true),
            (Some("0.0.9"), Some(&[][..]), true),
            (Some("0.0.9"), None, false),
        ] {
            valid.spec.image = version.map(|version| Image {
                version: Some(version.to_owned()),
                ..Image::default()
            });
            assert_eq!(valid.passes_record(recorded), expected, "{version:?} {recorded:?}");
        }
    }

    #[test]
    fn a_schema_job_expects_the_stores_of_the_last_one_where_connections_may_change_them() {
        let recorded = SchemaStatus {
            kafka_cluster: Some("k".into()),
            postgres_system: Some("1".into()),
            ..SchemaStatus::default()
        };
        let (moved, connections) = example::with_connections();
        let mut moved = validate(&moved, &connections, &example::installation()).unwrap();
        moved.accepted_stores = vec!["2".into()];
        let expected = [
            "--expected-kafka-cluster=k",
            "--expected-postgres-system=1",
            "--accept-store=2",
            "--any-replicas",
        ];
        assert_eq!(expected_stores(&moved, &recorded), expected);
        assert_eq!(
            expected_stores(&moved, &SchemaStatus::default()),
            ["--accept-store=2", "--any-replicas"],
            "of an older version"
        );
        let mut sets_replicas = moved.clone();
        sets_replicas.spec.kafka = Some(serde_json::from_value(serde_json::json!({"topic": {"replicas": 3}})).unwrap());
        assert_eq!(expected_stores(&sets_replicas, &SchemaStatus::default()), ["--accept-store=2"]);
        let own = example::validate(&example::pipeline()).unwrap();
        assert_eq!(expected_stores(&own, &recorded), [""; 0], "an edit of an address is explicit");
        moved.spec.image = Some(Image {
            version: Some("0.0.9".into()),
            ..Image::default()
        });
        assert_eq!(expected_stores(&moved, &recorded), [""; 0], "pinned");
    }
}
