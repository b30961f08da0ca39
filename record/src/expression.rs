//! Expressions in CEL over a source's item.

use std::{cell::OnceCell, collections::HashMap, sync::Arc};

use cel::{Context, ExecutionError, Program, Value as Cel, extractors::This};
use serde_json::Value as Json;

/// The one variable.
const ITEM: &str = "item";
/// What can be called; the last line is ours, as in Kubernetes' own rules.
const FUNCTIONS: [&str; 30] = [
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

/// An item of a source, as JSON, and to expressions.
pub struct Item<'a> {
    /// The item.
    pub json: &'a Json,
    // Made when the first expression asks.
    context: OnceCell<Context<'static>>,
}

impl<'a> Item<'a> {
    /// An item.
    pub const fn new(json: &'a Json) -> Self {
        Self {
            json,
            context: OnceCell::new(),
        }
    }

    fn context(&self) -> &Context<'static> {
        self.context.get_or_init(|| {
            type Text = Arc<String>;
            let mut context = Context::default();
            context.add_function("lowerAscii", |This(text): This<Text>| text.to_ascii_lowercase());
            context.add_function("upperAscii", |This(text): This<Text>| text.to_ascii_uppercase());
            context.add_function("trim", |This(text): This<Text>| text.trim().to_owned());
            context.add_function("replace", |This(text): This<Text>, old: Text, new: Text| text.replace(&*old, &new));
            context.add_function("split", |This(text): This<Text>, by: Text| {
                let parts = text.split(by.as_str()).map(|part| Cel::String(Arc::new(part.to_owned())));
                Ok::<_, ExecutionError>(Cel::List(Arc::new(parts.collect())))
            });
            context.add_variable_from_value(ITEM, to_cel(self.json));
            context
        })
    }
}

/// An expression, compiled.
#[derive(Clone)]
pub struct Expression {
    text: String,
    program: Arc<Program>,
}

impl Expression {
    /// Compiles an expression; the error is for its author.
    pub fn read(text: &str) -> Result<Self, String> {
        let program = Program::compile(text).map_err(|e| format!("`{text}` is no expression in CEL: {e}"))?;
        let references = program.references();
        if let Some(unknown) = references
            .variables()
            .into_iter()
            .find(|name| *name != ITEM && !is_bound(text, name))
        {
            return Err(format!("`{text}` asks for `{unknown}`, but there is only `{ITEM}`"));
        }
        // Operators are functions with names of their own kind.
        let named = |name: &&str| name.chars().next().is_some_and(char::is_alphabetic);
        if let Some(unknown) = references
            .functions()
            .into_iter()
            .filter(named)
            .find(|name| !FUNCTIONS.contains(name))
        {
            return Err(format!("`{text}` calls `{unknown}`, which there is not"));
        }
        Ok(Self {
            text: text.to_owned(),
            program: Arc::new(program),
        })
    }

    /// Its value for an item, as JSON.
    pub fn value(&self, item: &Item<'_>) -> Result<Json, String> {
        let value = self.program.execute(item.context()).map_err(|e| brief(&e.to_string()))?;
        value.json().map_err(|_| "its value is nothing that JSON can say".to_owned())
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A variable of a macro such as `items.exists(x, x > 1)`.
fn is_bound(text: &str, name: &str) -> bool {
    text.contains(&format!("({name},")) || name.starts_with('@')
}

/// An error may quote the item.
fn brief(error: &str) -> String {
    error.chars().take(200).collect()
}

/// A number in JSON is a whole number to CEL where it is written as one, as in Kubernetes' own rules.
fn to_cel(json: &Json) -> Cel {
    match json {
        Json::Null => Cel::Null,
        Json::Bool(truth) => Cel::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Cel::Int(whole),
            (None, Some(large)) => Cel::UInt(large),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Cel::String(Arc::new(text.clone())),
        Json::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Json::Object(map) => {
            let map: HashMap<String, Cel> = map.iter().map(|(key, value)| (key.clone(), to_cel(value))).collect();
            map.into()
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_expression_has_a_value_for_an_item() {
        let item = json!({"celsius": 21.5, "n": 3, "big": u64::MAX, "name": "Åse", "tags": ["a", "b"], "at": "2024-03-01T00:00:00Z", "none": null});
        for (text, value) in [
            ("item.celsius * 1.8 + 32.0", json!(70.7)),
            ("item.n * 2", json!(6)),
            ("item.big", json!(u64::MAX)),
            ("item.name + '!'", json!("Åse!")),
            ("size(item.tags)", json!(2)),
            ("item.tags.exists(t, t == 'b')", json!(true)),
            ("has(item.missing) ? item.missing : 'nothing'", json!("nothing")),
            ("timestamp(item.at)", json!("2024-03-01T00:00:00+00:00")),
            ("item.none", json!(null)),
            ("{'a': item.n}", json!({"a": 3})),
            ("'missing' in item", json!(false)),
            ("item.name.upperAscii().trim().replace('S', 'Z')", json!("ÅZE")),
            ("'a,b'.split(',')[1]", json!("b")),
        ] {
            assert_eq!(Expression::read(text).unwrap().value(&Item::new(&item)), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_says_why() {
        for (text, says) in [
            ("item.missing", "No such key"),
            ("item + 1", "Unsupported binary operator"),
            ("1 / 0", "zero"),
            ("timestamp('x')", "timestamp"),
        ] {
            let error = Expression::read(text).unwrap().value(&Item::new(&json!({"a": 1}))).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_at_once() {
        for (text, says) in [
            ("item.", "is no expression"),
            ("user.name", "there is only `item`"),
            ("fetch(item)", "calls `fetch`"),
            ("", "is no expression"),
        ] {
            let error = Expression::read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
