use serde_json::{Value, json};

use super::*;

fn problems(declared: Value) -> Vec<String> {
    let record = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "country", "type": "string", "from": "/country", "optional": true},
        {"name": "age", "type": "long", "from": "/age"},
        {"name": "weight", "type": "double", "from": "/weight"},
        {"name": "extra", "type": "json", "from": "/extra"},
        {"name": "at", "type": "timestamp", "from": "/at"},
        {"name": "seen", "type": "timestamp", "from": "/seen", "optional": true},
    ]});
    let schema = RecordSchema::of(Some(&serde_json::from_value(record).unwrap())).unwrap();
    let declared: Vec<userpipeline_api::Aggregate> = serde_json::from_value(declared).unwrap();
    let found = Aggregate::all(&declared, &schema, "people", Some("people"));
    found.err().unwrap_or_default().iter().map(Problem::to_string).collect()
}

/// An aggregate with a count, and more.
fn with(more: &Value) -> Value {
    let mut aggregate = json!({"name": "a", "groupBy": ["age"], "values": [{"name": "n", "count": {}}]});
    for (key, value) in more.as_object().unwrap() {
        aggregate[key] = value.clone();
    }
    json!([aggregate])
}

#[test]
fn a_sound_aggregate_has_no_problem() {
    for more in [
        json!({}),
        json!({"groupBy": []}),
        json!({"groupBy": ["country", "age"], "window": {"field": "at", "every": "15m", "timeZone": "Europe/Berlin"}, "keep": "24h"}),
        json!({"window": {"field": "at", "every": "24h", "hop": "1h"}, "sinks": {"cassandra": {}}}),
        json!({"groupBy": [], "window": {"field": "at", "every": "168h"}, "sinks": {"cassandra": {"table": "weeks"}}}),
        json!({"values": [{"name": "a", "countDistinct": "country"}, {"name": "b", "sum": "weight"}, {"name": "c", "max": "at"}]}),
    ] {
        assert_eq!(problems(with(&more)), Vec::<String>::new(), "{more}");
    }
}

#[test]
fn a_problem_of_a_group_or_value_names_its_field_and_says_what_to_do() {
    for (more, says) in [
        (
            json!({"groupBy": ["land"]}),
            "spec.aggregates[0].groupBy[0]: `land` is not a field of the record",
        ),
        (
            json!({"groupBy": ["age", "age"]}),
            "spec.aggregates[0].groupBy[1]: `age` is listed twice",
        ),
        (
            json!({"groupBy": ["weight"]}),
            "spec.aggregates[0].groupBy[0]: `weight` has type double; it must be one of string, ",
        ),
        (
            json!({"values": [{"name": "s", "sum": "country"}]}),
            "spec.aggregates[0].values[0].sum: `country` has type string; it must be one of int, long, double",
        ),
        (
            json!({"values": [{"name": "d", "countDistinct": "extra"}]}),
            "spec.aggregates[0].values[0].countDistinct: `extra` has type json",
        ),
        (
            json!({"values": [{"name": "s"}]}),
            "spec.aggregates[0].values[0]: must have exactly one of count,",
        ),
        (
            json!({"values": [{"name": "s", "sum": "age", "min": "age"}]}),
            "spec.aggregates[0].values[0]: must have exactly one of count,",
        ),
        (
            json!({"values": [{"name": "age", "count": {}}]}),
            "spec.aggregates[0].values: `age` is already a column of the view",
        ),
        (
            json!({"values": [{"name": "window_end", "count": {}}]}),
            "spec.aggregates[0].values: `window_end` is already a column of the view",
        ),
    ] {
        let found = problems(with(&more));
        assert!(found.iter().any(|problem| problem.starts_with(says)), "{more}: {found:?}");
    }
}

#[test]
fn a_problem_of_a_window_or_sink_names_its_field_and_says_what_to_do() {
    for (more, says) in [
        (
            json!({"window": {"field": "seen", "every": "1h"}}),
            "spec.aggregates[0].window.field: `seen` must be a field of type timestamp that is not optional",
        ),
        (
            json!({"window": {"field": "at", "every": "7h"}}),
            "spec.aggregates[0].window.every: neither divides 24h nor is a multiple of it",
        ),
        (
            json!({"window": {"field": "at", "every": "1h", "timeZone": "Mars/Olympus"}}),
            "spec.aggregates[0].window.timeZone: ",
        ),
        (
            json!({"window": {"field": "at", "every": "24h", "hop": "30m"}}),
            "spec.aggregates[0].window.hop: puts each record into 48 windows",
        ),
        (json!({"keep": "24h"}), "spec.aggregates[0].keep: needs window"),
        (
            json!({"sinks": {"postgres": {"view": "people"}}}),
            "spec.aggregates[0].sinks.postgres.view: `people` is the table of spec.sinks.postgres",
        ),
        (
            json!({"groupBy": ["country"], "sinks": {"cassandra": {}}}),
            "spec.aggregates[0].sinks.cassandra: `country` of groupBy is optional",
        ),
        (
            json!({"groupBy": [], "sinks": {"cassandra": {}}}),
            "spec.aggregates[0].sinks.cassandra: needs groupBy or window",
        ),
    ] {
        let found = problems(with(&more));
        assert!(found.iter().any(|problem| problem.starts_with(says)), "{more}: {found:?}");
    }
}

#[test]
fn two_aggregates_have_neither_one_name_nor_one_view() {
    let view = |name: &str| json!({"name": name, "values": [{"name": "n", "count": {}}], "sinks": {"postgres": {"view": "totals"}}});
    assert_eq!(
        problems(json!([view("a"), view("b")])),
        ["spec.aggregates[1].sinks.postgres.view: `totals` is also that of aggregate `a`; choose another name"]
    );
    assert!(problems(json!([view("a"), view("a")]))[0].starts_with("spec.aggregates[1].name: `a` is also that of"));
}
