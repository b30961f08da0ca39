//! Which schemas we read data of.

use std::collections::HashMap;

use apache_avro::{Schema, schema::Name};

use super::AvroError;

/// The schema in a text, if it is one whose data take no more memory, or stack, than their bytes account for.
pub fn parse(text: &str) -> Result<&'static Schema, AvroError> {
    let schema = Schema::parse_str(text).map_err(|e| AvroError::WriterSchema(Box::new(e)))?;
    if let Some(name) = holds_itself(&schema, &mut Vec::new()) {
        return Err(AvroError::Recursive(name));
    }
    if has_array_of_nothing(&schema, &mut HashMap::new()).1 {
        return Err(AvroError::ArrayOfNothing);
    }
    // A reader borrows its schema. There are as many as the subject has versions, and they are needed until the end.
    Ok(Box::leak(Box::new(schema)))
}

/// The name of a type that holds itself, if there is one. A name stands for a type that was written out before it, so each
/// cycle is a name within its own type.
fn holds_itself<'a>(schema: &'a Schema, within: &mut Vec<&'a Name>) -> Option<String> {
    match schema {
        Schema::Ref { name } => within.contains(&name).then(|| name.to_string()),
        Schema::Array(array) => holds_itself(&array.items, within),
        Schema::Map(map) => holds_itself(&map.types, within),
        Schema::Union(union) => union.variants().iter().find_map(|variant| holds_itself(variant, within)),
        Schema::Record(record) => {
            within.push(&record.name);
            let found = record.fields.iter().find_map(|field| holds_itself(&field.schema, within));
            within.pop();
            found
        }
        _ => None,
    }
}

/// Whether a datum takes no byte, and whether there is an array of such data: a few bytes can say that there are millions of them.
fn has_array_of_nothing<'a>(schema: &'a Schema, named: &mut HashMap<&'a Name, bool>) -> (bool, bool) {
    match schema {
        Schema::Null => (true, false),
        Schema::Fixed(fixed) => {
            named.insert(&fixed.name, fixed.size == 0);
            (fixed.size == 0, false)
        }
        Schema::Ref { name } => (named.get(&name).copied().unwrap_or_default(), false),
        Schema::Array(array) => {
            let (nothing, found) = has_array_of_nothing(&array.items, named);
            (false, nothing || found)
        }
        Schema::Map(map) => (false, has_array_of_nothing(&map.types, named).1),
        Schema::Union(union) => {
            let any = |found, variant| has_array_of_nothing(variant, named).1 || found;
            (false, union.variants().iter().fold(false, any))
        }
        Schema::Record(record) => {
            let (mut nothing, mut found) = (true, false);
            for field in &record.fields {
                let (takes_nothing, has) = has_array_of_nothing(&field.schema, named);
                nothing &= takes_nothing;
                found |= has;
            }
            named.insert(&record.name, nothing);
            (nothing, found)
        }
        _ => (false, false),
    }
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
    fn an_array_whose_items_take_no_bytes_is_refused() {
        let empty = record("Empty", json!([]));
        for (fields, refused) in [
            (json!([field("all", array(json!("null")))]), true),
            (json!([field("all", array(empty.clone()))]), true),
            (json!([field("one", empty.clone()), field("all", array(json!("Empty")))]), true),
            (
                json!([field("all", array(record("Holds", json!([field("nothing", json!("null"))]))))]),
                true,
            ),
            (json!([field("all", json!({"type": "map", "values": array(json!("null"))}))]), true),
            (json!([field("all", json!(["null", array(array(json!("null")))]))]), true),
            (
                json!([field("all", array(json!({"type": "fixed", "name": "None", "size": 0})))]),
                true,
            ),
            (json!([field("one", json!("null")), field("two", empty)]), false),
            (json!([field("all", array(json!(["null", "int"])))]), false),
            (json!([field("all", array(array(json!("int"))))]), false),
            (
                json!([field("all", array(record("Some", json!([field("n", json!("int"))]))))]),
                false,
            ),
        ] {
            let schema = record("Top", fields).to_string();
            assert_eq!(matches!(parse(&schema), Err(AvroError::ArrayOfNothing)), refused, "{schema}");
        }
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
