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
    /// A sentence, without the record's content where that can be avoided.
    pub message: String,
}

impl Fault {
    /// A fault.
    pub fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
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
                Ok(foreign::document(payload).and_then(|item| foreign::entry(&self.schema, &item, message)))
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
                .map_err(|e| Fault::new("DecodeFailed", e.to_string()))
                .and_then(|item| foreign::entry(&self.schema, &item, message)),
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
    let record = schema.record_of_key(envelope.key).map_err(|why| Fault::new("KeyInvalid", why))?;
    Ok(Entry {
        origin,
        key: envelope.key.to_owned(),
        version: envelope.version,
        record,
        deleted: true,
    })
}

fn read(schema: &RecordSchema, decoder: &Decoder, envelope: &Envelope<'_>, datum: &[u8], origin: (i32, i64)) -> Result<Entry, Fault> {
    let record = decoder.decode(datum).map_err(|e| Fault::new("DecodeFailed", e.to_string()))?;
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
mod tests {
    use userpipeline_record::{FieldType, Value, avro::Encoder};
    use uuid::Uuid;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

    use super::*;

    fn user(id: Uuid) -> Record {
        let value = |t| match t {
            FieldType::Uuid => Value::Uuid(id),
            FieldType::Timestamp => Value::Timestamp(1000),
            _ => Value::String("x".into()),
        };
        Record(RecordSchema::user().fields.iter().map(|f| value(f.field_type)).collect())
    }

    fn message(id: Uuid) -> Message {
        let mut payload = wire::frame(7).to_vec();
        Encoder::new(RecordSchema::user()).unwrap().encode(&user(id), &mut payload).unwrap();
        Message {
            partition: 3,
            offset: 42,
            key: Some(id.to_string().into_bytes()),
            payload: Some(payload),
            headers: vec![("version".into(), Some(b"1700000000000001".to_vec()))],
            ..Message::default()
        }
    }

    fn decode(message: &Message) -> Result<Entry, Fault> {
        let schema = RecordSchema::user();
        let decoder = Decoder::new(schema.clone(), &schema.avro_schema().to_string()).unwrap();
        let envelope = open(message, false)?;
        let (_, datum) = envelope.content.expect("a message without deletes has content");
        read(&schema, &decoder, &envelope, datum, message.origin())
    }

    #[test]
    fn a_message_without_a_value_says_that_its_record_is_no_more_where_records_can_be_deleted() {
        let schema = RecordSchema {
            delete_when: Some(userpipeline_record::Expression::read("has(item.gone)").unwrap()),
            ..RecordSchema::user()
        };
        let id = Uuid::new_v4();
        let gone = Message {
            payload: None,
            ..message(id)
        };
        let entry = |message: &Message| open(message, true).and_then(|envelope| no_more(&schema, &envelope, message.origin()));
        let found = entry(&gone).unwrap();
        assert!(found.deleted);
        assert_eq!((found.key, found.record.0[0].clone()), (id.to_string(), Value::Uuid(id)));
        assert!(found.record.0[1..].iter().all(|value| *value == Value::Null));
        let odd = Message {
            key: Some(b"odd".to_vec()),
            ..gone
        };
        assert_eq!(entry(&odd).unwrap_err().class, "KeyInvalid");
    }

    #[test]
    fn a_record_comes_with_key_version_and_origin() {
        let id = Uuid::new_v4();
        let entry = decode(&message(id)).unwrap();
        assert_eq!(
            entry,
            Entry {
                origin: (3, 42),
                key: id.to_string(),
                version: 1_700_000_000_000_001,
                record: user(id),
                deleted: false
            }
        );
    }

    #[test]
    fn each_fault_of_a_message_has_its_class() {
        let good = message(Uuid::nil());
        let version = |value: &[u8]| Message {
            headers: vec![("version".into(), Some(value.to_vec()))],
            ..good.clone()
        };
        let cases = [
            (
                Message {
                    payload: None,
                    ..good.clone()
                },
                "FrameInvalid",
            ),
            (
                Message {
                    payload: Some(b"{\"json\":1}".to_vec()),
                    ..good.clone()
                },
                "FrameInvalid",
            ),
            (Message { key: None, ..good.clone() }, "KeyMissing"),
            (
                Message {
                    key: Some(vec![0xff]),
                    ..good.clone()
                },
                "KeyInvalid",
            ),
            (
                Message {
                    key: Some(b"another".to_vec()),
                    ..good.clone()
                },
                "KeyMismatch",
            ),
            (
                Message {
                    headers: vec![],
                    ..good.clone()
                },
                "VersionMissing",
            ),
            (version(b""), "VersionInvalid"),
            (version(b"-5"), "VersionInvalid"),
            (version(b"1e3"), "VersionInvalid"),
            (version(b"9223372036854775808"), "VersionInvalid"),
            (
                Message {
                    payload: Some(vec![0, 0, 0, 0, 7, 1, 2, 3]),
                    ..good.clone()
                },
                "DecodeFailed",
            ),
        ];
        for (message, class) in cases {
            assert_eq!(decode(&message).unwrap_err().class, class);
        }
    }

    fn decoders(registry: &MockServer) -> Decoders {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Decoders::new(Some(SchemaRegistry::at(&registry.uri()).unwrap()), RecordSchema::user(), None)
    }

    #[tokio::test]
    async fn a_schema_is_asked_for_once() {
        let registry = MockServer::start().await;
        let schema = serde_json::json!({"schema": RecordSchema::user().avro_schema().to_string()});
        Mock::given(path("/schemas/ids/7"))
            .respond_with(ResponseTemplate::new(200).set_body_json(schema))
            .expect(1)
            .mount(&registry)
            .await;
        let mut decoders = decoders(&registry);
        for _ in 0..3 {
            assert!(decoders.decode(&message(Uuid::new_v4())).await.unwrap().is_ok());
        }
    }

    #[tokio::test]
    async fn an_unknown_schema_is_the_messages_fault_and_a_registry_that_is_down_is_not() {
        let registry = MockServer::start().await;
        Mock::given(path("/schemas/ids/7"))
            .respond_with(ResponseTemplate::new(503))
            .up_to_n_times(1)
            .mount(&registry)
            .await;
        Mock::given(path("/schemas/ids/7"))
            .respond_with(ResponseTemplate::new(404))
            .up_to_n_times(1)
            .mount(&registry)
            .await;
        Mock::given(path("/schemas/ids/7"))
            .respond_with(ResponseTemplate::new(404).set_body_json(serde_json::json!({"error_code": 40403})))
            .expect(1)
            .mount(&registry)
            .await;
        let mut decoders = decoders(&registry);
        let message = message(Uuid::new_v4());
        assert_eq!(decoders.decode(&message).await.unwrap_err().reason, "RegistryUnreachable");
        // Of a proxy, or of a wrong path.
        assert_eq!(decoders.decode(&message).await.unwrap_err().reason, "RegistryFailed");
        for _ in 0..2 {
            assert_eq!(decoders.decode(&message).await.unwrap().unwrap_err().class, "SchemaUnknown");
        }
    }

    #[tokio::test]
    async fn a_schema_of_something_else_is_unreadable() {
        let registry = MockServer::start().await;
        let other = serde_json::json!({"schema": "{\"type\":\"record\",\"name\":\"Other\",\"fields\":[]}"});
        Mock::given(path("/schemas/ids/7"))
            .respond_with(ResponseTemplate::new(200).set_body_json(other))
            .mount(&registry)
            .await;
        let fault = decoders(&registry).decode(&message(Uuid::new_v4())).await.unwrap().unwrap_err();
        assert!(["SchemaUnreadable", "DecodeFailed"].contains(&fault.class), "{fault:?}");
    }
}
