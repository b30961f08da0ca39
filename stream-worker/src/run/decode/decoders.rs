//! Messages of a pipeline's topic as records, with the schemas of the registry.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use userpipeline_api::{TopicFormat, document::WorkerPipeline};
use userpipeline_record::{
    Members, RecordSchema,
    avro::{Decoder, ItemReader},
    message,
};
use userpipeline_stores::{
    Secrets, StoreError,
    error::REGISTRY_FAILED,
    schema_registry::{Connection, SchemaRegistry},
};

use super::{
    decoded::Decoded,
    envelope::{Envelope, open},
    external,
};
use crate::model::{Message, RecordFault, VersionedRecord};

/// A schema id that the registry did not know is looked up again after this long: it may have been registered since.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// Garbage may name any id; bounds the unknown ones that are cached.
const UNKNOWN_LIMIT: usize = 1000;

/// What is known of a schema.
enum Known {
    Decoder(Box<Decoder>),
    External(Box<ItemReader>),
    Unreadable(String),
    Unknown(Instant),
}

/// The decoders, one for each schema that was used.
pub struct Decoders {
    /// None where nothing is Avro.
    registry: Option<SchemaRegistry>,
    schema: RecordSchema,
    /// If a record is made of members of its item only.
    members: Option<Members>,
    /// The format of an external producer, if the topic has one.
    external: Option<TopicFormat>,
    known: HashMap<u32, Known>,
}

impl Decoders {
    pub fn new(registry: Option<SchemaRegistry>, schema: RecordSchema, external: Option<TopicFormat>) -> Self {
        Self {
            registry,
            members: Members::of(&schema),
            schema,
            external,
            known: HashMap::new(),
        }
    }

    /// Decoders for a pipeline's topic.
    pub fn of(pipeline: &WorkerPipeline, schema: RecordSchema, secrets: &Secrets) -> Result<Self, StoreError> {
        let connect = |registry| Connection::new(registry, secrets).connect();
        let registry = pipeline.registry.as_ref().map(connect).transpose()?;
        Ok(Self::new(registry, schema, pipeline.written))
    }

    /// What a message is. The error is the registry's, and worth a retry.
    pub async fn decode(&mut self, message: &Message) -> Result<Decoded, StoreError> {
        Ok(self.outcome(message).await?.unwrap_or_else(Decoded::Fault))
    }

    async fn outcome(&mut self, message: &Message) -> Result<Result<Decoded, RecordFault>, StoreError> {
        match (self.external, &message.payload) {
            (Some(TopicFormat::Json), Some(payload)) => Ok(external::from_json(&self.schema, self.members.as_ref(), payload, message)),
            (Some(TopicFormat::Avro), Some(payload)) => match message::split(payload) {
                Ok((id, datum)) => self.read(id, datum, None, message).await,
                Err(e) => Ok(Err(RecordFault::new("FrameInvalid", e.to_string()))),
            },
            // For a deleted record, external producers send the same as our runs: key and version.
            (_, _) => match open(message, self.schema.has_messages_without_value()) {
                Err(fault) => Ok(Err(fault)),
                Ok(envelope) => match envelope.content {
                    None => Ok(deleted(&self.schema, &envelope, message.origin()).map(|deleted| {
                        let order = self.external.and_then(|_| self.schema.order_of_version(envelope.version));
                        deleted.with_order(order)
                    })),
                    Some((id, datum)) => self.read(id, datum, Some(&envelope), message).await,
                },
            },
        }
    }

    /// Decodes a datum of the schema `id`.
    async fn read(
        &mut self,
        id: u32,
        datum: &[u8],
        envelope: Option<&Envelope<'_>>,
        message: &Message,
    ) -> Result<Result<Decoded, RecordFault>, StoreError> {
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
            (Known::External(reader), _) => external::from_avro(&self.schema, reader, datum, message),
            (Known::Unreadable(why), _) => Err(RecordFault::new(
                "SchemaUnreadable",
                format!("schema {id} cannot be read as `{}`: {why}", self.schema.name),
            )),
            (Known::Unknown(_) | Known::Decoder(_), _) => Err(RecordFault::new(
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
        let known = if self.external.is_some() {
            ItemReader::new(&text, self.members.as_ref()).map(|reader| Known::External(Box::new(reader)))
        } else {
            Decoder::new(self.schema.clone(), &text).map(|decoder| Known::Decoder(Box::new(decoder)))
        };
        Ok(known.unwrap_or_else(|e| Known::Unreadable(e.to_string())))
    }
}

/// A deleted record: only its key is known.
pub(super) fn deleted(schema: &RecordSchema, envelope: &Envelope<'_>, origin: (i32, i64)) -> Result<Decoded, RecordFault> {
    let record = schema
        .record_of_key(envelope.key)
        .map_err(|why| RecordFault::quoting("KeyInvalid", why))?;
    Ok(Decoded::Delete(VersionedRecord {
        origin,
        // An external producer may write it differently: with spaces, or a UUID in capitals.
        key: record.key(schema),
        version: envelope.version,
        order: None,
        record,
    }))
}

pub(super) fn read(
    schema: &RecordSchema,
    decoder: &Decoder,
    envelope: &Envelope<'_>,
    datum: &[u8],
    origin: (i32, i64),
) -> Result<Decoded, RecordFault> {
    let record = decoder
        .decode(datum)
        .map_err(|e| RecordFault::quoting("DecodeFailed", e.to_string()))?;
    let key = record.key(schema);
    if key != envelope.key {
        return Err(RecordFault::new("KeyMismatch", "the message's key is not the record's"));
    }
    Ok(Decoded::Upsert(VersionedRecord {
        origin,
        key,
        version: envelope.version,
        order: None,
        record,
    }))
}
