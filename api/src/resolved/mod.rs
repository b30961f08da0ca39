//! A pipeline with the blocks of its connections: what documents and pods are made from.

mod blocks;
mod error;
mod http;
mod kafka;
mod kafka_user;
mod names;
mod spec;
mod topic_settings;

pub(crate) use self::blocks::uses_registry;
use self::{
    blocks::{Offers, cassandra_sink, kafka_block, postgres_block, registry_block},
    http::source,
    names::with_names,
};
pub use self::{
    error::{Connections, ResolveError},
    kafka::{Brokers, Kafka, MAX_MESSAGE_BYTES, SchemaRegistry, Topic},
    kafka_user::PipelineUser,
    spec::{ResolvedPipeline, ResolvedSpec},
    topic_settings::dead_letter_limit,
};
use crate::{Sinks, StrimziListener, TopicManagement, UserPipeline, names::PipelineId};

/// Completes a pipeline with the blocks of its connections. Each block comes from exactly one place. Only
/// topic settings and replication are merged; those of the pipeline win.
pub fn resolve(pipeline: &UserPipeline, connections: &Connections) -> Result<ResolvedPipeline, ResolveError> {
    let id = PipelineId::of(pipeline);
    let spec = &pipeline.spec;
    let offers = Offers::of(spec, connections)?;
    let mut problems = Vec::new();
    let postgres = postgres_block(spec, &offers, &mut problems);
    let kafka = kafka_block(spec, &offers, &mut problems);
    let schema_registry = registry_block(spec, &offers, &mut problems);
    let (cassandra, cassandra_sink) = cassandra_sink(spec, &offers, &mut problems);
    let source = source(spec, &offers, &mut problems);
    let (Some(postgres), Some((mut kafka, strimzi)), Some((source, ingest_proxy)), true) = (postgres, kafka, source, problems.is_empty())
    else {
        return Err(ResolveError::InvalidSpec(problems));
    };
    let kafka_user = strimzi
        .as_ref()
        .and_then(|listener| kafka_user::of_pipeline(&mut kafka, listener, &id.name));
    let resolved = ResolvedSpec {
        schedule: spec.schedule.clone(),
        source,
        record: spec.record.clone(),
        postgres,
        landing: spec.landing.clone(),
        kafka,
        schema_registry,
        cassandra,
        sinks: Sinks {
            cassandra: cassandra_sink,
            postgres: spec.sinks.postgres.clone(),
        },
        aggregates: spec.aggregates.clone(),
        dead_letter: spec.dead_letter.clone(),
        retention: spec.retention.clone(),
        workers: spec.workers.clone(),
    };
    let mut spec = with_names(resolved, &id);
    spec.kafka.topic.id = recorded_topic_id(pipeline, &spec.kafka.topic, strimzi.as_ref());
    Ok(ResolvedPipeline {
        id,
        spec,
        ingest_proxy,
        strimzi,
        kafka_user,
    })
}

/// The recorded id of a topic that Strimzi manages.
fn recorded_topic_id(pipeline: &UserPipeline, topic: &Topic, strimzi: Option<&StrimziListener>) -> Option<String> {
    let recorded = pipeline.status.as_ref()?.topics.as_ref()?;
    let is_managed = topic.management == TopicManagement::Strimzi && strimzi.is_some_and(|listener| recorded.is_in(listener));
    recorded.resource(topic.name.as_deref()?).filter(|_| is_managed)?.id.clone()
}

#[cfg(test)]
mod tests;
