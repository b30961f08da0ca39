//! What an expression can call, and the operators that the library has otherwise than CEL defines them.

use std::sync::Arc;

use cel::{
    Context, ExecutionError, FunctionContext, Value as Cel,
    common::ast::operators::{EQUALS, IN, NEGATE, NOT_EQUALS},
    extractors::This,
    objects::Key,
};

/// What can be called; the last line is ours, as in Kubernetes' own rules.
pub const FUNCTIONS: [&str; 30] = [
    "contains",
    "size",
    "max",
    "min",
    "startsWith",
    "endsWith",
    "string",
    "bytes",
    "double",
    "int",
    "uint",
    "matches",
    "duration",
    "timestamp",
    "getFullYear",
    "getMonth",
    "getDayOfYear",
    "getDayOfMonth",
    "getDate",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "has", //
    "lowerAscii",
    "upperAscii",
    "trim",
    "replace",
    "split",
];

/// What a macro goes through: of a map its keys, in their order, for the library has them in another one each time.
pub const IN_ORDER: &str = "@in_order";
const EQUAL: &str = "@equal";
const UNEQUAL: &str = "@unequal";
const WITHIN: &str = "@within";
const NEGATIVE: &str = "@negative";

/// The longest duration, in bytes as it is written: its parts are of 292 years at most.
const MAX_DURATION: usize = 64;

type Answer = Result<Cel, ExecutionError>;

/// Our own function for an operator that the library has otherwise. To it a whole number is never the same as a fraction, and the least
/// whole number is its own negative. No expression can write these names.
pub fn instead_of(operator: &str) -> Option<&'static str> {
    match operator {
        EQUALS => Some(EQUAL),
        NOT_EQUALS => Some(UNEQUAL),
        IN => Some(WITHIN),
        NEGATE => Some(NEGATIVE),
        _ => None,
    }
}

/// All of them.
pub fn functions() -> Context<'static> {
    type Text = Arc<String>;
    let mut context = Context::default();
    context.add_function("lowerAscii", |This(text): This<Text>| text.to_ascii_lowercase());
    context.add_function("upperAscii", |This(text): This<Text>| text.to_ascii_uppercase());
    context.add_function("trim", |This(text): This<Text>| text.trim().to_owned());
    context.add_function("replace", |This(text): This<Text>, old: Text, new: Text| text.replace(&*old, &new));
    context.add_function("split", |This(text): This<Text>, by: Text| -> Answer {
        let parts = text.split(by.as_str()).map(|part| Cel::String(Arc::new(part.to_owned())));
        Ok(Cel::List(Arc::new(parts.collect())))
    });
    context.add_function("duration", |text: Text| duration(text));
    context.add_function("string", string);
    context.add_function("size", |This(of): This<Cel>| size(&of));
    context.add_function("contains", |This(of): This<Cel>, part: Cel| contains(&of, &part));
    context.add_function(EQUAL, |left: Cel, right: Cel| left == right);
    context.add_function(UNEQUAL, |left: Cel, right: Cel| left != right);
    context.add_function(WITHIN, |part: Cel, of: Cel| within(&part, &of));
    context.add_function(NEGATIVE, |number: Cel| negative(&number));
    context.add_function(IN_ORDER, |of: Cel| -> Answer { Ok(in_order(of)) });
    context
}

/// The library adds up as many parts as there are, and panics where a time and that are beyond its calendar.
fn duration(text: Arc<String>) -> Answer {
    if text.len() > MAX_DURATION {
        return Err(ExecutionError::function_error("duration", "too long"));
    }
    cel::functions::duration(text)
}

