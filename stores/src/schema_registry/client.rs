//! A client of Confluent's registry API.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use userpipeline_api::{Compatibility, text::truncate};

use super::{connection::Connection, refusal};
use crate::{
    StoreError,
    error::{REGISTRY_FAILED, SCHEMA_INCOMPATIBLE},
};

/// In bytes; schemas are much smaller.
const MAX_ANSWER: usize = 4 << 20;
/// Bytes of an error response that a message quotes.
const MAX_REASON: usize = 300;

#[derive(Clone, Debug)]
pub struct SchemaRegistry {
    connection: Connection,
}

impl Connection {
    /// A client; it connects with the first request. Fails here where its files are missing.
    pub fn connect(&self) -> Result<SchemaRegistry, StoreError> {
        self.request(|client| client.get(&self.url))?;
        Ok(SchemaRegistry { connection: self.clone() })
    }
}

impl SchemaRegistry {
    pub fn url(&self) -> &str {
        &self.connection.url
    }

    /// Requests the list of subjects, which every user may read.
    pub async fn verify(&self) -> Result<(), StoreError> {
        self.call(Method::GET, "/subjects", None).await.map(drop)
    }

    pub async fn set_compatibility(&self, subject: &str, level: Compatibility) -> Result<(), StoreError> {
        self.call(
            Method::PUT,
            &format!("/config/{subject}"),
            Some(json!({"compatibility": level.as_str()})),
        )
        .await
        .map(drop)
    }

    /// A subject's own compatibility level; none where the registry's global level applies.
    pub async fn compatibility(&self, subject: &str) -> Result<Option<String>, StoreError> {
        let path = format!("/config/{subject}");
        match self.send(Method::GET, &path, None).await? {
            (status, answer) if not_found(status, &answer) => Ok(None),
            (status, answer) => {
                let answer = self.checked(status, &answer, &path)?;
                Ok(answer.get("compatibilityLevel").and_then(Value::as_str).map(str::to_owned))
            }
        }
    }

    /// Checks that a schema could be the next version of a subject; the error has the registry's reasons.
    pub async fn verify_compatible(&self, subject: &str, schema: &Value) -> Result<(), StoreError> {
        let body = json!({"schema": schema.to_string(), "schemaType": "AVRO"});
        let path = format!("/compatibility/subjects/{subject}/versions/latest?verbose=true");
        let answer = self.call(Method::POST, &path, Some(body)).await?;
        if answer.get("is_compatible").and_then(Value::as_bool) == Some(true) {
            return Ok(());
        }
        let why = answer.get("messages").cloned().unwrap_or_default();
        Err(StoreError::configuration(
            SCHEMA_INCOMPATIBLE,
            format!(
                "the schema registry at {} finds the schema incompatible with subject `{subject}`: {why}",
                self.url()
            ),
        ))
    }

    /// Registers a schema under a subject and returns its id; the same schema again has the same id.
    pub async fn register(&self, subject: &str, schema: &Value) -> Result<u32, StoreError> {
        #[derive(Deserialize)]
        struct Registered {
            id: u32,
        }
        let body = json!({"schema": schema.to_string(), "schemaType": "AVRO"});
        let answer = self
            .call(Method::POST, &format!("/subjects/{subject}/versions"), Some(body))
            .await?;
        serde_json::from_value::<Registered>(answer)
            .map(|r| r.id)
            .map_err(|e| self.failed(&format!("registering under `{subject}` gave an unexpected answer: {e}")))
    }

    /// The id of a schema under a subject, if it is registered there.
    pub async fn id_of(&self, subject: &str, schema: &Value) -> Result<Option<u32>, StoreError> {
        #[derive(Deserialize)]
        struct Found {
            id: u32,
        }
        let body = json!({"schema": schema.to_string(), "schemaType": "AVRO"});
        match self.send(Method::POST, &format!("/subjects/{subject}"), Some(body)).await? {
            (status, answer) if not_found(status, &answer) => Ok(None),
            (status, answer) => {
                let answer = self.checked(status, &answer, subject)?;
                serde_json::from_value::<Found>(answer)
                    .map(|f| Some(f.id))
                    .map_err(|e| self.failed(&format!("looking up `{subject}` gave an unexpected answer: {e}")))
            }
        }
    }

