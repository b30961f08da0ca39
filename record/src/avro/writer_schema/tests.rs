//! Writer's schemas that are parsed, and those that are refused.

use serde_json::{Value as Json, json};

use super::{super::schema_text::MAX_TEXT, *};

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

fn empty() -> Json {
    record("Empty", json!([]))
}

fn nulls(count: usize) -> Vec<Json> {
    (0..count).map(|n| field(&format!("f{n}"), json!("null"))).collect()
}

/// Each record has two of the one before.
fn doubled(first: Json) -> Json {
    let mut fields = vec![field("f0", record("R0", json!([field("n", first)])))];
    for n in 1..40 {
        let of = format!("R{}", n - 1);
        fields.push(field(
            &format!("f{n}"),
            record(&format!("R{n}"), json!([field("a", json!(of)), field("b", json!(of))])),
        ));
    }
    json!(fields)
}

fn nested(depth: usize) -> Json {
    let mut variants = vec![record("R0", json!([field("n", json!("int"))]))];
    for n in 1..depth {
        variants.push(record(&format!("R{n}"), json!([field("a", json!(format!("R{}", n - 1)))])));
    }
    json!([field("one", json!(variants))])
}

fn fixed(size: usize) -> Json {
    json!({"type": "fixed", "name": "Fixed", "size": size})
}

/// The refusals of a record of these fields, with and without a namespace.
fn refusals(fields: &Json) -> [Option<String>; 2] {
    [None, Some("a.b")].map(|namespace| {
        let mut schema = record("Top", fields.clone());
        if let Some(namespace) = namespace {
            schema["namespace"] = json!(namespace);
        }
        parse(&schema.to_string()).err().map(|e| e.to_string())
    })
}

#[test]
fn a_schema_is_refused_if_a_few_bytes_could_decode_to_many_values() {
    for fields in [
        json!([field("all", array(json!("null")))]),
        json!([field("all", array(empty()))]),
        json!([field("one", empty()), field("all", array(json!("Empty")))]),
        json!([field("all", array(record("Holds", json!(nulls(1)))))]),
        json!([field("all", json!({"type": "map", "values": array(json!("null"))}))]),
        json!([field("all", json!(["null", array(array(json!("null")))]))]),
        json!([field("all", array(fixed(0)))]),
        json!([field("all", array(json!(["int", record("Wide", json!(nulls(100)))])))]),
        json!([field("all", json!({"type": "map", "values": record("Wide", json!(nulls(100)))}))]),
        json!(nulls(10_001)),
        // Each byte stands for more than a few.
        json!([field("all", array(json!(["int", record("Some", json!(nulls(10)))])))]),
        // Later bytes do not count for earlier values, because they may be missing.
        json!([field("first", record("Wide", json!(nulls(10_001)))), field("last", fixed(1 << 20))]),
        // Names come with each value.
        json!([field(
            "all",
            array(json!({"type": "enum", "name": "E", "symbols": ["x".repeat(1000)]}))
        )]),
        json!([field("all", array(record("Long", json!([field(&"x".repeat(1000), json!("int"))]))))]),
        doubled(json!("null")),
        nested(200),
        json!([field("one", fixed(MAX_ALLOCATION + 1))]),
        json!([field(
            "one",
            json!({"type": "fixed", "name": "Fixed", "size": 1_u64 << 50, "logicalType": "decimal", "precision": 4})
        )]),
    ] {
        for found in refusals(&fields) {
            let is_expected = found.as_ref().is_some_and(|error| error.contains("a few bytes could decode to"));
            assert!(is_expected, "{found:?}: {fields}");
        }
    }
}

#[test]
fn a_schema_is_accepted_if_its_values_take_bytes() {
    for fields in [
        json!([field("one", json!("null")), field("two", empty())]),
        json!(nulls(500)),
        json!([field("all", array(json!(["null", "int"])))]),
        json!([field("all", array(array(json!("int"))))]),
        json!([field("all", json!({"type": "map", "values": "null"}))]),
        json!([field("all", array(record("Some", json!([field("n", json!("int"))]))))]),
        nested(50),
        // As large as it is: each of its values takes a byte.
        doubled(json!("int")),
        json!([
            field("all", array(fixed(16))),
            field("more", json!("Fixed")),
            field("most", array(json!("Fixed")))
        ]),
    ] {
        assert_eq!(refusals(&fields), [None, None], "{fields}");
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

fn assert_refused(schema: &Json, expected: &str) {
    let error = parse(&schema.to_string()).err().map(|e| e.to_string()).unwrap_or_default();
    let start: String = schema.to_string().chars().take(300).collect();
    assert!(error.contains(expected), "{error:?}: {start}");
}

#[test]
fn a_name_stands_for_the_type_that_the_decoder_takes_it_for() {
    let nulls = nulls(9000);
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
    ] {
        assert_refused(&schema, expected);
    }
}

#[test]
fn an_alias_is_not_resolved() {
    let nulls = nulls(9000);
    for (schema, expected) in [
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
        assert_refused(&schema, expected);
    }
}

#[test]
fn a_qualified_name_within_a_namespace_is_resolved() {
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
