//! The messages that are measured: readings of 397 bytes of JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use uuid::Uuid;

/// Bytes of a message's value.
const SIZE: usize = 397;

/// The columns of a table in PostgreSQL.
pub const COLUMNS: &str = "id uuid, revision bigint, username text, email text, given_name text, family_name text, city text, country text, \
     postcode text, age bigint, score double precision, registered timestamptz, active boolean, note text";

/// Passed by all of them.
pub const FILTER: &str = "age >= 18 && country != ''";

/// The name of their aggregate.
pub const TOTALS: &str = "totals";

/// The number of records and the sum of a field, by groups.
pub fn totals(group_by: &[&str], sinks: &Value) -> Value {
    json!([{"name": TOTALS, "groupBy": group_by, "sinks": sinks, "values": [
        {"name": "records", "count": {}}, {"name": "score", "sum": "score"},
    ]}])
}

/// Its groups: 4,096.
pub const GROUPS: [&str; 3] = ["given_name", "family_name", "age"];

/// The record that they are mapped to.
pub fn record() -> Value {
    let field = |name: &str, kind: &str| json!({"name": name, "type": kind, "from": format!("/{name}")});
    let mut fields = vec![field("id", "uuid"), field("revision", "long")];
    fields.extend(TEXTS.map(|name| field(name, "string")));
    fields.extend([
        field("age", "long"),
        field("score", "double"),
        field("registered", "timestamp"),
        field("active", "boolean"),
        field("note", "string"),
    ]);
    json!({"key": ["id"], "orderBy": "revision", "fields": fields})
}

const TEXTS: [&str; 7] = ["username", "email", "given_name", "family_name", "city", "country", "postcode"];

/// A reading, by its number.
#[derive(Clone, Debug)]
pub struct Reading {
    pub id: Uuid,
    pub revision: i64,
    pub texts: [String; 7],
    pub age: i64,
    pub score: f64,
    /// Milliseconds since 1970.
    pub registered: i64,
    pub active: bool,
    pub note: String,
}

impl Reading {
    pub fn new(number: u64) -> Self {
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let pick = |of: &[&str], shift: u32| of[usize::try_from(spread >> shift & 7).unwrap_or(0) % of.len()].to_owned();
        let given = pick(&["Ada", "Bao", "Chiara", "Dmitri", "Emeka", "Freya", "Goran", "Hanna"], 8);
        let family = pick(
            &["Okafor", "Nilsson", "Moreau", "Takeda", "Silva", "Kowalska", "Haddad", "Byrne"],
            16,
        );
        let texts = [
            format!("{}{number}", family.to_lowercase()),
            format!("{}.{}.{number}@example.org", given.to_lowercase(), family.to_lowercase()),
            given,
            family,
            pick(&["Lagos", "Oslo", "Lyon", "Kyoto", "Recife", "Gdansk", "Beirut", "Cork"], 24),
            pick(
                &["Nigeria", "Norway", "France", "Japan", "Brazil", "Poland", "Lebanon", "Ireland"],
                24,
            ),
            format!("{:05}", spread >> 40 & 0xffff),
        ];
        let small = i64::try_from(spread >> 32 & 63).unwrap_or(0);
        let mut reading = Self {
            id: Uuid::from_u64_pair(spread, number.wrapping_mul(0xd6e8_feb8_6659_fd93)),
            revision: 1,
            texts,
            age: 18 + small,
            score: f64::from(i32::try_from(small).unwrap_or(0)) / 64.0,
            registered: 1_500_000_000_123 + small * 86_400_000,
            active: small % 2 == 0,
            note: String::new(),
        };
        let missing = SIZE.saturating_sub(reading.json().len());
        while reading.note.len() < missing {
            let _ = write!(reading.note, "measured at {number} ");
        }
        reading.note.truncate(missing);
        reading
    }

    /// The value of its message.
    pub fn json(&self) -> String {
        let registered = jiff::Timestamp::from_millisecond(self.registered).unwrap_or_default();
        let mut value = json!({"id": self.id, "revision": self.revision});
        for (name, text) in TEXTS.iter().zip(&self.texts) {
            value[*name] = json!(text);
        }
        value["age"] = json!(self.age);
        value["score"] = json!(self.score);
        value["registered"] = json!(format!("{registered:.3}"));
        value["active"] = json!(self.active);
        value["note"] = json!(self.note);
        value.to_string()
    }
}
