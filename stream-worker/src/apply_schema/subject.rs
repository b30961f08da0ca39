//! The schema's subject in the registry.

use serde_json::Value as Json;
use userpipeline_api::{Compatibility, document::SchemaPipeline, names};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{StoreError, error::SCHEMA_INCOMPATIBLE, schema_registry::SchemaRegistry};

use super::Hand;
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
    claims.take(Kind::Subject, registry.url(), &subject, !there).await?;
    if let Some(last) = last {
        verify_nothing_required_is_gone(&subject, &last, schema)?;
    }
    if hand.only_says() {
        return plan(&registry, &subject, there, level, schema, hand).await;
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

/// A field that every row had cannot be taken back: a registry may find that compatible, and Cassandra's table does not know.
fn verify_nothing_required_is_gone(subject: &str, last: &Json, schema: &RecordSchema) -> Result<(), StoreError> {
    let fields = last.get("fields").and_then(Json::as_array).into_iter().flatten();
    let mut required = fields
        .filter(|field| field.get("default").is_none())
        .filter_map(|field| field.get("name")?.as_str());
    let Some(gone) = required.find(|name| !schema.fields.iter().any(|field| field.name == *name)) else {
        return Ok(());
    };
    Err(StoreError::configuration(
        SCHEMA_INCOMPATIBLE,
        format!(
            "field `{gone}` is no longer in spec.record, and is neither optional nor has a default in the last version of subject `{subject}`: \
             only a field that a record may lack can be taken back; put it back, or make a new pipeline"
        ),
    ))
}

/// What would be done about the subject. The result is the schema's id, or 0 where it has none yet.
async fn plan(
    registry: &SchemaRegistry,
    subject: &str,
    there: bool,
    level: Option<Compatibility>,
    schema: &RecordSchema,
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
    let _ = hand.does(|| format!("registry: subject {subject} gets another version"));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_field_that_a_record_may_lack_can_be_taken_back() {
        let schema = RecordSchema::user();
        let last = |more: &[Json]| {
            let mut last = schema.avro_schema();
            last["fields"].as_array_mut().unwrap().extend_from_slice(more);
            last
        };
        let optional = json!({"name": "city", "type": ["null", "string"], "default": null});
        let defaulted = json!({"name": "points", "type": "long", "default": 0});
        let required = json!({"name": "age", "type": "long"});
        assert_eq!(verify_nothing_required_is_gone("s", &last(&[]), &schema), Ok(()));
        assert_eq!(verify_nothing_required_is_gone("s", &last(&[optional, defaulted]), &schema), Ok(()));
        let refused = verify_nothing_required_is_gone("s", &last(&[required]), &schema).unwrap_err();
        assert_eq!(refused.reason, SCHEMA_INCOMPATIBLE);
        assert!(
            refused.message.contains("field `age` is no longer in spec.record"),
            "{}",
            refused.message
        );
    }
}
