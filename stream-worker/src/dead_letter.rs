//! Dead letters: the message as it came, and in headers where it came from and what is wrong with it.

use std::time::Duration;

use futures::future::join_all;
use rdkafka::{
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use userpipeline_api::document::WorkerPipeline;
use userpipeline_stores::{
    Class, StoreError,
    error::DEAD_LETTER_FAILED,
    kafka::{client_config, errors},
};

use crate::{
    decode::Fault,
    message::{Header, Message},
};

/// So long the brokers are tried before the letter is tried anew, by a new producer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An error's text is a hint, not an archive.
const MESSAGE_LIMIT: usize = 1000;
/// No limit of ours: the broker's and the topic's count.
const MAX_MESSAGE_BYTES: &str = "100000000";

/// Writes dead letters, and waits until they are acknowledged.
pub struct DeadLetters {
    producer: FutureProducer,
    origin: String,
    topic: String,
    group: String,
}

impl DeadLetters {
    /// A producer for a pipeline's dead letters.
    pub fn new(pipeline: &WorkerPipeline, instance: &str) -> Result<Self, StoreError> {
        let producer = client_config(&pipeline.bootstrap_servers, &format!("{instance} dead letters"))
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
            .set("message.max.bytes", MAX_MESSAGE_BYTES)
            // The broker's limit counts compressed bytes: what its producer compressed must not be too large here.
            .set("compression.type", "lz4")
            .set("allow.auto.create.topics", "false")
            .create()
            .map_err(|e| errors::explain("no producer for dead letters", &e))?;
        Ok(Self {
            producer,
            origin: pipeline.topic.clone(),
            topic: pipeline.dead_letter_topic.clone(),
            group: pipeline.group_id.clone(),
        })
    }

    /// Writes messages with their faults; gives for each whether all replicas acknowledged it.
    pub async fn send(&self, letters: &[(&Message, &Fault)]) -> Vec<Result<(), StoreError>> {
        let at = jiff::Timestamp::now();
        let deliveries = letters.iter().map(|(message, fault)| async move {
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len() + 9);
            for (key, value) in headers_of(message, fault, &self.origin, &self.group, at) {
                headers = headers.insert(KafkaHeader {
                    key: &key,
                    value: value.as_ref(),
                });
            }
            let record: FutureRecord<'_, [u8], [u8]> = FutureRecord {
                topic: &self.topic,
                partition: None,
                payload: message.payload.as_deref(),
                key: message.key.as_deref(),
                timestamp: None,
                headers: Some(headers),
            };
            self.producer
                .send(record, TIMEOUT)
                .await
                .map(drop)
                .map_err(|(error, _)| self.failed(&error))
        });
        join_all(deliveries).await
    }

    fn failed(&self, error: &rdkafka::error::KafkaError) -> StoreError {
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

/// The headers of a dead letter: those of the message, untouched, and ours behind them.
fn headers_of(message: &Message, fault: &Fault, topic: &str, group: &str, at: jiff::Timestamp) -> Vec<Header> {
    let own = [
        ("dlq.origin.topic", Some(topic.to_owned())),
        ("dlq.origin.partition", Some(message.partition.to_string())),
        ("dlq.origin.offset", Some(message.offset.to_string())),
        ("dlq.origin.timestamp", message.timestamp.map(|t| t.to_string())),
        ("dlq.error.class", Some(fault.class.to_owned())),
        ("dlq.error.message", Some(fault.message.chars().take(MESSAGE_LIMIT).collect())),
        ("dlq.at", Some(at.to_string())),
        ("dlq.consumer.group", Some(group.to_owned())),
    ];
    message
        .headers
        .iter()
        .cloned()
        .chain(own.into_iter().map(|(key, value)| (key.to_owned(), value.map(String::into_bytes))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_keeps_its_headers_and_says_where_it_came_from_and_why() {
        let message = Message {
            partition: 2,
            offset: 77,
            timestamp: Some(1_700_000_000_123),
            headers: vec![
                ("version".into(), Some(b"x".to_vec())),
                ("empty".into(), None),
                ("version".into(), Some(b"y".to_vec())),
            ],
            ..Message::default()
        };
        let fault = Fault::new("DecodeFailed", "e".repeat(5000));
        let at = jiff::Timestamp::from_millisecond(0).unwrap();
        let headers = headers_of(&message, &fault, "users", "demo.users", at);
        assert_eq!(headers[..3], message.headers);
        let own: Vec<(&str, String)> = headers[3..]
            .iter()
            .map(|(k, v)| (k.as_str(), String::from_utf8(v.clone().unwrap()).unwrap()))
            .collect();
        let expected: Vec<(&str, String)> = vec![
            ("dlq.origin.topic", "users".into()),
            ("dlq.origin.partition", "2".into()),
            ("dlq.origin.offset", "77".into()),
            ("dlq.origin.timestamp", "1700000000123".into()),
            ("dlq.error.class", "DecodeFailed".into()),
            ("dlq.error.message", "e".repeat(MESSAGE_LIMIT)),
            ("dlq.at", "1970-01-01T00:00:00Z".into()),
            ("dlq.consumer.group", "demo.users".into()),
        ];
        assert_eq!(own, expected);
    }
}
