//! A message of the topic, taken out of librdkafka's memory.

use rdkafka::message::{BorrowedMessage, Message as _};
use userpipeline_record::wire;
use userpipeline_stores::kafka::headers;

/// A header: its name, and its value, if it has one.
pub type Header = (String, Option<Vec<u8>>);

/// A message of the topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The partition it came from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its time in milliseconds, if it has one.
    pub timestamp: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub payload: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

impl Message {
    /// A copy of a message that librdkafka holds.
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

    /// The value of a header; the last one counts where there are several.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.as_deref())
    }

    /// When its record was fetched, in milliseconds since 1970; of one that another producer has written, when that was.
    pub fn fetched(&self) -> Option<i64> {
        let said = self.header(wire::FETCHED_HEADER).and_then(|text| std::str::from_utf8(text).ok());
        said.and_then(|text| text.parse().ok()).or(self.timestamp)
    }

    /// Where it came from: partition and offset.
    pub const fn origin(&self) -> (i32, i64) {
        (self.partition, self.offset)
    }

    /// How many bytes it carries.
    pub fn bytes(&self) -> usize {
        let bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(k, v)| k.len() + bytes(v));
        bytes(&self.key) + bytes(&self.payload) + headers.sum::<usize>()
    }

    /// About how many bytes it takes in memory.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.bytes() + 48 * self.headers.len()
    }
}
