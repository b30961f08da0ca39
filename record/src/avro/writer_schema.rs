//! Which schemas we read data of.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{DecimalSchema, InnerDecimalSchema, Name, ResolvedSchema},
};

use super::{
    error::{AvroError, MAX_ALLOCATION},
    schema_text::check_text,
};

/// So many values a byte may stand for: of what is optional it stands for two.
const VALUES_PER_BYTE: i64 = 8;
/// A datum may have so many more.
const MAX_EXCESS: i64 = 10_000;
/// So many types may be within each other: their data are decoded on the stack.
const MAX_DEPTH: usize = 128;
/// The name of a field, or an enum's symbol, comes with each value, and counts as one for each so many of its bytes.
const NAME: usize = 64;

/// The schema in a text, if it is one whose data take no more memory, or stack, than their bytes account for.
pub fn parse(text: &str) -> Result<&'static Schema, AvroError> {
    check_text(text)?;
    let wrong = |e| AvroError::WriterSchema(Box::new(e));
    let schema = Schema::parse_str(text).map_err(wrong)?;
    // Each name stands for one type, which was written out before it, or around it.
    ResolvedSchema::new(&schema).map_err(wrong)?;
    let cost = cost(&schema, None, &mut HashMap::new())?;
    if cost.peak > MAX_EXCESS {
        return Err(AvroError::TooMuch(format!("more than {MAX_EXCESS} values that take no bytes")));
    }
    if cost.depth > MAX_DEPTH {
        return Err(AvroError::TooMuch(format!("more than {MAX_DEPTH} types within each other")));
    }
    // A reader borrows its schema. There are as many as the subject has versions, and they are needed until the end.
    Ok(Box::leak(Box::new(schema)))
}

/// What a datum costs at worst.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// How many more values it has than its bytes account for.
    excess: i64,
    /// The most of that while it is read: bytes that come later, or do not come, account for nothing before.
    peak: i64,
    /// How many types are within each other.
    depth: usize,
}

impl Cost {
    /// A value, of so many bytes, that is as large as so many.
    fn value(bytes: usize, values: usize) -> Self {
        let count = |of: usize| i64::try_from(of).unwrap_or(i64::MAX);
        let excess = count(values).saturating_sub(count(bytes).saturating_mul(VALUES_PER_BYTE));
        Self {
            excess,
            peak: excess.max(0),
            depth: 1,
        }
    }

    /// Both, one behind the other.
    fn then(self, next: Self) -> Self {
        Self {
            excess: self.excess.saturating_add(next.excess),
            peak: self.peak.max(self.excess.saturating_add(next.peak)),
            depth: self.depth.max(next.depth),
        }
    }

    /// Either.
    fn or(self, other: Self) -> Self {
        Self {
            excess: self.excess.max(other.excess),
            peak: self.peak.max(other.peak),
            depth: self.depth.max(other.depth),
        }
    }

    /// Within another type.
    const fn within(self) -> Self {
        Self {
            depth: self.depth.saturating_add(1),
            ..self
        }
    }

    /// None of it, or as many as bytes say.
    fn repeated(self) -> Result<Self, AvroError> {
        if self.excess > 0 {
            return Err(AvroError::TooMuch(format!(
                "an array or a map of what has more than {VALUES_PER_BYTE} values for a byte, such as null"
            )));
        }
        Ok(Self { excess: 0, ..self })
    }
}

/// What a datum of a schema costs. `named` has the types that were written out before; of those around this one it does not say the cost.
fn cost(schema: &Schema, namespace: Option<&str>, named: &mut HashMap<Name, Option<Cost>>) -> Result<Cost, AvroError> {
    let name = schema.name().map(|name| name.fully_qualified_name(namespace).into_owned());
    if let (Schema::Ref { .. }, Some(name)) = (schema, &name) {
        let found = named.get(name).copied().flatten();
        return found.ok_or_else(|| AvroError::Recursive(name.to_string()));
    }
    named.extend(name.clone().map(|name| (name, None)));
    let found = match schema {
        Schema::Null => Cost::value(0, 1),
        Schema::Array(array) => Cost::value(1, 1).then(cost(&array.items, namespace, named)?.repeated()?.within()),
        Schema::Map(map) => {
            // A key is a value as well.
            let entry = Cost::value(1, 1).then(cost(&map.types, namespace, named)?);
            Cost::value(1, 1).then(entry.repeated()?.within())
        }
        Schema::Union(union) => {
            let mut any = Cost::default();
            for (n, variant) in union.variants().iter().enumerate() {
                let variant = cost(variant, namespace, named)?;
                any = if n == 0 { variant } else { any.or(variant) };
            }
            Cost::value(1, 1).then(any.within())
        }
        Schema::Record(record) => {
            let mut all = Cost::value(0, 1);
            for field in &record.fields {
                let value = cost(&field.schema, name.as_ref().and_then(Name::namespace), named)?;
                all = all.then(Cost::value(0, field.name.len() / NAME)).then(value.within());
            }
            all
        }
        Schema::Enum(symbols) => Cost::value(1, 1 + symbols.symbols.iter().map(String::len).max().unwrap_or(0) / NAME),
        Schema::Fixed(fixed)
        | Schema::Decimal(DecimalSchema {
            inner: InnerDecimalSchema::Fixed(fixed),
            ..
        }) => sized(fixed.size)?,
        _ => Cost::value(1, 1),
    };
    named.extend(name.map(|name| (name, Some(found))));
    Ok(found)
}

