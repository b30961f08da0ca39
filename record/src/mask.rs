//! Masks: values that nothing stores as they were served.

use std::fmt;

use hmac::{Hmac, Mac};
use jiff::civil::Date;
use sha2::Sha256;
use userpipeline_api::{BucketPeriod, FieldSpec, FieldType, MaskKind, MaskSpec, SecretKeyRef};
use uuid::{Builder, Uuid};

use crate::{
    time::{date, days},
    value::Value,
};

/// Replaces a text that must not be null.
pub(crate) const REDACTED: &str = "***";
/// Milliseconds.
const DAY: i64 = 86_400_000;
/// Bytes of the key of an HMAC: as many as its hash has. A shorter one is easier to guess.
const MIN_KEY: usize = 32;

/// How the values of a field are replaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    Hmac(Box<HmacKey>),
    Redact,
    /// Characters that remain.
    Truncate(usize),
    Multiple(u32),
    Period(BucketPeriod),
}

/// The key of an HMAC: where it is, and the hash that has it once it is read.
#[derive(Clone)]
pub struct HmacKey {
    pub secret: SecretKeyRef,
    hmac: Option<Hmac<Sha256>>,
}

/// Without the key.
impl PartialEq for HmacKey {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

/// Without the key.
impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.secret)
    }
}

impl HmacKey {
    pub fn set(&mut self, key: &str) -> Result<(), String> {
        if key.len() < MIN_KEY {
            return Err(format!("has {} bytes; an HMAC needs at least {MIN_KEY}", key.len()));
        }
        self.hmac = Hmac::new_from_slice(key.as_bytes()).ok();
        Ok(())
    }
}

impl Mask {
    /// The mask that a field declares. The error has the part of the field.
    pub fn of(field: &FieldSpec, is_key: bool, is_order: bool) -> Result<Option<Self>, (&'static str, String)> {
        let Some(spec) = &field.mask else { return Ok(None) };
        if is_order {
            let problem = "the field of spec.record.orderBy cannot have a mask, because versions follow its values: remove the mask, or order by another field";
            return Err((".mask", problem.to_owned()));
        }
        if is_key && spec.with != MaskKind::Hmac {
            let problem =
                "a field of spec.record.key can be masked only with HMAC, because other masks give different records the same key";
            return Err((".mask.with", problem.to_owned()));
        }
        if field.default.is_some() {
            let problem = "a field with a mask takes no default, because rows from before the field have the default without the mask: make the field optional instead";
            return Err((".default", problem.to_owned()));
        }
        Self::read(spec, field).map(Some).map_err(|problem| (".mask", problem.to_owned()))
    }

    fn read(spec: &MaskSpec, field: &FieldSpec) -> Result<Self, &'static str> {
        use FieldType::{Date, Double, Int, Long, String, Timestamp, Uuid};
        match (spec.with, field.field_type) {
            (MaskKind::Hmac, String | Uuid) => match &spec.key_secret_ref {
                Some(secret) => Ok(Self::Hmac(Box::new(HmacKey {
                    secret: secret.clone(),
                    hmac: None,
                }))),
                None => Err("HMAC needs keySecretRef"),
            },
            (MaskKind::Hmac, _) => Err("HMAC needs a field of type string or uuid"),
            (MaskKind::Redact, kind) if field.optional || kind == String => Ok(Self::Redact),
            (MaskKind::Redact, _) => Err("Redact needs a field that is optional or of type string"),
            (MaskKind::Truncate, String) => match spec.length.and_then(|length| usize::try_from(length).ok()) {
                Some(length) if length > 0 => Ok(Self::Truncate(length)),
                _ => Err("Truncate needs length"),
            },
            (MaskKind::Truncate, _) => Err("Truncate needs a field of type string"),
            (MaskKind::Bucket, Int | Long | Double) => match spec.size {
                Some(size) if size > 0 && spec.period.is_none() => Ok(Self::Multiple(size)),
                _ => Err("Bucket of a number needs size"),
            },
            (MaskKind::Bucket, Date | Timestamp) => match spec.period {
                Some(period) if spec.size.is_none() => Ok(Self::Period(period)),
                _ => Err("Bucket of a date or a timestamp needs period"),
            },
            (MaskKind::Bucket, _) => Err("Bucket needs a field that is a number, a date or a timestamp"),
        }
    }

    /// The masked value. None without the key of an HMAC, so that no value passes as it is.
    pub fn apply(&self, value: Value, optional: bool) -> Option<Value> {
        Some(match (self, value) {
            (_, Value::Null) => Value::Null,
            (Self::Hmac(key), value) => keyed(key.hmac.as_ref()?, &value)?,
            (Self::Redact, Value::String(_)) if !optional => Value::String(REDACTED.to_owned()),
            (Self::Redact, _) => Value::Null,
            (Self::Truncate(length), Value::String(text)) => Value::String(text.chars().take(*length).collect()),
            (Self::Multiple(size), Value::Long(number)) => {
                let size = i64::from(*size);
                Value::Long(number.div_euclid(size).saturating_mul(size))
            }
            (Self::Multiple(size), Value::Double(number)) => {
                let size = f64::from(*size);
                Value::Double(((number / size).floor() * size).clamp(f64::MIN, f64::MAX))
            }
            (Self::Period(period), Value::Date(day)) => Value::Date(start(day, *period)?),
            (Self::Period(period), Value::Timestamp(millis)) => {
                let day = i32::try_from(millis.div_euclid(DAY)).ok()?;
                Value::Timestamp(i64::from(start(day, *period)?) * DAY)
            }
            _ => return None,
        })
    }
}

