//! Sends dead letters to their topic again.

use futures::{StreamExt, stream};
use rdkafka::producer::FutureProducer;
use userpipeline_stores::{
    StoreError,
    kafka::{Connection, Reporter, errors},
};

use super::{
    letter::Letter,
    producer::{producer, send},
};

/// Dead letters in flight,
const AT_ONCE: usize = 200;
/// or bytes of them: the worker beside which this runs has little memory to spare.
const BYTES_AT_ONCE: usize = 1 << 20;

pub struct Redrive {
    producer: FutureProducer<Reporter>,
    topic: String,
    waiting: Vec<Letter>,
    bytes: usize,
}

impl Redrive {
    pub fn to(connection: &Connection, topic: &str) -> Result<Self, StoreError> {
        Ok(Self {
            producer: producer(connection, "userpipeline-redrive")?,
            topic: topic.to_owned(),
            waiting: Vec::new(),
            bytes: 0,
        })
    }

    /// Sends a letter's message with its key, value and headers, and with them its version.
    pub async fn send(&mut self, letter: Letter) -> Result<(), StoreError> {
        self.bytes += letter.message.size();
        self.waiting.push(letter);
        if self.waiting.len() >= AT_ONCE || self.bytes >= BYTES_AT_ONCE {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Waits until everything has arrived.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        let letters = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let (producer, topic) = (&self.producer, &self.topic);
        let sending: Vec<_> = letters
            .iter()
            .map(|letter| send(producer, topic, &letter.message, &letter.message.headers))
            .collect();
        let mut results = stream::iter(sending).buffered(AT_ONCE);
        while let Some(result) = results.next().await {
            result.map_err(|e| errors::explain(&format!("writing to topic `{topic}` (spec.kafka.topic.name)"), &e))?;
        }
        Ok(())
    }
}
