//! Sources: where records come from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Auth, Certificates, Duration, ErrorRule, Format, HeaderSource, Method, Pagination, Quantity, StoredCursor, units::seconds};

/// Where records come from: exactly one of `http` and `topic`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.http) != has(self.topic)").message("spec.source must have exactly one of http and topic"),
    validation = Rule::new("has(self.http) == has(oldSelf.http)")
        .message("spec.source cannot be changed between http and topic: create a new pipeline instead"),
)]
pub struct Source {
    /// An HTTP API that returns JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// A topic that other producers write: `spec.kafka.topic`. Such a pipeline has no runs and no landing
    /// table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicSource>,
    /// Greatest allowed share of rejected items in a run. A run that exceeds it fails. 0 allows none, 1
    /// allows all.
    #[serde(default = "max_rejected_ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_rejected_ratio: f64,
}

/// A topic that other producers write.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicSource {
    /// Format of a message's value.
    #[serde(default)]
    pub format: TopicFormat,
}

/// Format of messages that other producers write.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicFormat {
    /// A JSON document, which is the item.
    #[default]
    #[serde(rename = "JSON")]
    Json,
    /// The schema registry's frame, and an Avro datum of any registered schema. The datum's fields become
    /// members of the item: bytes as base64, times as milliseconds since 1970, dates and decimals as text.
    Avro,
}

