//! The schema's subject in the registry.

use userpipeline_api::{Compatibility, document::SchemaPipeline, names};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{
    Secrets, StoreError,
    error::SUBJECT_NOT_CREATED,
    schema_registry::{Connection, SchemaRegistry},
};

use super::evolution;
use crate::{
    claims::{Claims, Kind},
    created_objects::Creator,
    mode::Mode,
};

/// Sets the subject's compatibility where one is declared, then registers the schema. Returns the schema's id.
pub async fn apply(
    pipeline: &SchemaPipeline,
    declared: &userpipeline_api::SchemaRegistry,
    secrets: &Secrets,
    schema: &RecordSchema,
    claims: &Claims,
    mode: &Mode,
) -> Result<u32, StoreError> {
    let registry = Connection::new(declared, secrets).connect()?;
    let subject = names::subject(&pipeline.topic);
    let level = declared.compatibility;
    // Some registries store no level for a missing subject; its first version is compatible with anything.
    let last = registry.latest(&subject).await?;
    let exists = last.is_some();
    let creator = claims.take(Kind::Subject, registry.url(), &subject, !exists).await?;
    let has_own_versions = matches!(creator, Some(Creator::Pipeline | Creator::Claimed));
    if let Some(level) = level.filter(|_| exists) {
        let found = registry.compatibility(&subject).await?;
        verify_level(&subject, level, found.as_deref(), creator, pipeline.kafka.topic.adopt)?;
    }
    let changes = match &last {
        Some(last) if has_own_versions => evolution::changes(&subject, last, &schema.avro_schema())?,
        // The versions of a foreign subject are not this record's.
        _ => Vec::new(),
    };
    if mode.is_dry_run() {
        return plan(&registry, &subject, exists, level, schema, &changes, mode).await;
    }
    if let Some(level) = level.filter(|_| exists) {
        registry.set_compatibility(&subject, level).await?;
    }
    let id = registry.register(&subject, &schema.avro_schema()).await?;
    if let Some(level) = level.filter(|_| !exists) {
        registry.set_compatibility(&subject, level).await?;
    }
    tracing::info!(subject, id, "schema registered");
    Ok(id)
}

/// Whether the subject may get this compatibility level: that of a foreign one protects the data of others. It gets new versions only
/// as far as its level allows.
fn verify_level(subject: &str, level: Compatibility, found: Option<&str>, creator: Option<Creator>, adopt: bool) -> Result<(), StoreError> {
    let is_own = matches!(creator, None | Some(Creator::Pipeline)) || adopt;
    if is_own || found == Some(level.as_str()) {
        return Ok(());
    }
    let found = found.unwrap_or("that of the registry");
    Err(StoreError::configuration(
        SUBJECT_NOT_CREATED,
        format!(
            "subject `{subject}` exists with the compatibility level {found}, and status.createdObjects does not say that this pipeline created it: remove \
             spec.schemaRegistry.compatibility ({}), or take the subject over with spec.kafka.topic.adopt: true",
            level.as_str()
        ),
    ))
}

/// Records the changes of a dry run. Returns the schema's id, or 0 where it has none yet.
async fn plan(
    registry: &SchemaRegistry,
    subject: &str,
    exists: bool,
    level: Option<Compatibility>,
    schema: &RecordSchema,
    changes: &[String],
    mode: &Mode,
) -> Result<u32, StoreError> {
    if !exists {
        let compatibility = level.map(|level| format!(", compatibility {}", level.as_str())).unwrap_or_default();
        let _ = mode.applies(|| format!("registry: subject {subject} gets its first version{compatibility}"));
        return Ok(0);
    }
    if let Some(level) = level {
        let found = registry.compatibility(subject).await?;
        if found.as_deref() != Some(level.as_str()) {
            let before = found.unwrap_or_else(|| "the registry's own".to_owned());
            let _ = mode.applies(|| {
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
    let _ = mode.applies(|| format!("registry: subject {subject} gets another version{changes}"));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_subject_of_others_is_not_changed_unless_it_is_adopted() {
        use Creator::{Claimed, Other, Pipeline};
        for (creator, found, adopt, allowed) in [
            (Some(Pipeline), Some("BACKWARD"), false, true),
            (None, Some("BACKWARD"), false, true),
            (Some(Other), Some("BACKWARD"), false, false),
            (Some(Claimed), Some("BACKWARD"), false, false),
            (Some(Other), None, false, false),
            (Some(Other), Some("FULL"), false, true),
            (Some(Other), Some("BACKWARD"), true, true),
        ] {
            let result = verify_level("payments-value", Compatibility::Full, found, creator, adopt);
            assert_eq!(result.is_ok(), allowed, "{creator:?} {found:?} {adopt}");
            if let Err(error) = result {
                assert_eq!(error.reason, SUBJECT_NOT_CREATED);
                assert!(
                    error.message.contains("payments-value") && error.message.contains("(FULL)"),
                    "{}",
                    error.message
                );
            }
        }
    }
}