/// The day at which a period starts.
fn start(day: i32, period: BucketPeriod) -> Option<i32> {
    let day: Date = date(day)?;
    Some(days(match period {
        BucketPeriod::Day => day,
        BucketPeriod::Month => day.first_of_month(),
        BucketPeriod::Year => day.first_of_year(),
    }))
}

fn keyed(hmac: &Hmac<Sha256>, value: &Value) -> Option<Value> {
    let digest = |message: &[u8]| hmac.clone().chain_update(message).finalize().into_bytes();
    match value {
        Value::String(text) => Some(Value::String(format!("{:x}", digest(text.as_bytes())))),
        Value::Uuid(uuid) => {
            let digest = digest(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
            // Version 8: the bits have a meaning of our own.
            let bytes = digest.first_chunk()?;
            Some(Value::Uuid(Builder::from_custom_bytes(*bytes).into_uuid()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    type Problem = (&'static str, String);

    fn mask(field_type: &str, optional: bool, mask: &Json) -> Result<Option<Mask>, Problem> {
        let field = json!({"name": "x", "type": field_type, "from": "/x", "optional": optional, "mask": mask});
        Mask::of(&serde_json::from_value(field).unwrap(), false, false)
    }

    /// `field_type` ends with `?` in an optional field.
    fn assert_masks<const N: usize>(cases: [(&str, Json, Value, Value); N]) {
        for (field_type, with, value, expected) in cases {
            let (name, optional) = field_type.strip_suffix('?').map_or((field_type, false), |name| (name, true));
            let mask = mask(name, optional, &with).unwrap().unwrap();
            assert_eq!(mask.apply(value.clone(), optional), Some(expected), "{field_type} {with} {value:?}");
        }
    }

    #[test]
    fn a_text_is_redacted_or_cut_by_characters() {
        let text = |text: &str| Value::String(text.to_owned());
        let redact = || json!({"with": "Redact"});
        let truncate = |length: u32| json!({"with": "Truncate", "length": length});
        assert_masks([
            ("string", redact(), text("Ann"), text("***")),
            ("string", redact(), text(""), text("***")),
            ("string?", redact(), text("Ann"), Value::Null),
            ("json?", redact(), Value::Json("{}".into()), Value::Null),
            ("long?", redact(), Value::Long(7), Value::Null),
            ("string", truncate(2), text("\u{c5}se"), text("\u{c5}s")),
            ("string", truncate(1), text("\u{1f469}\u{200d}\u{1f467}"), text("\u{1f469}")),
            ("string", truncate(9), text("Ann"), text("Ann")),
            ("string?", truncate(9), Value::Null, Value::Null),
        ]);
    }

    #[test]
    fn a_number_becomes_the_lower_bound_of_its_bucket() {
        let size = |size: u32| json!({"with": "Bucket", "size": size});
        assert_masks([
            ("long", size(10), Value::Long(57), Value::Long(50)),
            ("long", size(10), Value::Long(50), Value::Long(50)),
            ("int", size(10), Value::Long(-1), Value::Long(-10)),
            ("int", size(10), Value::Long(-10), Value::Long(-10)),
            ("long", size(7), Value::Long(i64::MIN), Value::Long(i64::MIN)),
            (
                "long",
                size(1_000_000_000),
                Value::Long(i64::MAX),
                Value::Long(9_223_372_036_000_000_000),
            ),
            ("double", size(5), Value::Double(12.5), Value::Double(10.0)),
            ("double", size(5), Value::Double(-0.1), Value::Double(-5.0)),
            ("double", size(3), Value::Double(f64::MIN), Value::Double(f64::MIN)),
            ("long?", size(10), Value::Null, Value::Null),
        ]);
    }

    #[test]
    fn a_day_or_a_time_becomes_the_start_of_its_period_in_utc() {
        let period = |period: &str| json!({"with": "Bucket", "period": period});
        let day = |text: &str| Value::Date(days(text.parse().unwrap()));
        let time = |text: &str| Value::Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        assert_masks([
            ("date", period("Day"), day("1990-05-17"), day("1990-05-17")),
            ("date", period("Month"), day("1990-05-17"), day("1990-05-01")),
            ("date", period("Year"), day("0001-05-17"), day("0001-01-01")),
            (
                "timestamp",
                period("Day"),
                time("1960-02-03T04:05:06Z"),
                time("1960-02-03T00:00:00Z"),
            ),
            (
                "timestamp",
                period("Day"),
                time("1969-12-31T23:59:59.999Z"),
                time("1969-12-31T00:00:00Z"),
            ),
            (
                "timestamp",
                period("Month"),
                time("2024-02-29T23:59:59Z"),
                time("2024-02-01T00:00:00Z"),
            ),
            (
                "timestamp",
                period("Year"),
                time("2025-01-01T00:30:00+01:00"),
                time("2024-01-01T00:00:00Z"),
            ),
            ("timestamp?", period("Year"), Value::Null, Value::Null),
        ]);
    }

    #[test]
    fn an_hmac_is_equal_for_equal_values_and_nothing_without_its_key() {
        let with = json!({"with": "HMAC", "keySecretRef": {"name": "masks", "key": "email"}});
        let Mask::Hmac(mut key) = mask("string", false, &with).unwrap().unwrap() else {
            panic!("an HMAC")
        };
        let ann = || Value::String("ann@example.com".into());
        assert_eq!(Mask::Hmac(key.clone()).apply(ann(), false), None);
        assert!(key.set("short").unwrap_err().contains("at least 32"));
        key.set(&"k".repeat(32)).unwrap();
        assert!(!format!("{key:?}").contains("kkk"));
        let mask = Mask::Hmac(key);
        let masked = mask.apply(ann(), false).unwrap();
        assert!(
            matches!(&masked, Value::String(text) if text.len() == 64 && !text.contains("ann")),
            "{masked:?}"
        );
        assert_eq!(mask.apply(ann(), true), Some(masked.clone()));
        assert_ne!(mask.apply(Value::String("bob".into()), false), Some(masked));
        let uuid = mask.apply(Value::Uuid(Uuid::from_u128(7)), false).unwrap();
        assert!(matches!(uuid, Value::Uuid(uuid) if uuid.get_version_num() == 8 && uuid != Uuid::from_u128(7)));
    }

    #[test]
    fn a_mask_that_does_not_fit_its_field_is_refused() {
        for (field_type, optional, with, says) in [
            ("long", false, json!({"with": "Redact"}), "needs a field that is optional"),
            (
                "long",
                true,
                json!({"with": "Truncate", "length": 1}),
                "needs a field of type string",
            ),
            ("string", true, json!({"with": "Truncate"}), "needs length"),
            ("string", true, json!({"with": "Bucket", "size": 1}), "that is a number"),
            ("long", true, json!({"with": "Bucket", "period": "Day"}), "needs size"),
            ("date", true, json!({"with": "Bucket", "size": 1}), "needs period"),
            (
                "double",
                true,
                json!({"with": "HMAC", "keySecretRef": {"name": "a", "key": "b"}}),
                "needs a field of type string or uuid",
            ),
            ("string", true, json!({"with": "HMAC"}), "needs keySecretRef"),
        ] {
            let (part, problem) = mask(field_type, optional, &with).unwrap_err();
            assert!(part == ".mask" && problem.contains(says), "{with}: {problem}");
        }
        let field = json!({"name": "x", "type": "string", "from": "/x", "mask": {"with": "Redact"}});
        let field: FieldSpec = serde_json::from_value(field).unwrap();
        assert!(Mask::of(&field, true, false).unwrap_err().1.contains("masked only with HMAC"));
        assert!(Mask::of(&field, false, true).unwrap_err().1.contains("orderBy"));
        let with_default = FieldSpec {
            default: Some("none".into()),
            ..field
        };
        assert!(Mask::of(&with_default, false, false).unwrap_err().1.contains("takes no default"));
    }
}