    /// Deletes a subject with all its versions, permanently; a missing one is no error.
    pub async fn delete_subject(&self, subject: &str) -> Result<(), StoreError> {
        // Registries require a soft delete before a permanent one.
        for path in [format!("/subjects/{subject}"), format!("/subjects/{subject}?permanent=true")] {
            let (status, answer) = self.send(Method::DELETE, &path, None).await?;
            if !not_found(status, &answer) {
                self.checked(status, &answer, &path)?;
            }
        }
        Ok(())
    }

    /// The latest version of a subject's schema; none where it has no version, null where it is not JSON (Protobuf).
    pub async fn latest(&self, subject: &str) -> Result<Option<Value>, StoreError> {
        #[derive(Deserialize)]
        struct Version {
            schema: String,
        }
        let path = format!("/subjects/{subject}/versions/latest");
        match self.send(Method::GET, &path, None).await? {
            (status, answer) if not_found(status, &answer) => Ok(None),
            (status, answer) => serde_json::from_value::<Version>(self.checked(status, &answer, &path)?)
                .map(|version| Some(serde_json::from_str(&version.schema).unwrap_or_default()))
                .map_err(|e| self.failed(&format!("{path} gave an unexpected answer: {e}"))),
        }
    }

    /// The schema of an id, as text; none where the registry has no such id.
    pub async fn schema(&self, id: u32) -> Result<Option<String>, StoreError> {
        #[derive(Deserialize)]
        struct Schema {
            schema: String,
        }
        match self.send(Method::GET, &format!("/schemas/ids/{id}"), None).await? {
            (status, answer) if not_found(status, &answer) => Ok(None),
            (status, answer) => {
                let answer = self.checked(status, &answer, &format!("schema {id}"))?;
                serde_json::from_value::<Schema>(answer)
                    .map(|s| Some(s.schema))
                    .map_err(|e| self.failed(&format!("schema {id} gave an unexpected answer: {e}")))
            }
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, StoreError> {
        let (status, answer) = self.send(method, path, body).await?;
        self.checked(status, &answer, path)
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Vec<u8>), StoreError> {
        let (client, request) = self.connection.request(|client| {
            let request = client
                .request(method, format!("{}{path}", self.url()))
                .header("accept", "application/vnd.schemaregistry.v1+json, application/json");
            match body {
                Some(body) => request.json(&body),
                None => request,
            }
        })?;
        let unreachable = |e: &reqwest::Error| refusal::unreachable(self.url(), &self.connection.wire, e);
        let mut response = client.execute(request).await.map_err(|e| unreachable(&e))?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| unreachable(&e))? {
            answer.extend_from_slice(&chunk);
            if answer.len() > MAX_ANSWER {
                return Err(self.failed(&format!("{path} gave more than {MAX_ANSWER} bytes")));
            }
        }
        Ok((status, answer))
    }

    fn checked(&self, status: StatusCode, answer: &[u8], what: &str) -> Result<Value, StoreError> {
        if status.is_success() {
            return serde_json::from_slice(answer).map_err(|e| self.failed(&format!("{what} gave no JSON: {e}")));
        }
        let reason = serde_json::from_slice::<Value>(answer)
            .ok()
            .and_then(|v| v.get("message").and_then(Value::as_str).map(str::to_owned))
            .unwrap_or_else(|| truncate(&String::from_utf8_lossy(answer), MAX_REASON));
        Err(refusal::refused(self.url(), &self.connection.wire, status, what, &reason))
    }

    fn failed(&self, what: &str) -> StoreError {
        StoreError::configuration(REGISTRY_FAILED, format!("the schema registry at {}: {what}", self.url()))
    }
}

/// Whether the registry itself reports that a subject, version or schema does not exist. A bare 404 comes from a proxy or a
/// wrong path; treating it as an answer would turn a whole topic into dead letters.
fn not_found(status: StatusCode, answer: &[u8]) -> bool {
    let code = || serde_json::from_slice::<Value>(answer).ok()?.get("error_code")?.as_i64();
    status == StatusCode::NOT_FOUND && code().is_some_and(|code| (40_401..40_500).contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_registrys_own_word_makes_a_schema_unknown() {
        for (status, answer, expected) in [
            (404, r#"{"error_code":40403,"message":"Schema 7 not found"}"#, true),
            (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#, false),
            (404, "<html>nginx</html>", false),
            (404, "", false),
            (500, r#"{"error_code":40403}"#, false),
        ] {
            assert_eq!(
                not_found(StatusCode::from_u16(status).unwrap(), answer.as_bytes()),
                expected,
                "{status} {answer}"
            );
        }
    }
}
