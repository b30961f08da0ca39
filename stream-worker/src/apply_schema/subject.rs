//! The schema's subject in the registry.

use userpipeline_api::{document::SchemaPipeline, names};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{StoreError, schema_registry::SchemaRegistry};

use crate::claims::{Claims, Kind};

/// Sets the subject's compatibility, then registers the schema under it. The result is the schema's id.
pub async fn apply(pipeline: &SchemaPipeline, schema: &RecordSchema, claims: &Claims) -> Result<u32, StoreError> {
    let registry = SchemaRegistry::at(&pipeline.schema_registry.url)?;
    let subject = names::subject(&pipeline.topic);
    let level = pipeline.schema_registry.compatibility;
    // Of a subject that is not there yet some registries keep no level; its first version is compatible with anything.
    let there = registry.has_subject(&subject).await?;
    claims.take(Kind::Subject, registry.url(), &subject, !there).await?;
    if there {
        registry.set_compatibility(&subject, level).await?;
    }
    let id = registry.register(&subject, &schema.avro_schema()).await?;
    if !there {
        registry.set_compatibility(&subject, level).await?;
    }
    tracing::info!(subject, id, "schema registered");
    Ok(id)
}
