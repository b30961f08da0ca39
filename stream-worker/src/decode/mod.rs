//! From messages to records. What is wrong with a message is a [`Fault`]; what is wrong with the registry is not.

mod foreign;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use userpipeline_api::{TopicFormat, document::WorkerPipeline};
use userpipeline_record::{
    Record, RecordSchema,
    avro::{Decoder, ItemReader},
    wire,
};
use userpipeline_stores::{StoreError, error::REGISTRY_FAILED, schema_registry::SchemaRegistry};

use crate::message::Message;

/// A schema id that the registry did not know is asked for again after this long: it may have been registered since.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// Garbage may name any id; so many unknown ones are remembered.
const UNKNOWN_LIMIT: usize = 1000;

/// Why a message is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A CamelCase word.
    pub class: &'static str,
    /// A sentence.
    pub message: String,
    /// Whether the message may quote the record: then it is for those who may read the dead letters, and nobody else.
    pub quotes: bool,
    /// The record's key and version, where it could be read.
    pub record: Option<(String, i64)>,
}

impl Fault {
    /// A fault, told without the record's content.
    pub fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            quotes: false,
            record: None,
        }
    }

    /// A fault in the words of a library or a store, which may quote the record.
    pub fn quoting(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            quotes: true,
            ..Self::new(class, message)
        }
    }

    /// Of a record that could be read.
    #[must_use]
    pub fn of(self, entry: &Entry) -> Self {
        Self {
            record: Some((entry.key.clone(), entry.version)),
            ..self
        }
    }

    /// What may be told to everybody.
    pub fn told(&self) -> String {
        if self.quotes {
            format!("{}, for a reason that quotes it", self.class)
        } else {
            format!("{}: {}", self.class, self.message)
        }
    }
}

/// A record with its version, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Partition and offset.
    pub origin: (i32, i64),
    /// The record's key.
    pub key: String,
    /// Its version, in microseconds.
    pub version: i64,
    /// Its values; of one that is no more, those of its key.
    pub record: Record,
    /// Whether it is no more.
    pub deleted: bool,
}

/// What a message says before its datum is read.
#[derive(Debug, PartialEq, Eq)]
struct Envelope<'a> {
    key: &'a str,
    version: i64,
    /// The schema's id and the datum; none of a record that is no more.
    content: Option<(u32, &'a [u8])>,
}

fn open(message: &Message, has_deletes: bool) -> Result<Envelope<'_>, Fault> {
    let content = match &message.payload {
        None if has_deletes => None,
        payload => {
            let payload = payload.as_deref().unwrap_or_default();
            Some(wire::split(payload).map_err(|e| Fault::new("FrameInvalid", e.to_string()))?)
        }
    };
    let key = message
        .key
        .as_deref()
        .ok_or_else(|| Fault::new("KeyMissing", "the message has no key"))?;
    let key = std::str::from_utf8(key).map_err(|_| Fault::new("KeyInvalid", "the key is not UTF-8"))?;
    let version = message
        .header(wire::VERSION_HEADER)
        .ok_or_else(|| Fault::new("VersionMissing", "the header `version` is missing"))?;
    let version = std::str::from_utf8(version)
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
        .filter(|v| *v > 0);
    let version = version.ok_or_else(|| Fault::new("VersionInvalid", "the header `version` is not a positive number of microseconds"))?;
    Ok(Envelope { key, version, content })
}

enum Known {
    Decoder(Box<Decoder>),
    Foreign(Box<ItemReader>),
    Unreadable(String),
    Unknown(Instant),
}

/// The decoders, one for each schema that was met.
pub struct Decoders {
    /// None where nothing is Avro.
    registry: Option<SchemaRegistry>,
    schema: RecordSchema,
    /// How others write to the topic, if others do.
    written: Option<TopicFormat>,
    known: HashMap<u32, Known>,
}

impl Decoders {
    /// Decoders to records of `schema`, of messages that our own runs have written, or others in their format.
    pub fn new(registry: Option<SchemaRegistry>, schema: RecordSchema, written: Option<TopicFormat>) -> Self {
        Self {
            registry,
            schema,
            written,
            known: HashMap::new(),
        }
    }

    /// Decoders of what is on a pipeline's topic.
    pub fn of(pipeline: &WorkerPipeline, schema: RecordSchema) -> Result<Self, StoreError> {
        let registry = pipeline.registry_url.as_deref().map(SchemaRegistry::at).transpose()?;
        Ok(Self::new(registry, schema, pipeline.written))
    }

