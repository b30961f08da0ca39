//! The schema's subject in the registry.

use userpipeline_api::{Compatibility, document::SchemaPipeline, names};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{StoreError, schema_registry::SchemaRegistry};

use super::{Hand, evolution};
use crate::claims::{Claims, Kind};

/// Sets the subject's compatibility where one is declared, then registers the schema under it. The result is the schema's id.
pub async fn apply(
    pipeline: &SchemaPipeline,
    wanted: &userpipeline_api::SchemaRegistry,
    schema: &RecordSchema,
    claims: &Claims,
    hand: &Hand,
) -> Result<u32, StoreError> {
    let registry = SchemaRegistry::at(&wanted.url)?;
    let subject = names::subject(&pipeline.topic);
    let level = wanted.compatibility;
    // Of a subject that is not there yet some registries keep no level; its first version is compatible with anything.
    let last = registry.latest(&subject).await?;
    let there = last.is_some();
    let ours = claims.take(Kind::Subject, registry.url(), &subject, !there).await?;
    let changes = match &last {
        Some(last) if ours => evolution::changes(&subject, last, &schema.avro_schema())?,
        // What somebody else has put there is not to be judged by what our records were.
        _ => Vec::new(),
    };
    if hand.only_says() {
        return plan(&registry, &subject, there, level, schema, &changes, hand).await;
    }
    if let Some(level) = level.filter(|_| there) {
        registry.set_compatibility(&subject, level).await?;
    }
    let id = registry.register(&subject, &schema.avro_schema()).await?;
    if let Some(level) = level.filter(|_| !there) {
        registry.set_compatibility(&subject, level).await?;
    }
    tracing::info!(subject, id, "schema registered");
    Ok(id)
}

/// What would be done about the subject. The result is the schema's id, or 0 where it has none yet.
async fn plan(
    registry: &SchemaRegistry,
    subject: &str,
    there: bool,
    level: Option<Compatibility>,
    schema: &RecordSchema,
    changes: &[String],
    hand: &Hand,
) -> Result<u32, StoreError> {
    if !there {
        let declared = level.map(|level| format!(", compatibility {}", level.as_str())).unwrap_or_default();
        let _ = hand.does(|| format!("registry: subject {subject} gets its first version{declared}"));
        return Ok(0);
    }
    if let Some(level) = level {
        let found = registry.compatibility(subject).await?;
        if found.as_deref() != Some(level.as_str()) {
            let before = found.unwrap_or_else(|| "the registry's own".to_owned());
            let _ = hand.does(|| {
                format!(
                    "registry: subject {subject} gets compatibility {} instead of {before}",
                    level.as_str()
                )
            });
        }
    }
    if let Some(id) = registry.id_of(subject, &schema.avro_schema()).await? {
        return Ok(id);
    }
    registry.verify_compatible(subject, &schema.avro_schema()).await?;
    let changes = if changes.is_empty() {
        String::new()
    } else {
        format!(", which {}", changes.join(", "))
    };
    let _ = hand.does(|| format!("registry: subject {subject} gets another version{changes}"));
    Ok(0)
}
