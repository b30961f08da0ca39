//! A message of the topic, copied out of librdkafka's memory.

use rdkafka::message::{BorrowedMessage, Message as _};
use userpipeline_record::message;
use userpipeline_stores::kafka::headers;

/// Name and value.
pub type Header = (String, Option<Vec<u8>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub partition: i32,
    pub offset: i64,
    /// In milliseconds since 1970.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

impl Message {
    pub fn copied(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(headers).unwrap_or_default(),
        }
    }

    /// The value of a header; of several, the last one.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.as_deref())
    }

    /// When its record was fetched, in milliseconds since 1970; with an external producer, when the message was written.
    pub fn fetched(&self) -> Option<i64> {
        let header = self.header(message::FETCHED_HEADER).and_then(|text| std::str::from_utf8(text).ok());
        header.and_then(|text| text.parse().ok()).or(self.timestamp)
    }

    /// Partition and offset.
    pub const fn origin(&self) -> (i32, i64) {
        (self.partition, self.offset)
    }

    /// The bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        let bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(k, v)| k.len() + bytes(v));
        bytes(&self.key) + bytes(&self.payload) + headers.sum::<usize>()
    }

    /// Approximate bytes in memory.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.bytes() + 48 * self.headers.len()
    }
}