/// An HTTP API, which a run requests repeatedly.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.body) || self.method == 'POST'").message("spec.source.http.body needs method POST"),
    validation = Rule::new("!has(self.items) || self.format == 'JSON'")
        .message("spec.source.http.items needs format JSON: in NDJSON each line is an item"),
    validation = Rule::new("self.format != 'NDJSON' || !has(self.pagination) || !(has(self.pagination.cursorFrom) || has(self.pagination.nextUrlFrom) || has(self.pagination.totalFrom))")
        .message("spec.source.http.pagination.cursorFrom, nextUrlFrom and totalFrom need format JSON: an NDJSON response has no single document"),
    validation = Rule::new("!has(self.pagination) || !(has(self.pagination.bodyPointer) || has(self.pagination.formField)) || has(self.body)")
        .message("spec.source.http.pagination.bodyPointer and formField need a body"),
    validation = Rule::new("self.format != 'NDJSON' || !has(self.cursor) || !has(self.cursor.fromAnswer)")
        .message("spec.source.http.cursor.fromAnswer needs format JSON: an NDJSON response has no single document"),
    validation = Rule::new("!has(self.auth) || !has(self.headers) || self.headers.all(h, h.name.lowerAscii() != 'authorization')")
        .message("spec.source.http.auth and a header Authorization exclude each other: remove one of them"),
    validation = Rule::new("has(self.url) != has(self.path)")
        .message("spec.source.http must have exactly one of url, and path below the baseUrl of a connection"),
    validation = Rule::new("!has(self.path) || (!has(self.auth) && !has(self.tls) && !has(self.allowedHosts))")
        .message("spec.source.http.auth, tls and allowedHosts are not allowed with spec.source.http.path: the connection has them"),
    validation = Rule::new("!has(self.path) || !has(self.headers) || self.headers.all(h, !has(h.valueFrom) && h.name.lowerAscii() != 'host')")
        .message("with spec.source.http.path, only the connection may have headers from Secrets and a header Host"),
)]
pub struct HttpSource {
    /// URL, http or https, without credentials. Required, unless `path` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s]+([/?#][^\\\\s]*)?$')")
        .message("spec.source.http.url must be an http or https address without a user name: put credentials into spec.source.http.auth, or headers with valueFrom"))]
    #[x_kube(validation = Rule::new("self.size() < 2 || !self.contains('{{') || self.substring(self.lastIndexOf('{{')).contains('}}')")
        .message("spec.source.http.url has an unclosed placeholder: close it with '}}'"))]
    pub url: Option<String>,
    /// Path below `http.baseUrl` of a connection, instead of `url`. It begins with `/`. Of the placeholders,
    /// only those of the interval and the run are allowed. Use `query` for parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^/[A-Za-z0-9._~!$&\\'()*+,;=:%/{} -]*$')")
        .message("spec.source.http.path must begin with '/' and contain only the characters of a URL's path, others percent-encoded: put parameters into spec.source.http.query"))]
    #[x_kube(validation = Rule::new("!self.contains('//') && !self.contains('..') && !self.lowerAscii().matches('%(2e|2f|5c)')")
        .message("spec.source.http.path must not contain '//', '..', or an encoded '.', '/' or '\\', because it stays below the connection's baseUrl"))]
    #[x_kube(validation = Rule::new("!self.matches('[{][{] *(arguments|cursor)')")
        .message("spec.source.http.path must not contain arguments or the cursor, whose values could lead elsewhere: use them in spec.source.http.query, headers or body"))]
    #[x_kube(validation = Rule::new("self.size() < 2 || !self.contains('{{') || self.substring(self.lastIndexOf('{{')).contains('}}')")
        .message("spec.source.http.path has an unclosed placeholder: close it with '}}'"))]
    pub path: Option<String>,
    /// Query parameters, added to the URL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub query: Vec<QueryParameter>,
    /// Method of each request.
    #[serde(default)]
    pub method: Method,
    /// Body of each request. Its content type is `application/json` unless a header sets another.
    /// Placeholders are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    #[x_kube(validation = Rule::new("self.size() < 2 || !self.contains('{{') || self.substring(self.lastIndexOf('{{')).contains('}}')")
        .message("spec.source.http.body has an unclosed placeholder: close it with '}}'"))]
    pub body: Option<String>,
    /// Format of a response.
    #[serde(default)]
    pub format: Format,
    /// JSON pointer to the array of items in a response. Default: `/results`. `""` if the response is an
    /// array itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)*$')").message("spec.source.http.items must be a JSON pointer such as /data/items"))]
    pub items: Option<String>,
    /// How one page leads to the next. Default: `type: Single`, one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Pagination>,
    /// Cursor for incremental fetch. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<StoredCursor>,
    /// Authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Client certificate, and authorities in addition to the public ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: Certificates,
    /// Other servers to which redirects and `Link` headers may lead, each `host` or `host:port`. A redirect
    /// from https to http is never followed. These servers receive `headers`, but no credentials of `auth`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 260), regex(pattern = r"^[A-Za-z0-9.:\[\]_-]+$")))]
    pub allowed_hosts: Vec<String>,
    /// Headers of each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub headers: Vec<Header>,
    /// Timeout of one request, from the connection to the end of the body.
    #[serde(default = "timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')")
        .message("spec.source.http.timeout must be between 100ms and 10m"))]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// Timeout for establishing a connection. Default: `timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')")
        .message("spec.source.http.connectTimeout must be between 100ms and 10m"))]
    #[schemars(with = "Option<DurationText>")]
    pub connect_timeout: Option<Duration>,
    /// Timeout from sending the request to receiving the headers, including a new connection and redirects.
    /// Default: `idleTimeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')")
        .message("spec.source.http.firstByteTimeout must be between 100ms and 10m"))]
    #[schemars(with = "Option<DurationText>")]
    pub first_byte_timeout: Option<Duration>,
    /// Timeout without any data, once the response has begun. Default: `timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')")
        .message("spec.source.http.idleTimeout must be between 100ms and 10m"))]
    #[schemars(with = "Option<DurationText>")]
    pub idle_timeout: Option<Duration>,
    /// How long a run fetches.
    #[serde(default = "run_duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')")
        .message("spec.source.http.runDuration must be between 1s and 24h"))]
    #[schemars(with = "DurationText")]
    pub run_duration: Duration,
    /// Number of records after which a run ends.
    #[serde(default = "max_records")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_records_per_run: i64,
    /// What responses mean that the API uses in its own way. The first rule that is true applies, before
    /// everything else that is known about a response.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub errors: Vec<ErrorRule>,
    /// Rate limit of requests.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// Largest response, before and after decompression. A larger one is an error.
    #[serde(default = "max_body")]
    #[x_kube(validation = Rule::new("isQuantity(self) && !quantity(self).isLessThan(quantity('1Ki')) && !quantity(self).isGreaterThan(quantity('256Mi'))")
        .message("spec.source.http.maxBodySize must be between 1Ki and 256Mi"))]
    #[schemars(with = "QuantityText")]
    pub max_body_size: Quantity,
}

impl HttpSource {
    /// How pages lead to each other, with the default.
    pub fn paging(&self) -> Pagination {
        self.pagination.clone().unwrap_or_default()
    }

