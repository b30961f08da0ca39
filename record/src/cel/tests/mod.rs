//! What expressions give, and what they refuse.

mod filter;
mod limits;

use serde_json::{Value as Json, json};

use super::Expression;

fn value(text: &str, item: &Json) -> Result<Json, String> {
    Expression::compile(text).unwrap().evaluate(item)
}

#[test]
fn an_expression_has_a_value_for_an_item() {
    let item =
        json!({"celsius": 21.5, "n": 3, "big": u64::MAX, "name": "Åse", "tags": ["a", "b"], "at": "2024-03-01T00:00:00Z", "none": null});
    for (text, expected) in [
        ("item.celsius * 1.8 + 32.0", json!(70.7)),
        ("item.n * 2", json!(6)),
        ("item.big", json!(u64::MAX)),
        ("item.name + '!'", json!("Åse!")),
        ("size(item.tags)", json!(2)),
        ("item.tags.exists(t, t == 'b')", json!(true)),
        ("item.tags.exists( t, t == item.tags[1] )", json!(true)),
        ("item.tags.map(t, {'tag': t})[0].tag", json!("a")),
        ("size(item)", json!(7)),
        ("item.exists(item, item == 'big') && item['n'] == 3", json!(true)),
        ("has(item.none.member) || has(item.name.member)", json!(false)),
        ("has(item.missing) ? item.missing : 'nothing'", json!("nothing")),
        ("timestamp(item.at)", json!("2024-03-01T00:00:00+00:00")),
        ("item.none", json!(null)),
        ("{'a': item.n}", json!({"a": 3})),
        ("'missing' in item", json!(false)),
        ("item.name.upperAscii().trim().replace('S', 'Z')", json!("ÅZE")),
        ("'a,b'.split(',')[1]", json!("b")),
    ] {
        assert_eq!(value(text, &item), Ok(expected), "{text}");
    }
}

