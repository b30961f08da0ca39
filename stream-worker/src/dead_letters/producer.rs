//! Sends messages as they came, with their headers.

use std::time::Duration;

use rdkafka::{
    error::KafkaError,
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use userpipeline_stores::{
    StoreError,
    kafka::{Connection, Reporter, errors, producer::CLIENT_LIMIT},
};

use crate::model::{Header, Message};

/// After this long a dead letter is retried by a new producer.
const TIMEOUT: Duration = Duration::from_secs(30);

pub fn producer(connection: &Connection, client: &str) -> Result<FutureProducer<Reporter>, StoreError> {
    connection
        .client_config(client)?
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
        .set("message.max.bytes", CLIENT_LIMIT)
        // Small batches: the broker's limit, unknown here, is for a batch, and one that is too large fails with all its messages.
        .set("batch.size", "16384")
        // The broker's limit counts compressed bytes: what its producer compressed must not be too large here.
        .set("compression.type", "lz4")
        .set("allow.auto.create.topics", "false")
        // A key goes to the partition to which Java's clients, and ours, send it.
        .set("partitioner", "murmur2_random")
        .create_with_context(connection.reporter())
        .map_err(|e| errors::explain("no producer for dead letters", &e))
}

/// Sends a message unchanged, with these headers, and waits until all replicas have acknowledged it. Both a dead letter and a
/// redriven message go this way.
pub async fn send(producer: &FutureProducer<Reporter>, topic: &str, message: &Message, headers: &[Header]) -> Result<(), KafkaError> {
    let mut owned = OwnedHeaders::new_with_capacity(headers.len());
    for (key, value) in headers {
        owned = owned.insert(KafkaHeader {
            key,
            value: value.as_ref(),
        });
    }
    let record: FutureRecord<'_, [u8], [u8]> = FutureRecord {
        topic,
        partition: None,
        payload: message.payload.as_deref(),
        key: message.key.as_deref(),
        timestamp: None,
        headers: Some(owned),
    };
    producer.send(record, TIMEOUT).await.map(drop).map_err(|(error, _)| error)
}
