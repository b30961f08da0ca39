//! Where records come from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Auth, Duration, Format, HeaderSource, Method, Pagination, Quantity, SourceTls, StoredCursor, units::seconds};

/// Where records come from: one of them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.http) != has(self.topic)").message("spec.source takes exactly one of http and topic"),
    validation = Rule::new("has(self.http) == has(oldSelf.http)")
        .message("spec.source cannot be changed between http and topic: make a new pipeline instead"),
)]
pub struct Source {
    /// An HTTP API that answers with JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// Others write to the pipeline's topic, `spec.kafka.topic`: devices, applications. There are no runs then, and no landing table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicSource>,
    /// A run fails when a greater share of its items than this are no records: from 0, none may be, to 1, all may be.
    #[serde(default = "max_rejected_ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_rejected_ratio: f64,
}

/// A topic that others write to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicSource {
    /// How a message's value is written.
    #[serde(default)]
    pub format: TopicFormat,
}

/// How others write messages.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicFormat {
    /// A JSON document: the item.
    #[default]
    #[serde(rename = "JSON")]
    Json,
    /// Avro, behind the schema registry's frame; any schema that is registered there. The item has the datum's fields; bytes are in
    /// base64, times in milliseconds since 1970, dates as text.
    Avro,
}

/// An HTTP API, asked again and again during a run.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.body) || self.method == 'POST'").message("spec.source.http.body goes with the method POST only"),
    validation = Rule::new("!has(self.items) || self.format == 'JSON'")
        .message("spec.source.http.items goes with the format JSON only: in NDJSON each line is an item"),
    validation = Rule::new("self.format != 'NDJSON' || !has(self.pagination.cursorFrom)")
        .message("spec.source.http.pagination.cursorFrom points into one document: it does not go with the format NDJSON"),
    validation = Rule::new("self.format != 'NDJSON' || !has(self.cursor) || !has(self.cursor.fromAnswer)")
        .message("spec.source.http.cursor.fromAnswer points into one document: it does not go with the format NDJSON"),
    validation = Rule::new("!has(self.auth) || !has(self.headers) || self.headers.all(h, h.name.lowerAscii() != 'authorization')")
        .message("spec.source.http.auth and a header Authorization say the same thing: give one of them"),
)]
pub struct HttpSource {
    /// The address, http or https, without credentials in it.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s]+([/?#][^\\\\s]*)?$')")
        .message("spec.source.http.url must be an http or https address without a user name in it; credentials go into headers with valueFrom"))]
    pub url: String,
    /// Parameters added to the address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub query: Vec<QueryParameter>,
    /// The method of each request.
    #[serde(default)]
    pub method: Method,
    /// What each request has in its body, as `application/json` where no header says otherwise; placeholders are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub body: Option<String>,
    /// How an answer is written.
    #[serde(default)]
    pub format: Format,
    /// Where in an answer the array of items is, as a JSON pointer; `/results` when not given, `""` where the answer is an array itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)*$')").message("spec.source.http.items must be a JSON pointer such as /data/items"))]
    pub items: Option<String>,
    /// How one page leads to the next.
    #[serde(default)]
    pub pagination: Pagination,
    /// What is remembered from run to run; nothing when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<StoredCursor>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Certificates beyond those that everybody knows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: SourceTls,
    /// Other servers to which redirects and `Link` headers are followed, each `host` or `host:port`; never from https to http. They are
    /// sent the same `headers`, but not what `auth` makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 260), regex(pattern = r"^[A-Za-z0-9.:\[\]_-]+$")))]
    pub allowed_hosts: Vec<String>,
    /// Headers sent with each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub headers: Vec<Header>,
    /// How long one request may take, from the connection to the end of the body.
    #[serde(default = "timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')")
        .message("spec.source.http.timeout must be between 100ms and 10m"))]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// How long a connection may take to be made; as long as the request, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')")
        .message("spec.source.http.connectTimeout must be between 100ms and 10m"))]
    #[schemars(with = "Option<DurationText>")]
    pub connect_timeout: Option<Duration>,
    /// How long a source may take to begin its answer: from the beginning of the request, with the connection that is made for it and
    /// with redirects, to the end of the headers. As `idleTimeout`, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')")
        .message("spec.source.http.firstByteTimeout must be between 100ms and 10m"))]
    #[schemars(with = "Option<DurationText>")]
    pub first_byte_timeout: Option<Duration>,
    /// How long nothing may come of an answer that has begun; as long as the request, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')")
        .message("spec.source.http.idleTimeout must be between 100ms and 10m"))]
    #[schemars(with = "Option<DurationText>")]
    pub idle_timeout: Option<Duration>,
    /// How long a run goes on fetching.
    #[serde(default = "run_duration")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')")
        .message("spec.source.http.runDuration must be between 1s and 24h"))]
    #[schemars(with = "DurationText")]
    pub run_duration: Duration,
    /// After how many records a run ends, even if its time is not up.
    #[serde(default = "max_records")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_records_per_run: i64,
    /// How often the API is asked.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// How large an answer may be; a larger one is an error.
    #[serde(default = "max_body")]
    #[x_kube(validation = Rule::new("isQuantity(self) && !quantity(self).isLessThan(quantity('1Ki')) && !quantity(self).isGreaterThan(quantity('256Mi'))")
        .message("spec.source.http.maxBodySize must be between 1Ki and 256Mi"))]
    #[schemars(with = "QuantityText")]
    pub max_body_size: Quantity,
}

