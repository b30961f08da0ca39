//! The schema Job: it applies topic, subject and tables.

use k8s_openapi::api::batch::v1::Job;
use userpipeline_api::SchemaStatus;

use super::task_job::Task;
use crate::pipeline::{
    model::{Installation, labels},
    validate::ValidatedPipeline,
};

pub(super) fn build(pipeline: &ValidatedPipeline, installation: &Installation, recorded: &SchemaStatus, attempt: i32) -> Job {
    let hash = &pipeline.schema_hash;
    let mut arguments = vec!["--cluster", &installation.cluster];
    arguments.extend(expected_stores(pipeline, recorded));
    let task = Task {
        component: labels::Component::Schema,
        suffix: &format!("schema-{hash}-{attempt}"),
        command: "apply-schema",
        arguments: &arguments,
        labels: &[(labels::SCHEMA_HASH, hash), (labels::SCHEMA_ATTEMPT, &attempt.to_string())],
    };
    task.build(&pipeline.owner, &pipeline.schema.reference())
}

/// Where connections say where the stores are, the stores are those of the last schema Job, or accepted ones. A pinned version may
/// not know these arguments.
fn expected_stores<'a>(pipeline: &'a ValidatedPipeline, recorded: &'a SchemaStatus) -> Vec<&'a str> {
    let is_pinned = pipeline.spec.image.as_ref().is_some_and(|image| image.version.is_some());
    if is_pinned || pipeline.spec.connections.is_empty() {
        return Vec::new();
    }
    let kafka = recorded.kafka_cluster.iter().map(|id| ("--expected-kafka-cluster", id));
    let postgres = recorded.postgres_system.iter().map(|id| ("--expected-postgres-system", id));
    let accepted = pipeline.accepted_stores.iter().map(|id| ("--accept-store", id));
    let arguments = kafka.chain(postgres).chain(accepted);
    arguments.flat_map(|(option, id)| [option, id.as_str()]).collect()
}

#[cfg(test)]
mod tests {
    use userpipeline_api::Image;

    use super::*;
    use crate::pipeline::{example, validate::validate};

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
            "--expected-kafka-cluster",
            "k",
            "--expected-postgres-system",
            "1",
            "--accept-store",
            "2",
        ];
        assert_eq!(expected_stores(&moved, &recorded), expected);
        assert_eq!(
            expected_stores(&moved, &SchemaStatus::default()),
            ["--accept-store", "2"],
            "of an older version"
        );
        let own = example::validate(&example::pipeline()).unwrap();
        assert_eq!(expected_stores(&own, &recorded), [""; 0], "an edit of an address is explicit");
        moved.spec.image = Some(Image {
            version: Some("0.0.9".into()),
            ..Image::default()
        });
        assert_eq!(expected_stores(&moved, &recorded), [""; 0], "pinned");
    }
}
