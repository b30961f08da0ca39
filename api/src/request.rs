//! How a source is asked: method, pages, credentials, certificates.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HeaderSource, SecretRef};

/// The method of a request.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// Asks.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// Asks with a body.
    #[serde(rename = "POST")]
    Post,
}

/// How an answer is written.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// One JSON document, with an array of items in it.
    #[default]
    #[serde(rename = "JSON")]
    Json,
    /// A line of JSON for each item.
    #[serde(rename = "NDJSON")]
    Ndjson,
}

/// How one page leads to the next.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.parameter) == (self.type in ['Page', 'Offset', 'Cursor'])")
        .message("spec.source.http.pagination.parameter names the parameter of the address that Page, Offset and Cursor set, and goes with these types only"),
    validation = Rule::new("has(self.cursorFrom) == (self.type == 'Cursor')")
        .message("spec.source.http.pagination.cursorFrom says where in an answer the cursor is, and goes with the type Cursor only"),
    validation = Rule::new("!has(self.start) || self.type in ['Page', 'Offset']")
        .message("spec.source.http.pagination.start goes with the types Page and Offset only"),
)]
pub struct Pagination {
    /// How one page leads to the next.
    #[serde(default, rename = "type")]
    pub kind: PaginationType,
    /// The parameter of the address in which page, offset or cursor are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub parameter: Option<String>,
    /// The number of the first page, 1 when not given; or the first offset, 0 when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub start: Option<i64>,
    /// Where in an answer the next cursor is, as a JSON pointer: `/meta/next`. Where there is none, null or an empty text, the run
    /// is at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.pagination.cursorFrom must be a JSON pointer such as /meta/next"))]
    pub cursor_from: Option<String>,
}

/// How one page leads to the next.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaginationType {
    /// The same request again: each answer has other items, until one has none.
    #[default]
    Repeat,
    /// One request has it all.
    Single,
    /// By the page's number, until a page has no items.
    Page,
    /// By the number of items so far, until a page has no items.
    Offset,
    /// By a cursor that each answer has for the next, until one has none.
    Cursor,
    /// By the header `Link` with `rel="next"`, until an answer has none. It must stay on its server.
    Link,
}

/// What is remembered from run to run, so that the next one asks for what is new only: `{{cursor}}` in url, query, headers and body. It is
/// advanced only by what has landed: with `pagination.type: Repeat` with each page, and the next request has it; elsewhere at the end
/// of a run that has seen the last page.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.fromItems) != has(self.fromAnswer)").message("spec.source.http.cursor takes exactly one of fromItems and fromAnswer"))]
pub struct StoredCursor {
    /// Where in an item it is, as a JSON pointer: the greatest counts, by number where all are numbers, else as text, which is right for
    /// times that are all written alike. Items are not missed by it where the source never changes anything behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.cursor.fromItems must be a JSON pointer such as /updated_at"))]
    pub from_items: Option<String>,
    /// Where in an answer it is, as a JSON pointer: the last one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.cursor.fromAnswer must be a JSON pointer such as /meta/token"))]
    pub from_answer: Option<String>,
    /// What `{{cursor}}` is before anything has landed.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub initial: String,
}

/// Who asks: one of them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.basic), has(self.bearer), has(self.oauth2)].filter(given, given).size() == 1")
    .message("spec.source.http.auth takes exactly one of basic, bearer and oauth2"))]
pub struct Auth {
    /// User name and password, from the keys `username` and `password` of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A token, from a key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<HeaderSource>,
    /// A token that is asked for: OAuth 2 with client credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
}

/// User name and password.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// The Secret, with the keys `username` and `password`.
    pub credentials_secret_ref: SecretRef,
}

/// OAuth 2 with client credentials (RFC 6749, section 4.4). The token is asked for anew before it expires, and when it is refused.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2 {
    /// Where tokens are asked for.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s]+([/?#][^\\\\s]*)?$')")
        .message("spec.source.http.auth.oauth2.tokenUrl must be an http or https address without a user name in it"))]
    pub token_url: String,
    /// The Secret with the client's id and secret, as `username` and `password`.
    pub credentials_secret_ref: SecretRef,
    /// What the token is to be good for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub scopes: Vec<String>,
}

/// Certificates beyond those that everybody knows.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceTls {
    /// The authority that has signed the source's certificate, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<HeaderSource>,
    /// The certificate by which the source knows who asks (mutual TLS): a Secret of type kubernetes.io/tls, with the keys `tls.crt`
    /// and `tls.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretRef>,
}
