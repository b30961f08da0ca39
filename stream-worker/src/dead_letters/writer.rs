//! Writes dead letters.

use futures::future::join_all;
use rdkafka::{error::KafkaError, producer::FutureProducer};
use userpipeline_stores::{
    Class, StoreError,
    error::DEAD_LETTER_FAILED,
    kafka::{Reporter, errors},
};

use super::{
    letter::headers_of,
    producer::{producer, send},
};
use crate::{
    context::WorkerContext,
    model::{Message, RecordFault},
};

/// Writes dead letters, and waits until they are acknowledged.
pub struct DeadLetters {
    producer: FutureProducer<Reporter>,
    origin: String,
    topic: String,
    group: String,
}

impl DeadLetters {
    pub fn open(context: &WorkerContext) -> Result<Self, StoreError> {
        let pipeline = &context.pipeline;
        let producer = producer(&context.kafka, &format!("{} dead letters", context.instance))?;
        Ok(Self {
            producer,
            origin: pipeline.topic.clone(),
            topic: pipeline.dead_letter_topic.clone(),
            group: pipeline.group_id.clone(),
        })
    }

    /// Writes messages with their faults; returns for each whether all replicas acknowledged it.
    pub async fn send(&self, letters: &[(&Message, &RecordFault)]) -> Vec<Result<(), StoreError>> {
        let at = jiff::Timestamp::now();
        let deliveries = letters.iter().map(|(message, fault)| async move {
            let headers = headers_of(message, fault, &self.origin, &self.group, at);
            send(&self.producer, &self.topic, message, &headers)
                .await
                .map_err(|error| self.failed(&error))
        });
        join_all(deliveries).await
    }

    fn failed(&self, error: &KafkaError) -> StoreError {
        let explained = errors::explain(
            &format!("writing to the dead-letter topic `{}` (spec.deadLetter.topic)", self.topic),
            error,
        );
        match explained.class {
            Class::Transient => explained,
            Class::Configuration => StoreError {
                reason: DEAD_LETTER_FAILED,
                ..explained
            },
        }
    }
}
