use serde_json::json;

use super::*;

fn statements(schema: &RecordSchema) -> String {
    let mut all = vec![
        schema.landing_ddl("raw_users"),
        RecordSchema::landing_add_deleted("raw_users"),
        RecordSchema::landing_pending_index("raw_users").1,
    ];
    if schema.filter.is_some() {
        all.push(RecordSchema::landing_add_filtered("raw_users"));
        all.extend(schema.landing_announce_expiry("raw_users"));
    }
    all.extend([
        schema.sink_ddl("created_users"),
        schema.landing_batch_ddl(),
        schema.landing_copy(),
        if schema.order_by.is_some() {
            schema.landing_upsert_ordered("raw_users")
        } else {
            schema.landing_upsert("raw_users")
        },
        schema.landing_expire("raw_users"),
        schema.pending_select("raw_users"),
        schema.published_update("raw_users"),
        schema.sink_upsert("created_users"),
    ]);
    if schema.order_by.is_some() {
        all.push(schema.sink_upsert_ordered("created_users"));
        all.push(schema.sink_delete_ordered("created_users"));
        all.push(schema.sink_stored("created_users"));
        all.push(RecordSchema::sink_add_order("created_users"));
    }
    if schema.has_deletes() {
        all.push(schema.sink_delete("created_users"));
        all.push(RecordSchema::sink_lock("created_users", true));
    }
    all.join(";\n\n")
}

#[test]
fn the_statements_are_those_that_were_reviewed() {
    insta::assert_snapshot!(statements(&RecordSchema::user()));
}

#[test]
fn the_statements_of_a_declared_record_are_those_that_were_reviewed() {
    let declared = json!({"key": ["device", "at"], "orderBy": "seen", "deleteWhen": "has(item.gone)", "fields": [
        {"name": "at", "type": "date", "from": "/at"},
        {"name": "device", "type": "long", "from": "/device"},
        {"name": "seen", "type": "timestamp", "from": "/seen"},
        {"name": "extra", "type": "json", "from": "/extra", "optional": true},
    ]});
    insta::assert_snapshot!(statements(
        &RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap()
    ));
}

#[test]
fn the_statements_of_a_record_with_a_filter_are_those_that_were_reviewed() {
    let declared = |order_by: Option<&str>| {
        let mut declared = json!({"key": ["device"], "where": "celsius > 30.0", "fields": [
            {"name": "device", "type": "long", "from": "/device"},
            {"name": "seen", "type": "long", "from": "/seen"},
            {"name": "celsius", "type": "double", "from": "/celsius"},
        ]});
        if let Some(field) = order_by {
            declared["orderBy"] = field.into();
        }
        statements(&RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap())
    };
    insta::assert_snapshot!([declared(None), declared(Some("seen"))].join(";\n\n\n"));
}

#[test]
fn an_added_column_has_its_default() {
    for (field_type, value, expected) in [
        ("string", json!("it's"), "text NOT NULL DEFAULT 'it''s'::text"),
        ("double", json!(1e300), "float8 NOT NULL DEFAULT '1e300'::float8"),
        ("date", json!("2023-09-03"), "date NOT NULL DEFAULT '2023-09-03'::date"),
        (
            "timestamp",
            json!(1),
            "timestamptz NOT NULL DEFAULT '1970-01-01T00:00:00.001Z'::timestamptz",
        ),
        (
            "timestamp",
            json!("9999-12-31T23:59:59.999Z"),
            "timestamptz NOT NULL DEFAULT '9999-12-31T23:59:59.999Z'::timestamptz",
        ),
        ("json", json!({"a": [1]}), "jsonb NOT NULL DEFAULT '{\"a\":[1]}'::jsonb"),
        ("boolean", json!(false), "bool NOT NULL DEFAULT 'false'::bool"),
    ] {
        let declared = json!({"key": ["id"], "fields": [
            {"name": "id", "type": "long", "from": "/id"},
            {"name": "x", "type": field_type, "from": "/x", "default": value},
        ]});
        let schema = RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap();
        assert_eq!(
            RecordSchema::sink_add("t", &schema.fields[1]),
            format!("ALTER TABLE \"t\" ADD COLUMN IF NOT EXISTS \"x\" {expected}")
        );
    }
}

#[test]
fn an_identifier_cannot_break_out_of_its_quotes() {
    assert_eq!(quote("a\"; DROP TABLE x; --"), "\"a\"\"; DROP TABLE x; --\"");
}
