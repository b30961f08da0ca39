//! The TLS mode of connections whose `tls` the spec omits. Pure.

use userpipeline_api::{TlsMode, UserPipeline, condition};

/// `VerifyFull`, except in a pipeline from before this was the default: an upgrade of the operator must not stop it. Such a pipeline
/// has an applied schema, and no mode in its status. It gets the new default for good once its stores have accepted a spec that has
/// `tls` for every connection.
pub fn default_tls_mode(pipeline: &UserPipeline) -> TlsMode {
    let Some(status) = &pipeline.status else {
        return TlsMode::VerifyFull;
    };
    let has_applied_schema = status.schema.as_ref().is_some_and(|schema| schema.applied_hash.is_some());
    let is_plain_text = match status.default_tls_mode {
        Some(recorded) => recorded == TlsMode::Disable,
        None => has_applied_schema,
    };
    let schema_is_ready = status.conditions.iter().any(|found| {
        found.type_ == condition::SCHEMA_READY
            && found.status == "True"
            && found.observed_generation.is_some()
            && found.observed_generation == pipeline.metadata.generation
    });
    let has_tls_everywhere = pipeline.spec.connections_without_tls().is_empty();
    if is_plain_text && !(has_tls_everywhere && schema_is_ready) {
        TlsMode::Disable
    } else {
        TlsMode::VerifyFull
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pipeline::example;

    #[test]
    fn an_omitted_tls_verifies_fully_except_in_a_pipeline_from_before_that_was_the_default() {
        use TlsMode::{Disable, VerifyFull};
        let applied = json!({"appliedHash": "a"});
        let failed = json!({"attemptedHash": "a", "failedAttempts": 3});
        let never = Value::Null;
        let everywhere = &["postgres", "kafka", "cassandra"][..];
        // The recorded mode, the recorded schema, the blocks with `tls`, the generation for which SchemaReady is True.
        for (case, recorded, schema, with_tls, ready_for, expected) in [
            ("a new pipeline", None, &never, &[][..], None, VerifyFull),
            (
                "a new pipeline before its schema is applied",
                Some(VerifyFull),
                &failed,
                &[],
                None,
                VerifyFull,
            ),
            ("a new pipeline with a schema", Some(VerifyFull), &applied, &[], Some(1), VerifyFull),
            ("an older one that never had a schema", None, &failed, &[], None, VerifyFull),
            ("an older one", None, &applied, &[], Some(1), Disable),
            ("an older one, recorded", Some(Disable), &applied, &[], Some(1), Disable),
            ("its lost schema", Some(Disable), &never, &[], None, Disable),
            (
                "tls for some connections",
                Some(Disable),
                &applied,
                &["postgres", "kafka"],
                Some(1),
                Disable,
            ),
            (
                "tls everywhere, not applied yet",
                Some(Disable),
                &applied,
                everywhere,
                Some(0),
                Disable,
            ),
            ("tls everywhere, refused", Some(Disable), &applied, everywhere, None, Disable),
            ("tls everywhere", Some(Disable), &applied, everywhere, Some(1), VerifyFull),
            ("tls everywhere before the upgrade", None, &applied, everywhere, Some(1), VerifyFull),
        ] {
            let mut pipeline = serde_json::to_value(example::pipeline()).unwrap();
            for block in with_tls {
                pipeline["spec"][block]["tls"] = json!({});
            }
            let ready = |generation: i64| {
                json!({"type": "SchemaReady", "status": "True", "reason": "Applied", "message": "", "observedGeneration": generation,
                    "lastTransitionTime": "2025-01-01T00:00:00Z"})
            };
            pipeline["status"] = json!({"defaultTlsMode": recorded, "schema": schema, "conditions": ready_for.map(ready).as_slice()});
            assert_eq!(default_tls_mode(&serde_json::from_value(pipeline).unwrap()), expected, "{case}");
        }
    }
}