#[test]
fn an_expression_without_a_value_says_why() {
    let item = json!({"a": 1, "none": null, "text": "x", "list": [{"b": 1}], "zero": 0.0, "far": "2000000h"});
    for (text, says) in [
        ("item.missing", "No such key"),
        ("item + 1", "Unsupported binary operator"),
        ("{1: 'a', '1': 'b'}", "two keys of the same text"),
        ("1 / 0", "zero"),
        ("timestamp('x')", "timestamp"),
        // Reading a member of null is an error, not false.
        ("!item.none.active", "No such overload"),
        ("item.text.b", "No such overload"),
        ("item.list.b", "No such overload"),
        ("item.list[0].c", "No such key"),
        ("item.none.b == 1 || false", "No such overload"),
        // JSON has no form for these.
        ("1.0 / item.zero", "infinite"),
        ("[{'a': item.zero / item.zero}]", "infinite"),
        ("timestamp('9999-12-31T00:00:00Z') + duration(item.far)", "Overflow"),
    ] {
        let error = value(text, &item).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn text_that_is_not_an_expression_is_refused() {
    for (text, says) in [
        ("item.", "is not a CEL expression"),
        ("user.name", "the only variable is `item`"),
        ("fetch(item)", "calls `fetch`"),
        ("", "is not a CEL expression"),
        (".matches(item.a, item.b)", "calls `.matches`"),
        ("[1].map(x, .type(x))", "calls `.type`"),
        ("_f(item)", "calls `_f`"),
        ("Thing{}", "makes a `Thing`"),
        ("[item.a, Thing{}]", "makes a `Thing`"),
        ("item.all(x, y > 1)", "reads `y`"),
    ] {
        let error = Expression::compile(text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn numbers_are_equal_however_an_api_writes_them() {
    for (text, truth) in [
        ("item.none == 0", true),
        ("item.zero == 0", true),
        ("0 == item.zero", true),
        ("item.zero == item.none", true),
        ("item.zero != 0", false),
        ("item.three == 3.0", true),
        ("item.three != 3.5", true),
        ("item.big == 18446744073709551615u", true),
        ("2 in item.levels", true),
        ("2.0 in item.levels", true),
        ("4 in item.levels", false),
        ("item.levels.contains(3)", true),
        ("item.levels == [1, 2, 3]", true),
        ("item.nested == {'a': [1]}", true),
        ("item.nested == {'a': [2]}", false),
        ("'a' in item.nested && item.nested.contains('a')", true),
        ("1.0 in {1: 'one'}", true),
        ("item.three == '3'", false),
        ("item.nil == 0", false),
        ("item.nil == null", true),
        ("item.levels.exists(level, level == 3)", true),
    ] {
        let item = json!({
            "none": 0, "zero": 0.0, "three": 3, "big": u64::MAX, "levels": [1, 2.0, 3.0], "nested": {"a": [1.0]}, "nil": null
        });
        assert_eq!(value(text, &item), Ok(json!(truth)), "{text}");
    }
}

#[test]
fn functions_behave_as_cel_defines_them() {
    let item = json!({"name": "Åse 🎈", "bytes": "", "least": i64::MIN, "nil": null});
    for (text, expected) in [
        ("size(item.name)", Ok(json!(5))),
        ("item.name.size()", Ok(json!(5))),
        ("size(bytes(item.name))", Ok(json!(9))),
        ("bytes('ab').contains(bytes(item.bytes))", Ok(json!(true))),
        ("bytes('abc').contains(bytes('bc'))", Ok(json!(true))),
        ("item.name.contains('se')", Ok(json!(true))),
        ("-item.least", Err("Overflow")),
        ("string(duration('-1h30m0.5s'))", Ok(json!("-5400.5s"))),
        ("string(duration('100s'))", Ok(json!("100s"))),
        ("string(duration('9e9h') + duration('9e9h'))", Err("duration(…)")),
        ("string(7)", Ok(json!("7"))),
        ("-1 + -(2) - size('a')", Ok(json!(-4))),
        ("-(1.5)", Ok(json!(-1.5))),
        ("size(item.nil)", Err("No such overload")),
        ("!item.nil.contains('a')", Err("No such overload")),
        ("'a' in item.nil", Err("No such overload")),
        ("-item.name", Err("No such overload")),
    ] {
        match (value(text, &item), expected) {
            (found, Ok(expected)) => assert_eq!(found, Ok(expected), "{text}"),
            (found, Err(says)) => assert!(found.as_ref().is_err_and(|error| error.contains(says)), "{text}: {found:?}"),
        }
    }
}

#[test]
fn a_function_can_be_called_both_ways() {
    let item = json!({"text": " Ab,c ", "n": 7, "l": [1, 2], "at": "2024-03-01T00:00:00+02:00"});
    for (text, expected) in [
        ("lowerAscii(item.text)", json!(" ab,c ")),
        ("item.text.trim()", json!("Ab,c")),
        ("split(item.text, ',')", json!([" Ab", "c "])),
        ("replace(item.text, ',', ';')", json!(" Ab;c ")),
        ("contains(item.l, 2)", json!(true)),
        ("startsWith(item.text, ' A') && item.text.endsWith('c ')", json!(true)),
        ("matches(item.text, 'A.,') && item.text.matches('c')", json!(true)),
        ("item.n.string() + string(item.n)", json!("77")),
        ("item.n.double() + double('1.5')", json!(8.5)),
        ("item.l.size() + size(item.l)", json!(4)),
        ("getFullYear(timestamp(item.at)) + item.at.timestamp().getFullYear()", json!(4048)),
        ("max(item.l) + item.l.min()", json!(3)),
    ] {
        assert_eq!(value(text, &item), Ok(expected), "{text}");
    }
}

#[test]
fn the_text_of_a_time_keeps_its_offset() {
    let item = json!({"at": "2024-03-01T00:00:00+02:00", "utc": "2024-03-01T00:00:00.5Z"});
    for (text, expected) in [
        ("string(timestamp(item.at))", "2024-03-01T00:00:00+02:00"),
        ("string(timestamp(item.utc))", "2024-03-01T00:00:00.500+00:00"),
    ] {
        assert_eq!(value(text, &item), Ok(json!(expected)), "{text}");
    }
}

#[test]
fn the_value_of_a_map_has_the_order_of_its_keys_each_time() {
    let keys: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
    let labels: Json = keys
        .iter()
        .rev()
        .map(|key| (key.clone(), json!({"b": 1, "a": key})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let item = json!({"labels": labels});
    for (text, expected) in [
        ("item.labels.map(k, k)", json!(keys)),
        ("[] + item.labels", json!(keys)),
        ("item.labels.filter(k, k > '37')", json!(["38", "39"])),
        ("item.labels.map(k, item.labels[k].a)[0]", json!("00")),
    ] {
        assert_eq!(value(text, &item), Ok(expected), "{text}");
    }
    let written = value("item.labels", &item).unwrap().to_string();
    assert!(written.starts_with(r#"{"00":{"a":"00","b":1},"01":"#), "{written}");
}

/// Expressions over one value.
const OF_ONE: [&str; 32] = [
    "size($1)",
    "max($1)",
    "min($1)",
    "string($1)",
    "bytes($1)",
    "double($1)",
    "int($1)",
    "uint($1)",
    "duration($1)",
    "timestamp($1)",
    "-$1",
    "!$1",
    "$1.lowerAscii()",
    "$1.upperAscii()",
    "$1.trim()",
    "string(duration($1))",
    "timestamp($1).getFullYear()",
    "timestamp($1).getMonth()",
    "timestamp($1).getDayOfYear()",
    "timestamp($1).getDayOfMonth()",
    "timestamp($1).getDate()",
    "timestamp($1).getDayOfWeek()",
    "timestamp($1).getHours()",
    "timestamp($1).getMinutes()",
    "timestamp($1).getSeconds()",
    "timestamp($1).getMilliseconds()",
    "duration($1).getHours()",
    "duration($1).getMilliseconds()",
    "$1.exists(x, x == 1)",
    "$1.map(x, x)",
    "max()",
    "min()",
];

/// Expressions over two values.
const OF_TWO: [&str; 31] = [
    "$1 + $2",
    "$1 - $2",
    "$1 * $2",
    "$1 / $2",
    "$1 % $2",
    "$1 == $2",
    "$1 != $2",
    "$1 < $2",
    "$1 <= $2",
    "$1 > $2",
    "$1 >= $2",
    "$1 in $2",
    "$1[$2]",
    "$1 && $2",
    "$1 || $2",
    "$1.contains($2)",
    "bytes($1).contains(bytes($2))",
    "$1.startsWith($2)",
    "$1.endsWith($2)",
    "$1.matches($2)",
    "$1.split($2)",
    "$1.replace($2, $2)",
    "max($1, $2)",
    "min($1, $2)",
    "timestamp($1) + duration($2)",
    "timestamp($1) - duration($2)",
    "timestamp($1) - timestamp($2)",
    "duration($1) + duration($2)",
    "duration($1) - duration($2)",
    "(timestamp($1) - duration($2)).getDayOfYear()",
    "$1 ? $2 : $2",
];

#[test]
fn no_function_panics_whatever_its_arguments() {
    let all = json!([
        "9e9h".repeat(16), "9e9h".repeat(900), format!("-{}", "9e9h".repeat(15)), null, true, 0, -1, i64::MIN, i64::MAX, u64::MAX, 1.5, 1e300, -1e300, "", "a", "é", "0", "-1h", "9999999h", "2024-02-29T23:59:59Z",
        "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "(", [], [1, "a"], {}, {"a": 1}
    ]);
    let all = all.as_array().unwrap();
    let mut evaluated = 0;
    for text in OF_ONE.into_iter().chain(OF_TWO) {
        let expression = Expression::compile(&text.replace("$1", "item.x").replace("$2", "item.y")).unwrap();
        for x in all {
            for y in if text.contains("$2") { &all[..] } else { &all[..1] } {
                let _ = expression.evaluate(&json!({"x": x, "y": y}));
                evaluated += 1;
            }
        }
    }
    assert!(evaluated > 15_000);
}
