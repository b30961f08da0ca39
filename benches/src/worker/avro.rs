//! The same records as messages in Avro.

use anyhow::{Context, Result};
use serde_json::{Value as Json, json};
use userpipeline_api::names;
use userpipeline_record::{Mapped, RecordSchema, avro::Encoder, message};
use userpipeline_tests::stores;

use super::{
    messages::{Reading, record},
    subject::Subject,
};

/// A pipeline whose topic has messages of its own runs, or of an external producer.
pub async fn create(rows: u64, external: bool) -> Result<Subject> {
    let subject = if external {
        Subject::create("external-avro", &json!({"topic": {"format": "Avro"}})).await?
    } else {
        let never = json!({"http": {"url": "http://localhost/", "pagination": {"type": "Repeat"}, "runDuration": "5s"}});
        Subject::create("avro", &never).await?
    };
    let schema = RecordSchema::read(Some(&serde_json::from_value(record())?)).map_err(anyhow::Error::msg)?;
    let registry = stores::registry().await?;
    let name = names::subject(&subject.topic());
    let id = registry.register(&name, &schema.avro_schema()).await?;
    let encoder = Encoder::new(schema.clone())?;
    let value = |reading: &Reading| -> Result<Vec<u8>> {
        let item: Json = serde_json::from_str(&reading.json())?;
        let Mapped::Upsert(record) = schema.map(&item, None)? else {
            anyhow::bail!("a reading is an upsert")
        };
        let mut value = message::frame(id).to_vec();
        encoder.encode(&record, &mut value)?;
        Ok(value)
    };
    value(&Reading::new(0)).context("a reading in Avro")?;
    subject
        .produce(0..rows, |number| {
            let reading = Reading::new(number);
            (reading.id.to_string(), value(&reading).unwrap_or_default(), Some(reading.revision))
        })
        .await?;
    Ok(subject)
}
