//! A producer that reports for each message whether the topic has it.

use std::time::Duration;

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _, future_producer::DeliveryFuture},
};
use tokio::time::{Instant, error::Elapsed, timeout_at};

use super::{admin, connection::Connection, errors, refusal::Reporter};
use crate::{
    StoreError,
    error::{KAFKA_FAILED, KAFKA_UNREACHABLE, TOPIC_MISSING},
    wire::Fingerprint,
};

/// How long a message may take, retries included: a restart of a broker fits in.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// The client reports each message within its timeout; this bounds the wait if it does not.
const REPORT_TIMEOUT: Duration = Duration::from_secs(75);

/// The largest message, in bytes, that a client sends; the broker applies the limit of the topic.
pub const CLIENT_LIMIT: &str = "100000000";
/// The client's own bound of a batch, in bytes.
const BATCH_BYTES: usize = 1_000_000;

/// A message for the topic.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub key: &'a str,
    /// None for a deleted record.
    pub payload: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Messages that the client has, and sends by itself.
pub struct Queued {
    messages: Vec<Result<DeliveryFuture, StoreError>>,
    deadline: Instant,
}

/// A producer for one topic: idempotent, acknowledged by all in-sync replicas.
pub struct Producer {
    client: FutureProducer<Reporter>,
    topic: String,
    /// Other credentials or certificates need another producer.
    opened_with: Fingerprint,
}

impl Producer {
    /// Connects, and checks that the topic exists: writing never creates it. `max_record`: the largest record, in bytes, that fits
    /// into a message of the topic.
    pub async fn connect(connection: &Connection, topic: &str, client_id: &str, max_record: usize) -> Result<Self, StoreError> {
        connection.verify().await?;
        let opened = Self::new(connection, topic, client_id, max_record)?;
        let (asked, name) = (opened.client.clone(), topic.to_owned());
        let found = tokio::task::spawn_blocking(move || admin::describe_topic(asked.client(), &name)).await;
        let found = found.map_err(|e| StoreError::transient(KAFKA_FAILED, format!("looking for topic `{topic}`: {e}")))?;
        let found = match found {
            Ok(found) => found,
            Err(e) => return Err(connection.locate(e).await),
        };
        if found.is_none() {
            let message = format!(
                "topic `{topic}` does not exist, and runs do not create it: see `TopicReady` for its schema Job, or create it if spec.kafka.topic.management is None"
            );
            return Err(StoreError::configuration(TOPIC_MISSING, message));
        }
        Ok(opened)
    }