/// It is given its memory before it is read.
fn sized(bytes: usize) -> Result<Cost, AvroError> {
    if bytes > MAX_ALLOCATION {
        return Err(AvroError::TooMuch(format!("a fixed type of {bytes} bytes")));
    }
    Ok(Cost::value(bytes, 1))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    #[allow(clippy::needless_pass_by_value)] // As `json!` takes them.
    fn record(name: &str, fields: Json) -> Json {
        json!({"type": "record", "name": name, "fields": fields})
    }

    #[allow(clippy::needless_pass_by_value)]
    fn field(name: &str, schema: Json) -> Json {
        json!({"name": name, "type": schema})
    }

    #[allow(clippy::needless_pass_by_value)]
    fn array(items: Json) -> Json {
        json!({"type": "array", "items": items})
    }

    #[test]
    fn a_schema_is_refused_where_few_bytes_could_stand_for_much() {
        let empty = record("Empty", json!([]));
        let nulls = |count: usize| (0..count).map(|n| field(&format!("f{n}"), json!("null"))).collect::<Vec<_>>();
        // Each has two of the one before.
        let doubled = |first: Json| {
            let mut fields = vec![field("f0", record("R0", json!([field("n", first)])))];
            for n in 1..40 {
                let of = format!("R{}", n - 1);
                fields.push(field(
                    &format!("f{n}"),
                    record(&format!("R{n}"), json!([field("a", json!(of)), field("b", json!(of))])),
                ));
            }
            json!(fields)
        };
        let nested = |depth: usize| {
            let mut variants = vec![record("R0", json!([field("n", json!("int"))]))];
            for n in 1..depth {
                variants.push(record(&format!("R{n}"), json!([field("a", json!(format!("R{}", n - 1)))])));
            }
            json!([field("one", json!(variants))])
        };
        let fixed = |size: usize| json!({"type": "fixed", "name": "Fixed", "size": size});
        for (fields, refused) in [
            (json!([field("all", array(json!("null")))]), true),
            (json!([field("all", array(empty.clone()))]), true),
            (json!([field("one", empty.clone()), field("all", array(json!("Empty")))]), true),
            (json!([field("all", array(record("Holds", json!(nulls(1)))))]), true),
            (json!([field("all", json!({"type": "map", "values": array(json!("null"))}))]), true),
            (json!([field("all", json!(["null", array(array(json!("null")))]))]), true),
            (json!([field("all", array(fixed(0)))]), true),
            (
                json!([field("all", array(json!(["int", record("Wide", json!(nulls(100)))])))]),
                true,
            ),
            (
                json!([field("all", json!({"type": "map", "values": record("Wide", json!(nulls(100)))}))]),
                true,
            ),
            (json!(nulls(10_001)), true),
            // Each byte stands for more than a few.
            (json!([field("all", array(json!(["int", record("Some", json!(nulls(10)))])))]), true),
            // What comes behind does not account for what came before, for it may be missing.
            (
                json!([field("first", record("Wide", json!(nulls(10_001)))), field("last", fixed(1 << 20))]),
                true,
            ),
            // Names come with each value.
            (
                json!([field(
                    "all",
                    array(json!({"type": "enum", "name": "E", "symbols": ["x".repeat(1000)]}))
                )]),
                true,
            ),
            (
                json!([field("all", array(record("Long", json!([field(&"x".repeat(1000), json!("int"))]))))]),
                true,
            ),
            (doubled(json!("null")), true),
            (nested(200), true),
            (json!([field("one", fixed(MAX_ALLOCATION + 1))]), true),
            (
                json!([field(
                    "one",
                    json!({"type": "fixed", "name": "Fixed", "size": 1_u64 << 50, "logicalType": "decimal", "precision": 4})
                )]),
                true,
            ),
            (json!([field("one", json!("null")), field("two", empty)]), false),
            (json!(nulls(500)), false),
            (json!([field("all", array(json!(["null", "int"])))]), false),
            (json!([field("all", array(array(json!("int"))))]), false),
            (json!([field("all", json!({"type": "map", "values": "null"}))]), false),
            (
                json!([field("all", array(record("Some", json!([field("n", json!("int"))]))))]),
                false,
            ),
            (nested(50), false),
            // As large as it is: each of its values takes a byte.
            (doubled(json!("int")), false),
            (
                json!([
                    field("all", array(fixed(16))),
                    field("more", json!("Fixed")),
                    field("most", array(json!("Fixed")))
                ]),
                false,
            ),
        ] {
            for namespace in [None, Some("a.b")] {
                let mut schema = record("Top", fields.clone());
                if let Some(namespace) = namespace {
                    schema["namespace"] = json!(namespace);
                }
                let found = parse(&schema.to_string()).err().map(|e| e.to_string());
                let as_wanted = found
                    .as_ref()
                    .map_or(!refused, |error| refused && error.contains("a few bytes could stand for"));
                assert!(as_wanted, "{found:?}: {schema}");
            }
        }
    }

    #[test]
    fn a_name_stands_for_the_type_that_the_decoder_takes_it_for() {
        let nulls: Vec<Json> = (0..9000).map(|n| field(&format!("f{n}"), json!("null"))).collect();
        let leaf = || record("Leaf", json!([field("n", json!("int"))]));
        for (schema, says) in [
            // The same name in two namespaces: the nearer one counts.
            (
                record(
                    "Top",
                    json!([
                        field("one", leaf()),
                        field(
                            "two",
                            record(
                                "x.Mid",
                                json!([field("wide", record("Leaf", json!(nulls))), field("all", array(json!(".Leaf")))])
                            )
                        ),
                    ]),
                ),
                "for a few bytes could stand for much",
            ),
            (
                record(
                    "Top",
                    json!([
                        field("one", leaf()),
                        field("two", record("x.Leaf", json!([field("next", json!(["null", ".Leaf"]))])))
                    ]),
                ),
                "holds itself",
            ),
            // An alias is no name for the decoder.
            (
                record(
                    "Top",
                    json!([
                        field("one", record("A", json!(nulls))),
                        field(
                            "two",
                            json!({"type": "record", "name": "B", "aliases": ["A"], "fields": [field("n", json!("int"))]})
                        ),
                        field("all", array(json!("A"))),
                    ]),
                ),
                "for a few bytes could stand for much",
            ),
            (
                record(
                    "Top",
                    json!([
                        field(
                            "one",
                            json!({"type": "record", "name": "B", "aliases": ["Old"], "fields": [field("n", json!("int"))]})
                        ),
                        field("two", json!("Old")),
                    ]),
                ),
                "does not parse",
            ),
        ] {
            let error = parse(&schema.to_string()).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(
                error.contains(says),
                "{error:?}: {}",
                schema.to_string().chars().take(300).collect::<String>()
            );
        }
        let types = json!([
            field("one", record("x.y.Leaf", json!([field("n", json!("int"))]))),
            field("all", array(json!("x.y.Leaf")))
        ]);
        let schema = json!({"type": "record", "name": "Top", "namespace": "a.b", "fields": types});
        assert!(parse(&schema.to_string()).is_ok());
    }

    #[test]
    fn a_schema_whose_data_could_be_of_any_depth_is_refused() {
        let leaf = record("Leaf", json!([field("n", json!("int"))]));
        for (fields, recursive) in [
            (json!([field("next", json!(["null", "Top"]))]), Some("Top")),
            (json!([field("all", json!({"type": "array", "items": "Top"}))]), Some("Top")),
            (json!([field("by", json!({"type": "map", "values": "Top"}))]), Some("Top")),
            (
                json!([field("inner", record("Inner", json!([field("top", json!(["null", "Top"]))])))]),
                Some("Top"),
            ),
            (
                json!([field("inner", record("Inner", json!([field("more", json!(["null", "Inner"]))])))]),
                Some("Inner"),
            ),
            (json!([field("one", leaf.clone()), field("two", json!("Leaf"))]), None),
            (json!([field("one", json!("int"))]), None),
        ] {
            let schema = record("Top", fields).to_string();
            let refused = parse(&schema).err().map(|e| e.to_string());
            let wanted = recursive.map(|name| format!("the writer's schema is recursive, which is not supported: `{name}` holds itself"));
            assert_eq!(refused, wanted, "{schema}");
        }
    }
}
