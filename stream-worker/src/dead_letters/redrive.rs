//! Puts dead letters back on the topic they came from.

use futures::{StreamExt, stream};
use rdkafka::producer::FutureProducer;
use userpipeline_stores::{StoreError, kafka::errors};

use super::letter::Letter;

/// So many are on their way at once,
const AT_ONCE: usize = 200;
/// or so many bytes of them: the worker beside which this runs has little memory to spare.
const BYTES_AT_ONCE: usize = 1 << 20;

/// Where letters go.
pub struct Redrive {
    producer: FutureProducer,
    topic: String,
    waiting: Vec<Letter>,
    bytes: usize,
}

impl Redrive {
    /// Letters go to `topic`.
    pub fn to(brokers: &str, topic: &str) -> Result<Self, StoreError> {
        Ok(Self {
            producer: super::producer(brokers, "userpipeline-redrive")?,
            topic: topic.to_owned(),
            waiting: Vec::new(),
            bytes: 0,
        })
    }

    /// Sends a letter's message as it was: its key, value and headers, and with them its version.
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
            .map(|letter| super::send(producer, topic, &letter.message, &letter.message.headers))
            .collect();
        let mut results = stream::iter(sending).buffered(AT_ONCE);
        while let Some(result) = results.next().await {
            result.map_err(|e| errors::explain(&format!("writing to topic `{topic}` (spec.kafka.topic.name)"), &e))?;
        }
        Ok(())
    }
}
