//! The SQL of an aggregate, as snapshots.

use serde_json::json;

use crate::{RecordSchema, aggregate::Aggregate};

fn aggregate(declared: serde_json::Value) -> Aggregate {
    let record = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "country", "type": "string", "from": "/country", "optional": true},
        {"name": "username", "type": "string", "from": "/username"},
        {"name": "age", "type": "int", "from": "/age", "optional": true},
        {"name": "amount", "type": "double", "from": "/amount", "optional": true},
        {"name": "dob", "type": "date", "from": "/dob", "optional": true},
        {"name": "registered", "type": "timestamp", "from": "/registered"},
    ]});
    let schema = RecordSchema::of(Some(&serde_json::from_value(record).unwrap())).unwrap();
    let declared = serde_json::from_value(declared).unwrap();
    Aggregate::all(&[declared], &schema, "users", Some("users")).unwrap().remove(0)
}

fn full() -> Aggregate {
    aggregate(json!({
        "name": "by_hour", "groupBy": ["country"], "keep": "48h",
        "window": {"field": "registered", "every": "1h", "timeZone": "Europe/Berlin"},
        "values": [
            {"name": "users", "count": {}},
            {"name": "names", "countDistinct": "username"},
            {"name": "average_age", "avg": "age"},
            {"name": "oldest", "min": "dob"},
            {"name": "spent", "sum": "amount"},
        ],
    }))
}

fn text(aggregate: &Aggregate) -> String {
    let all = aggregate.statements();
    let mut texts = vec![all.settings.to_owned(), all.lock];
    texts.extend(all.tables.into_iter().chain([all.fill]).chain(all.triggers).chain([all.view]));
    texts.extend(aggregate.expire().map(|(_, statement)| statement));
    if let Some(mirror) = aggregate.mirror_statements() {
        texts.extend([mirror.since, mirror.changed, mirror.forget_empty, mirror.advance]);
    }
    texts.join(";\n\n")
}

#[test]
fn the_statements_of_each_function_and_a_window_are_those_that_were_reviewed() {
    insta::assert_snapshot!(text(&full()));
}

#[test]
fn the_statements_of_totals_that_cassandra_has_too_are_those_that_were_reviewed() {
    insta::assert_snapshot!(text(&aggregate(json!({
        "name": "by_name", "groupBy": ["username"], "keep": "48h", "window": {"field": "registered", "every": "6h", "hop": "2h"},
        "values": [{"name": "users", "count": {}}, {"name": "ages", "sum": "age"}, {"name": "newest", "max": "dob"}],
        "sinks": {"cassandra": {}},
    }))));
}

#[test]
fn the_names_of_totals_fit_into_postgresql_with_what_follows_them() {
    let mut aggregate = full();
    aggregate.view = "v".repeat(63);
    let names = aggregate.names();
    assert!(names.base().len() + "_truncate".len() <= 63, "{}", names.base());
    assert!(names.base().ends_with(&aggregate.hash()));
}

#[test]
fn each_change_of_a_definition_changes_the_names_of_its_totals() {
    let definition = |every: &str, value: serde_json::Value| {
        let window = json!({"field": "registered", "every": every});
        aggregate(json!({"name": "a", "window": window, "values": [value]})).names()
    };
    let first = definition("1h", json!({"name": "n", "count": {}}));
    assert_eq!(first, definition("60m", json!({"name": "n", "count": {}})));
    assert_ne!(first, definition("2h", json!({"name": "n", "count": {}})));
    assert_ne!(first, definition("1h", json!({"name": "n", "sum": "age"})));
}
