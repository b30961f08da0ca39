use userpipeline_record::{
    FieldType, Record, RecordSchema, Value,
    avro::{Decoder, Encoder},
    message,
};
use userpipeline_stores::schema_registry::Connection;
use uuid::Uuid;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use super::{
    decoded::Decoded,
    decoders::{Decoders, deleted, read},
    envelope::open,
};
use crate::model::{Message, RecordFault, VersionedRecord};

fn user(id: Uuid) -> Record {
    let value = |t| match t {
        FieldType::Uuid => Value::Uuid(id),
        FieldType::Timestamp => Value::Timestamp(1000),
        _ => Value::String("x".into()),
    };
    Record(RecordSchema::user().fields.iter().map(|f| value(f.field_type)).collect())
}

fn message(id: Uuid) -> Message {
    let mut payload = message::frame(7).to_vec();
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

fn decode(message: &Message) -> Result<Decoded, RecordFault> {
    let schema = RecordSchema::user();
    let decoder = Decoder::new(schema.clone(), &schema.avro_schema().to_string()).unwrap();
    let envelope = open(message, false)?;
    let (_, datum) = envelope.content.expect("a message without deletes has content");
    read(&schema, &decoder, &envelope, datum, message.origin())
}

#[test]
fn a_message_without_a_value_is_a_delete_where_records_can_be_deleted() {
    let schema = RecordSchema {
        delete_when: Some(userpipeline_record::Expression::compile("has(item.gone)").unwrap()),
        ..RecordSchema::user()
    };
    let id = Uuid::new_v4();
    let gone = Message {
        payload: None,
        ..message(id)
    };
    let entry = |message: &Message| open(message, true).and_then(|envelope| deleted(&schema, &envelope, message.origin()));
    let Decoded::Delete(found) = entry(&gone).unwrap() else {
        panic!("it is a delete")
    };
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
        Decoded::Upsert(VersionedRecord {
            origin: (3, 42),
            key: id.to_string(),
            version: 1_700_000_000_000_001,
            order: None,
            record: user(id),
        })
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

fn fault(decoded: Decoded) -> RecordFault {
    let Decoded::Fault(fault) = decoded else {
        panic!("not a fault: {decoded:?}")
    };
    fault
}

fn decoders(registry: &MockServer) -> Decoders {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Decoders::new(Some(Connection::to(&registry.uri()).connect().unwrap()), RecordSchema::user(), None)
}

#[tokio::test]
async fn a_schema_is_looked_up_once() {
    let registry = MockServer::start().await;
    let schema = serde_json::json!({"schema": RecordSchema::user().avro_schema().to_string()});
    Mock::given(path("/schemas/ids/7"))
        .respond_with(ResponseTemplate::new(200).set_body_json(schema))
        .expect(1)
        .mount(&registry)
        .await;
    let mut decoders = decoders(&registry);
    for _ in 0..3 {
        let decoded = decoders.decode(&message(Uuid::new_v4())).await.unwrap();
        assert!(matches!(decoded, Decoded::Upsert(_)), "{decoded:?}");
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
        assert_eq!(fault(decoders.decode(&message).await.unwrap()).class, "SchemaUnknown");
    }
}

#[tokio::test]
async fn a_schema_of_another_record_is_unreadable() {
    let registry = MockServer::start().await;
    let other = serde_json::json!({"schema": "{\"type\":\"record\",\"name\":\"Other\",\"fields\":[]}"});
    Mock::given(path("/schemas/ids/7"))
        .respond_with(ResponseTemplate::new(200).set_body_json(other))
        .mount(&registry)
        .await;
    let fault = fault(decoders(&registry).decode(&message(Uuid::new_v4())).await.unwrap());
    assert!(["SchemaUnreadable", "DecodeFailed"].contains(&fault.class), "{fault:?}");
}
