//! The TLS mode of stores whose `tls` is omitted. Pure.

use userpipeline_api::{ResolvedSpec, TlsMode, UserPipelineStatus};

/// What holds for PostgreSQL, Kafka and Cassandra where neither the pipeline nor its connections have `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultTls {
    pub mode: TlsMode,
    /// The blocks without `tls`.
    pub missing: Vec<&'static str>,
}

impl DefaultTls {
    /// `VerifyFull`, except in a pipeline from before this was the default: an upgrade of the operator must not stop it. Such a
    /// pipeline has an applied schema, and no mode in its status. It gets the new default for good once its stores have accepted a
    /// spec that has `tls` for each of them: once a schema with this hash is applied.
    pub fn of(status: Option<&UserPipelineStatus>, spec: &ResolvedSpec, schema_hash: &str) -> Self {
        let missing = spec.stores_without_tls();
        let schema = status.and_then(|status| status.schema.clone()).unwrap_or_default();
        let is_plain_text = match status.and_then(|status| status.default_tls_mode) {
            Some(recorded) => recorded == TlsMode::Disable,
            None => schema.applied_hash.is_some(),
        };
        let is_applied = schema.applied_hash.as_deref() == Some(schema_hash);
        let mode = if is_plain_text && !(missing.is_empty() && is_applied) {
            TlsMode::Disable
        } else {
            TlsMode::VerifyFull
        };
        Self { mode, missing }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use userpipeline_api::{Connections, resolve};

    use super::*;
    use crate::pipeline::example;

    #[test]
    fn an_omitted_tls_verifies_fully_except_in_a_pipeline_from_before_that_was_the_default() {
        use TlsMode::{Disable, VerifyFull};
        // The hash of the current spec is `a`.
        let applied = json!({"appliedHash": "a"});
        let refused = json!({"appliedHash": "b", "attemptedHash": "a", "failedAttempts": 3});
        let failed = json!({"attemptedHash": "a", "failedAttempts": 3});
        let never = Value::Null;
        let everywhere = &["postgres", "kafka", "cassandra"][..];
        // The recorded mode, the recorded schema, the blocks with `tls`.
        for (case, recorded, schema, with_tls, expected) in [
            ("a new pipeline", None, &never, &[][..], VerifyFull),
            (
                "a new pipeline before its schema is applied",
                Some(VerifyFull),
                &failed,
                &[],
                VerifyFull,
            ),
            ("a new pipeline with a schema", Some(VerifyFull), &applied, &[], VerifyFull),
            ("an older one that never had a schema", None, &failed, &[], VerifyFull),
            ("an older one", None, &applied, &[], Disable),
            ("an older one, recorded", Some(Disable), &applied, &[], Disable),
            ("its lost schema", Some(Disable), &never, &[], Disable),
            ("tls for some stores", Some(Disable), &applied, &["postgres", "kafka"], Disable),
            (
                "tls everywhere, not applied yet",
                Some(Disable),
                &json!({"appliedHash": "b"}),
                everywhere,
                Disable,
            ),
            ("tls everywhere, refused", Some(Disable), &refused, everywhere, Disable),
            ("tls everywhere", Some(Disable), &applied, everywhere, VerifyFull),
            ("tls everywhere before the upgrade", None, &applied, everywhere, VerifyFull),
        ] {
            let mut pipeline = serde_json::to_value(example::pipeline()).unwrap();
            for block in with_tls {
                pipeline["spec"][block]["tls"] = json!({});
            }
            let status = serde_json::from_value(json!({"defaultTlsMode": recorded, "schema": schema})).unwrap();
            let resolved = resolve(&serde_json::from_value(pipeline).unwrap(), &Connections::new()).unwrap();
            let default = DefaultTls::of(Some(&status), &resolved.spec, "a");
            assert_eq!(default.mode, expected, "{case}");
            assert_eq!(default.missing.len(), 3 - with_tls.len(), "{case}");
        }
    }
}
