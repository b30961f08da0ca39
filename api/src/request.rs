//! Requests to a source: method, format, cursor, authentication.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Basic, HeaderSource, SecretRef};

/// Method of a request.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// A request without a body.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// A request with a body.
    #[serde(rename = "POST")]
    Post,
}

/// Format of a response.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// One JSON document that contains an array of items.
    #[default]
    #[serde(rename = "JSON")]
    Json,
    /// One line of JSON for each item.
    #[serde(rename = "NDJSON")]
    Ndjson,
}

/// How far the pipeline has read its source. The next run requests only what is new, with `{{cursor}}` in
/// url, query, headers and body. The cursor advances only past what has landed: with each page for
/// `pagination.type: Repeat`, and otherwise at the end of a run that has read the last page.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.fromItems) != has(self.fromAnswer)").message("spec.source.http.cursor must have exactly one of fromItems and fromAnswer"))]
pub struct StoredCursor {
    /// JSON pointer into the items. The greatest value becomes the cursor. Numbers are compared as numbers,
    /// other values as text, so times must all have one format. The source must not add or change items
    /// before the cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.cursor.fromItems must be a JSON pointer such as /updated_at"))]
    pub from_items: Option<String>,
    /// JSON pointer into the responses. The last value becomes the cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')").message("spec.source.http.cursor.fromAnswer must be a JSON pointer such as /meta/token"))]
    pub from_answer: Option<String>,
    /// Value of `{{cursor}}` before anything has landed.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub initial: String,
}

/// Authentication: exactly one of these.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.basic), has(self.bearer), has(self.oauth2)].filter(given, given).size() == 1")
    .message("auth must have exactly one of basic, bearer and oauth2"))]
pub struct Auth {
    /// User name and password, from the keys `username` and `password` of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A bearer token, from a key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<HeaderSource>,
    /// A bearer token from an OAuth 2 server, with the client credentials grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
}

/// OAuth 2 client credentials grant (RFC 6749, section 4.4). The token is renewed before it expires, and when
/// the source refuses it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2 {
    /// URL of the token endpoint.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s]+([/?#][^\\\\s]*)?$')")
        .message("auth.oauth2.tokenUrl must be an http or https address without a user name"))]
    pub token_url: String,
    /// Secret with the client's id and secret, under the keys `username` and `password`.
    pub credentials_secret_ref: SecretRef,
    /// Scopes of the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub scopes: Vec<String>,
}
