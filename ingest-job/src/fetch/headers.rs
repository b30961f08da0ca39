//! The headers of a request.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use userpipeline_api::{Header, HttpSource, Method};
use userpipeline_stores::Secrets;

use crate::outcome::{Failure, PIPELINE_INVALID};

/// The headers that the spec sets. Secrets are read for each request, so that a rotated one takes effect during a run.
pub fn headers(http: &HttpSource, secrets: &Secrets) -> Result<HeaderMap, Failure> {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::from_iter([(ACCEPT, json.clone())]);
    if http.method == Method::Post {
        headers.insert(CONTENT_TYPE, json);
    }
    for (i, header) in http.headers.iter().enumerate() {
        let field = format!("spec.source.http.headers[{i}]");
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| Failure::configuration(PIPELINE_INVALID, format!("{field}.name is not a valid header name")))?;
        let value = value(header, &name, &field, secrets)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn value(header: &Header, name: &HeaderName, field: &str, secrets: &Secrets) -> Result<HeaderValue, Failure> {
    let invalid = |problem: &str| Failure::configuration(PIPELINE_INVALID, format!("{field} ({name}) {problem}"));
    // The message leaves out the value, which may be secret.
    let read = |text: &str| HeaderValue::from_str(text).map_err(|_| invalid("has a value with characters that a header cannot contain"));
    match (&header.value, &header.value_from) {
        (_, Some(from)) => {
            let key = &from.secret_key_ref;
            let text = secrets.value(&key.name, &key.key, &format!("{field}.valueFrom.secretKeyRef"))?;
            let mut value = read(&text)?;
            value.set_sensitive(true);
            Ok(value)
        }
        (Some(text), None) => read(text),
        (None, None) => Err(invalid("has neither value nor valueFrom")),
    }
}