    fn new(connection: &Connection, topic: &str, client_id: &str, max_record: usize) -> Result<Self, StoreError> {
        let (mut config, opened_with) = connection.open_config(client_id)?;
        let client = config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("allow.auto.create.topics", "false")
            // A key goes to the partition to which Java's clients send it.
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("message.max.bytes", CLIENT_LIMIT)
            // A broker's limit is for a batch, and one that is too large fails with all its messages.
            .set("batch.size", BATCH_BYTES.min(max_record).max(1).to_string())
            .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string())
            .create_with_context(connection.reporter())
            .map_err(|e| errors::explain("a Kafka client for spec.kafka.bootstrapServers", &e))?;
        Ok(Self {
            client,
            topic: topic.to_owned(),
            opened_with,
        })
    }

    /// Whether credentials or certificates have changed since it connected.
    pub fn is_rotated(&self, connection: &Connection) -> bool {
        connection.wire().is_rotated(&self.opened_with)
    }

    /// Sends messages and waits until each is acknowledged or has failed, in their order.
    pub async fn send_all(&self, messages: &[Message<'_>]) -> Vec<Result<(), StoreError>> {
        self.reports(self.queue_all(messages)).await
    }

    /// Hands messages over to the client, which sends them, and makes batches of what waits.
    pub fn queue_all(&self, messages: &[Message<'_>]) -> Queued {
        Queued {
            messages: messages.iter().map(|message| self.queue(message)).collect(),
            deadline: Instant::now() + REPORT_TIMEOUT,
        }
    }

    /// Waits until each message is acknowledged or has failed. The reports have the order of the messages.
    pub async fn reports(&self, queued: Queued) -> Vec<Result<(), StoreError>> {
        let mut reports = Vec::with_capacity(queued.messages.len());
        // The last one first: then the others are there, and this task is woken once, not for each of them.
        for message in queued.messages.into_iter().rev() {
            reports.push(match message {
                Ok(report) => self.delivered(timeout_at(queued.deadline, report).await),
                Err(e) => Err(e),
            });
        }
        reports.reverse();
        reports
    }

    fn queue(&self, message: &Message<'_>) -> Result<DeliveryFuture, StoreError> {
        let headers = message
            .headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(message.headers.len()), |headers, &(key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
        let record = FutureRecord {
            payload: message.payload,
            ..FutureRecord::to(&self.topic).key(message.key).headers(headers)
        };
        self.client.send_result(record).map_err(|(e, _)| self.explain(&e))
    }

    fn delivered(&self, report: Result<<DeliveryFuture as Future>::Output, Elapsed>) -> Result<(), StoreError> {
        match report {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err((e, _)))) => Err(self.explain(&e)),
            Ok(Err(_)) => Err(StoreError::transient(
                KAFKA_FAILED,
                format!("topic `{}`: the producer ended before it reported a message", self.topic),
            )),
            Err(_) => Err(StoreError::transient(
                KAFKA_UNREACHABLE,
                format!(
                    "topic `{}`: no report of a message within {} s",
                    self.topic,
                    REPORT_TIMEOUT.as_secs()
                ),
            )),
        }
    }

    fn explain(&self, e: &KafkaError) -> StoreError {
        explain(&self.topic, e)
    }
}

/// What an error about a message means, and what to do about it.
fn explain(topic: &str, e: &KafkaError) -> StoreError {
    let mut error = errors::explain(&format!("topic `{topic}`"), e);
    match e.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge) => error.message.push_str("; raise max.message.bytes in spec.kafka.topic.config"),
        Some(Code::MessageTimedOut) => error.message.push_str(" (no acknowledgement within 60 s)"),
        _ => {}
    }
    error
}

#[cfg(test)]
mod tests {
    use rdkafka::{
        Offset, TopicPartitionList,
        consumer::{BaseConsumer, Consumer},
        message::{Headers, Message as _},
        mocking::MockCluster,
    };

    use super::*;

    #[tokio::test]
    async fn each_message_is_on_the_topic_with_key_and_headers_when_it_is_reported() {
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic("users", 2, 3).unwrap();
        let connection = Connection::plain_text(&cluster.bootstrap_servers());
        let producer = Producer::new(&connection, "users", "test", BATCH_BYTES).unwrap();
        let keys: Vec<String> = (0..500).map(|i| format!("key-{i}")).collect();
        let messages: Vec<_> = keys
            .iter()
            .map(|key| Message {
                key,
                payload: Some(b"payload"),
                headers: &[("version", b"17"), ("run", b"r")],
            })
            .collect();

        let reports = producer.send_all(&messages).await;

        assert!(reports.iter().all(Result::is_ok), "{reports:?}");
        let consumer: BaseConsumer = connection
            .client_config("test")
            .unwrap()
            .set("group.id", "g")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in 0..2 {
            partitions.add_partition_offset("users", partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&partitions).unwrap();
        let started = Instant::now();
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < keys.len() {
            assert!(started.elapsed() < Duration::from_secs(30), "{} messages", seen.len());
            let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let message = message.unwrap();
            let headers: Vec<_> = message
                .headers()
                .unwrap()
                .iter()
                .map(|h| (h.key.to_owned(), h.value.unwrap().to_vec()))
                .collect();
            assert_eq!(headers, [("version".to_owned(), b"17".to_vec()), ("run".to_owned(), b"r".to_vec())]);
            assert!(seen.insert(message.key().unwrap().to_vec()));
        }
    }
}