    /// The record in a message. The outer error is the registry's, and passes.
    pub async fn decode(&mut self, message: &Message) -> Result<Result<Entry, Fault>, StoreError> {
        match (self.written, &message.payload) {
            (Some(TopicFormat::Json), Some(payload)) => {
                Ok(foreign::document(payload).and_then(|item| foreign::entry(&self.schema, &item, Some(payload), message)))
            }
            (Some(TopicFormat::Avro), Some(payload)) => match wire::split(payload) {
                Ok((id, datum)) => self.read(id, datum, None, message).await,
                Err(e) => Ok(Err(Fault::new("FrameInvalid", e.to_string()))),
            },
            // Of a record that is no more, others say what we say: key and version.
            (_, _) => match open(message, self.schema.has_deletes()) {
                Err(fault) => Ok(Err(fault)),
                Ok(envelope) => match envelope.content {
                    None => Ok(no_more(&self.schema, &envelope, message.origin())),
                    Some((id, datum)) => self.read(id, datum, Some(&envelope), message).await,
                },
            },
        }
    }

    /// Reads a datum of the schema `id`.
    async fn read(
        &mut self,
        id: u32,
        datum: &[u8],
        envelope: Option<&Envelope<'_>>,
        message: &Message,
    ) -> Result<Result<Entry, Fault>, StoreError> {
        let stale = |known: &Known| matches!(known, Known::Unknown(at) if at.elapsed() > UNKNOWN_FOR);
        if self.known.get(&id).is_none_or(stale) {
            let known = self.look_up(id).await?;
            if matches!(known, Known::Unknown(_)) && self.known.values().filter(|k| matches!(k, Known::Unknown(_))).count() >= UNKNOWN_LIMIT
            {
                self.known.retain(|_, k| !matches!(k, Known::Unknown(_)));
            }
            self.known.insert(id, known);
        }
        Ok(match (&self.known[&id], envelope) {
            (Known::Decoder(decoder), Some(envelope)) => read(&self.schema, decoder, envelope, datum, message.origin()),
            (Known::Foreign(reader), _) => reader
                .read(datum)
                .map_err(|e| Fault::quoting("DecodeFailed", e.to_string()))
                .and_then(|item| foreign::entry(&self.schema, &item, None, message)),
            (Known::Unreadable(why), _) => Err(Fault::new(
                "SchemaUnreadable",
                format!("schema {id} cannot be read as `{}`: {why}", self.schema.name),
            )),
            (Known::Unknown(_) | Known::Decoder(_), _) => Err(Fault::new(
                "SchemaUnknown",
                format!("the schema registry does not know schema {id}"),
            )),
        })
    }

    async fn look_up(&self, id: u32) -> Result<Known, StoreError> {
        // Ids are positive numbers of 31 bits; registries answer others with errors of their own.
        if i32::try_from(id).is_err() {
            return Ok(Known::Unknown(Instant::now()));
        }
        let registry = self
            .registry
            .as_ref()
            .ok_or_else(|| StoreError::configuration(REGISTRY_FAILED, "spec.schemaRegistry is missing: messages are Avro"))?;
        let Some(text) = registry.schema(id).await? else {
            return Ok(Known::Unknown(Instant::now()));
        };
        let known = if self.written.is_some() {
            ItemReader::new(&text).map(|reader| Known::Foreign(Box::new(reader)))
        } else {
            Decoder::new(self.schema.clone(), &text).map(|decoder| Known::Decoder(Box::new(decoder)))
        };
        Ok(known.unwrap_or_else(|e| Known::Unreadable(e.to_string())))
    }
}

/// The entry of a record that is no more: all that there is of it is its key.
fn no_more(schema: &RecordSchema, envelope: &Envelope<'_>, origin: (i32, i64)) -> Result<Entry, Fault> {
    let record = schema
        .record_of_key(envelope.key)
        .map_err(|why| Fault::quoting("KeyInvalid", why))?;
    Ok(Entry {
        origin,
        // Others may have written it in another way: with spaces, or a UUID in capitals.
        key: record.key(schema),
        version: envelope.version,
        record,
        deleted: true,
    })
}

fn read(schema: &RecordSchema, decoder: &Decoder, envelope: &Envelope<'_>, datum: &[u8], origin: (i32, i64)) -> Result<Entry, Fault> {
    let record = decoder.decode(datum).map_err(|e| Fault::quoting("DecodeFailed", e.to_string()))?;
    let key = record.key(schema);
    if key != envelope.key {
        return Err(Fault::new("KeyMismatch", "the message's key is not the record's"));
    }
    Ok(Entry {
        origin,
        key,
        version: envelope.version,
        record,
        deleted: false,
    })
}

#[cfg(test)]
mod tests;
