//! Fills in the names that a spec omits.

use super::spec::ResolvedSpec;
use crate::names::{PipelineId, cassandra_table, dead_letter_topic, group_id, keyspace, landing_table, postgres_table, topic};

/// The spec with all omitted names filled in. Idempotent.
#[must_use]
pub(super) fn with_names(mut spec: ResolvedSpec, id: &PipelineId) -> ResolvedSpec {
    if spec.source.http.is_some() {
        spec.landing.table.get_or_insert_with(|| landing_table(id));
    }
    spec.kafka.group_id.get_or_insert_with(|| group_id(id));
    let topic = spec.kafka.topic.name.get_or_insert_with(|| topic(id)).clone();
    spec.dead_letter.topic.get_or_insert_with(|| dead_letter_topic(&topic));
    if let Some(sink) = &mut spec.sinks.cassandra {
        sink.keyspace.get_or_insert_with(|| keyspace(id));
        sink.table.get_or_insert_with(|| cassandra_table(id));
    }
    if let Some(sink) = &mut spec.sinks.postgres {
        sink.table.get_or_insert_with(|| postgres_table(id));
    }
    spec
}
