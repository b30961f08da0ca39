//! Masks: how the values of a field are replaced before anything stores them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretKeyRef;

/// Replacement of the values of a field. Null stays null.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.with == 'HMAC') == has(self.keySecretRef)")
        .message("mask.keySecretRef is required with HMAC, and not allowed otherwise"),
    validation = Rule::new("(self.with == 'Truncate') == has(self.length)")
        .message("mask.length is required with Truncate, and not allowed otherwise"),
    validation = Rule::new("self.with == 'Bucket' ? has(self.size) != has(self.period) : !has(self.size) && !has(self.period)")
        .message("exactly one of mask.size and mask.period is required with Bucket, and neither is allowed otherwise"),
)]
pub struct MaskSpec {
    /// How values are replaced.
    pub with: MaskKind,
    /// With `HMAC`: the secret key, of at least 32 bytes. As long as it stays the same, equal values stay equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<SecretKeyRef>,
    /// With `Truncate`: number of characters that remain, from the start. A shorter value stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub length: Option<u32>,
    /// With `Bucket`, for a number: the value becomes the greatest multiple of `size` that is not greater. With
    /// a size of 10, 57 becomes 50 and -1 becomes -10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub size: Option<u32>,
    /// With `Bucket`, for a date or a timestamp: the value becomes the start of its period, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<BucketPeriod>,
}

/// How values are replaced: `HMAC` by their HMAC-SHA-256, `Redact` by null or `***`, `Truncate` by their first
/// characters, `Bucket` by the start of a range.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaskKind {
    /// HMAC-SHA-256 of the value. In a field of type `string`, 64 hexadecimal digits; of type `uuid`, a UUID.
    #[serde(rename = "HMAC")]
    Hmac,
    /// Null in an optional field, otherwise `***`. For optional fields, and type `string`.
    Redact,
    /// The first characters. For type `string`.
    Truncate,
    /// The start of a range. For numbers, dates and timestamps.
    Bucket,
}

/// With `Bucket`, for a date or a timestamp: the value becomes the start of its day, month or year, in UTC.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BucketPeriod {
    /// Starts at midnight.
    Day,
    /// Starts on the first of the month.
    Month,
    /// Starts on the first of January.
    Year,
}