/// The library writes a negative duration as a large one. By CEL's definition it is in seconds.
#[allow(clippy::needless_pass_by_value)] // As the library calls it.
fn string(context: &FunctionContext<'_, '_>, This(of): This<Cel>) -> Answer {
    let Cel::Duration(duration) = &of else {
        return cel::functions::string(context, This(of));
    };
    let nanos = duration.num_nanoseconds().ok_or_else(|| context.error("too long"))?;
    let (seconds, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let mut text = format!("{}{seconds}.{rest:09}", if nanos < 0 { "-" } else { "" });
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    Ok(Cel::String(Arc::new(text + "s")))
}

/// Of a text the library counts the bytes, where CEL counts characters.
fn size(of: &Cel) -> Answer {
    let size = match of {
        Cel::String(text) => text.chars().count(),
        Cel::Bytes(bytes) => bytes.len(),
        Cel::List(items) => items.len(),
        Cel::Map(map) => map.map.len(),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    Ok(Cel::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// The library panics where it looks for no bytes, and to it what has no parts does not have this one.
fn contains(of: &Cel, part: &Cel) -> Answer {
    let found = match (of, part) {
        (Cel::String(text), Cel::String(part)) => text.contains(part.as_str()),
        (Cel::Bytes(bytes), Cel::Bytes(part)) => part.is_empty() || bytes.windows(part.len()).any(|some| some == part.as_slice()),
        (Cel::List(_) | Cel::Map(_), part) => return within(part, of),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    Ok(Cel::Bool(found))
}

fn within(part: &Cel, of: &Cel) -> Answer {
    let found = match (of, part) {
        (Cel::List(items), part) => items.contains(part),
        (Cel::Map(map), Cel::String(key)) => map.map.contains_key(&Key::String(Arc::clone(key))),
        (Cel::Map(map), part) => map.map.keys().any(|key| Cel::from(key) == *part),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    Ok(Cel::Bool(found))
}

fn negative(number: &Cel) -> Answer {
    match number {
        Cel::Int(whole) => whole
            .checked_neg()
            .map(Cel::Int)
            .ok_or_else(|| ExecutionError::Overflow("neg", Cel::Int(0), number.clone())),
        Cel::Float(fraction) => Ok(Cel::Float(-fraction)),
        _ => Err(ExecutionError::NoSuchOverload),
    }
}

fn in_order(of: Cel) -> Cel {
    let Cel::Map(map) = &of else { return of };
    let mut keys: Vec<&Key> = map.map.keys().collect();
    keys.sort_unstable();
    Cel::List(Arc::new(keys.into_iter().map(Cel::from).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::expression::Expression;

    fn value(text: &str, item: &Json) -> Result<Json, String> {
        Expression::read(text).unwrap().value(item)
    }

    #[test]
    fn numbers_are_the_same_however_an_api_writes_them() {
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
    fn what_the_library_has_otherwise_is_as_cel_defines_it() {
        let item = json!({"name": "Åse 🎈", "bytes": "", "least": i64::MIN, "nil": null});
        for (text, wanted) in [
            ("size(item.name)", Ok(json!(5))),
            ("item.name.size()", Ok(json!(5))),
            ("size(bytes(item.name))", Ok(json!(9))),
            ("bytes('ab').contains(bytes(item.bytes))", Ok(json!(true))),
            ("bytes('abc').contains(bytes('bc'))", Ok(json!(true))),
            ("item.name.contains('se')", Ok(json!(true))),
            ("-item.least", Err("Overflow")),
            ("string(duration('-1h30m0.5s'))", Ok(json!("-5400.5s"))),
            ("string(duration('100s'))", Ok(json!("100s"))),
            ("string(duration('9e9h') + duration('9e9h'))", Err("string(…)")),
            ("string(7)", Ok(json!("7"))),
            ("-1 + -(2) - size('a')", Ok(json!(-4))),
            ("-(1.5)", Ok(json!(-1.5))),
            ("size(item.nil)", Err("No such overload")),
            ("!item.nil.contains('a')", Err("No such overload")),
            ("'a' in item.nil", Err("No such overload")),
            ("-item.name", Err("No such overload")),
        ] {
            match (value(text, &item), wanted) {
                (found, Ok(wanted)) => assert_eq!(found, Ok(wanted), "{text}"),
                (found, Err(says)) => assert!(found.as_ref().is_err_and(|error| error.contains(says)), "{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn what_is_made_of_a_map_has_its_order_by_the_keys_each_time() {
        let keys: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
        let labels: Json = keys
            .iter()
            .rev()
            .map(|key| (key.clone(), json!({"b": 1, "a": key})))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let item = json!({"labels": labels});
        for (text, wanted) in [
            ("item.labels.map(k, k)", json!(keys)),
            ("item.labels.filter(k, k > '37')", json!(["38", "39"])),
            ("item.labels.map(k, item.labels[k].a)[0]", json!("00")),
        ] {
            assert_eq!(value(text, &item), Ok(wanted), "{text}");
        }
        let written = value("item.labels", &item).unwrap().to_string();
        assert!(written.starts_with(r#"{"00":{"a":"00","b":1},"01":"#), "{written}");
    }

    #[test]
    fn no_function_ends_the_process_whatever_it_is_given() {
        let all = json!([
            "9e9h".repeat(16), "9e9h".repeat(900), format!("-{}", "9e9h".repeat(15)), null, true, 0, -1, i64::MIN, i64::MAX, u64::MAX, 1.5, 1e300, -1e300, "", "a", "é", "0", "-1h", "9999999h", "2024-02-29T23:59:59Z",
            "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "(", [], [1, "a"], {}, {"a": 1}
        ]);
        let one = [
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
        let two = [
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
        let all = all.as_array().unwrap();
        let mut evaluated = 0;
        for text in one.into_iter().chain(two) {
            let expression = Expression::read(&text.replace("$1", "item.x").replace("$2", "item.y")).unwrap();
            for x in all {
                for y in if text.contains("$2") { &all[..] } else { &all[..1] } {
                    let _ = expression.value(&json!({"x": x, "y": y}));
                    evaluated += 1;
                }
            }
        }
        assert!(evaluated > 15_000);
    }
}