    /// The Secrets that it names, except for those of `tls`.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.iter().filter_map(|header| header.value_from.as_ref());
        let auth = self.auth.iter();
        let whole = auth.clone().flat_map(|auth| {
            let basic = auth.basic.as_ref().map(|basic| &basic.credentials_secret_ref);
            basic
                .into_iter()
                .chain(auth.oauth2.as_ref().map(|oauth2| &oauth2.credentials_secret_ref))
        });
        let whole = whole.map(|secret| secret.name.as_str());
        let keys = headers.chain(auth.filter_map(|auth| auth.bearer.as_ref()));
        keys.map(|key| key.secret_key_ref.name.as_str()).chain(whole)
    }
}

/// A query parameter.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryParameter {
    /// Name of the parameter.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Value of the parameter, before percent encoding.
    #[schemars(length(max = 4096))]
    #[x_kube(validation = Rule::new("self.size() < 2 || !self.contains('{{') || self.substring(self.lastIndexOf('{{')).contains('}}')")
        .message("a value of spec.source.http.query has an unclosed placeholder: close it with '}}'"))]
    pub value: String,
}

/// A header of a request.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.valueFrom)").message("a header must have exactly one of value and valueFrom"),
    validation = Rule::new("!(self.name.lowerAscii() in ['authorization', 'proxy-authorization', 'cookie']) || !has(self.value)")
        .message("a header that carries credentials must take its value from a Secret: use valueFrom.secretKeyRef"),
)]
pub struct Header {
    /// Name of the header.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')").message("a header's name must contain only letters, digits and '-'"))]
    pub name: String,
    /// Value of the header, in plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    #[x_kube(validation = Rule::new("self.size() < 2 || !self.contains('{{') || self.substring(self.lastIndexOf('{{')).contains('}}')")
        .message("a header's value has an unclosed placeholder: close it with '}}'"))]
    pub value: Option<String>,
    /// Secret with the value of the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderSource>,
}

/// Rate limit: at most `requests` requests in each period `per`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Number of requests.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub requests: i32,
    /// Length of the period.
    #[serde(default = "per")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10ms') && duration(self) <= duration('1h')")
        .message("spec.source.http.rateLimit.per must be between 10ms and 1h"))]
    #[schemars(with = "DurationText")]
    pub per: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            requests: one(),
            per: per(),
        }
    }
}

/// The schema of a duration: text of limited length, so that a CEL rule over it has a limited cost.
#[derive(schemars::JsonSchema)]
#[schemars(transparent)]
#[allow(dead_code)]
pub(crate) struct DurationText(#[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))] String);

/// The schema of a quantity that is always text.
#[derive(schemars::JsonSchema)]
#[schemars(transparent)]
#[allow(dead_code)]
pub(crate) struct QuantityText(#[schemars(length(min = 1, max = 32), regex(pattern = "^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?$"))] String);

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn max_rejected_ratio() -> f64 {
    0.1
}

fn timeout() -> Duration {
    seconds(10).into()
}

fn run_duration() -> Duration {
    seconds(30).into()
}

const fn max_records() -> i64 {
    1000
}

fn max_body() -> Quantity {
    Quantity("8Mi".to_owned())
}

const fn one() -> i32 {
    1
}

fn per() -> Duration {
    seconds(1).into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::UserPipeline;

    /// The API server's message for the example with this timeout; none if it accepts the example.
    fn refusal(field: &str, value: &str) -> Option<String> {
        let mut resource: Value = serde_yaml::from_str(include_str!("../tests/pipelines/own_addresses.yaml")).unwrap();
        resource["spec"]["source"]["http"][field] = json!(value);
        let resource: UserPipeline = serde_json::from_value(resource).unwrap();
        resource.validate_cel().err().map(|errors| errors.to_string())
    }

    #[test]
    fn each_time_out_of_a_request_is_bounded_and_named() {
        for field in ["timeout", "connectTimeout", "firstByteTimeout", "idleTimeout"] {
            for (value, fits) in [("99ms", false), ("100ms", true), ("10m", true), ("601s", false)] {
                let says = format!("spec.source.http.{field} must be between 100ms and 10m");
                let refused = refusal(field, value);
                assert_eq!(refused.is_none(), fits, "{field} {value}: {refused:?}");
                assert!(refused.is_none_or(|errors| errors.contains(&says)), "{field} {value}");
            }
        }
    }
}