impl HttpSource {
    /// The Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.iter().filter_map(|header| header.value_from.as_ref());
        let auth = self.auth.iter();
        let whole = auth.clone().flat_map(|auth| {
            let basic = auth.basic.as_ref().map(|basic| &basic.credentials_secret_ref);
            basic
                .into_iter()
                .chain(auth.oauth2.as_ref().map(|oauth2| &oauth2.credentials_secret_ref))
        });
        let whole = whole.chain(&self.tls.client_secret_ref).map(|secret| secret.name.as_str());
        let keys = headers.chain(auth.filter_map(|auth| auth.bearer.as_ref())).chain(&self.tls.ca);
        keys.map(|key| key.secret_key_ref.name.as_str()).chain(whole)
    }
}

/// One `name=value` of the address.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryParameter {
    /// Its name.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Its value, before percent encoding.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// One header of a request.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.valueFrom)").message("a header takes exactly one of value and valueFrom"),
    validation = Rule::new("!(self.name.lowerAscii() in ['authorization', 'proxy-authorization', 'cookie']) || !has(self.value)")
        .message("a header that carries credentials must take its value from a Secret: use valueFrom.secretKeyRef"),
)]
pub struct Header {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')").message("a header's name has letters, digits and -"))]
    pub name: String,
    /// Its value, for all to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Where its value is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderSource>,
}

/// How often the API is asked: at most `requests` in each `per`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// How many requests.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub requests: i32,
    /// In what time.
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

/// The schema of a duration: bounded text, so that a CEL rule over it has a bounded cost.
#[derive(schemars::JsonSchema)]
#[schemars(transparent)]
#[allow(dead_code)]
pub(crate) struct DurationText(#[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))] String);

/// The schema of a quantity that is always written as text.
#[derive(schemars::JsonSchema)]
#[schemars(transparent)]
#[allow(dead_code)]
pub(crate) struct QuantityText(#[schemars(length(min = 1, max = 32), regex(pattern = "^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?$"))] String);

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
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

    /// What the apiserver says about the example with this time-out; nothing where it accepts it.
    fn refusal(field: &str, value: &str) -> Option<String> {
        let mut resource: Value = serde_yaml::from_str(include_str!("../../examples/users.yaml")).unwrap();
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
