//! Writer's schemas that are parsed, and those that are refused.

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
        // Later bytes do not count for earlier values, because they may be missing.
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
            let as_expected = found
                .as_ref()
                .map_or(!refused, |error| refused && error.contains("a few bytes could decode to"));
            assert!(as_expected, "{found:?}: {schema}");
        }
    }
}

#[test]
fn a_text_beyond_a_bound_is_refused_before_it_is_parsed() {
    let deep = format!("{}\"null\"{}", "[".repeat(200), "]".repeat(200));
    let many = format!("[{}\"null\"]", "\"null\",".repeat(50_001));
    let long = format!("{{\"type\": \"null\", \"doc\": \"{}\"}}", "x".repeat(MAX_TEXT));
    for (text, expected) in [(deep, "200 nested arrays"), (many, "50001 items"), (long, "bytes; at most 524288")] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let brackets = json!({"type": "string", "doc": "\\\"[[[".repeat(1000)}).to_string();
    assert!(parse(&brackets).is_ok());
}

#[test]
fn a_name_stands_for_the_type_that_the_decoder_takes_it_for() {
    let nulls: Vec<Json> = (0..9000).map(|n| field(&format!("f{n}"), json!("null"))).collect();
    let leaf = || record("Leaf", json!([field("n", json!("int"))]));
    for (schema, expected) in [
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
            "because a few bytes could decode to many values",
        ),
        (
            record(
                "Top",
                json!([
                    field("one", leaf()),
                    field("two", record("x.Leaf", json!([field("next", json!(["null", ".Leaf"]))])))
                ]),
            ),
            "contains itself",
        ),
        // The decoder does not resolve aliases.
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
            "because a few bytes could decode to many values",
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
            error.contains(expected),
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
        let expected = recursive.map(|name| format!("the writer's schema is recursive, which is not supported: `{name}` contains itself"));
        assert_eq!(refused, expected, "{schema}");
    }
}
