//! Expressions in CEL over a source's item.

mod functions;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use cel::{
    Context, ExecutionError, IdedExpr, Program, Value as Cel,
    common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators::INDEX},
};
use serde_json::Value as Json;

use self::functions::{FUNCTIONS, IN_ORDER, functions, instead_of};

/// The one variable.
const ITEM: &str = "item";

thread_local! {
    static FUNCTIONS_OF_OURS: Context<'static> = functions();
}

/// An expression, compiled.
#[derive(Clone)]
pub struct Expression {
    text: String,
    tree: Arc<IdedExpr>,
    asks: Asks,
}

/// What an expression asks the item for.
#[derive(Clone, Default)]
struct Asks {
    /// Members of the item.
    members: BTreeSet<String>,
    /// For the item itself.
    whole: bool,
    /// Variables of macros such as `items.exists(x, x > 1)`.
    bound: BTreeSet<String>,
}

impl Expression {
    /// Compiles an expression; the error is for its author.
    pub fn read(text: &str) -> Result<Self, String> {
        let program = Program::compile(text).map_err(|e| format!("`{text}` is no expression in CEL: {e}"))?;
        let mut expression = program.expression().clone();
        let mut asks = Asks::default();
        make_strict(&mut expression, &mut asks).map_err(|why| format!("`{text}` {why}"))?;
        let references = expression.references();
        if let Some(unknown) = references
            .variables()
            .into_iter()
            .find(|name| *name != ITEM && !asks.bound.contains(*name))
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
        drop(references);
        Ok(Self {
            text: text.to_owned(),
            tree: Arc::new(expression),
            asks,
        })
    }

    /// Its value for an item, as JSON.
    pub fn value(&self, item: &Json) -> Result<Json, String> {
        let value = FUNCTIONS_OF_OURS.with(|functions| {
            let mut context = functions.new_inner_scope();
            context.add_variable_from_value(ITEM, self.asked(item));
            Cel::resolve(&self.tree, &context)
        });
        let value = value.map_err(|e| without_values(&e, &self.text))?;
        if !is_finite(&value) {
            return Err("its value is infinite, or no number: JSON cannot say it".to_owned());
        }
        let mut json = value.json().map_err(|_| "its value is nothing that JSON can say".to_owned())?;
        // The library's maps have another order each time.
        json.sort_all_objects();
        Ok(json)
    }

    /// What it asks for of an item: of a large one, the rest need not be made a value of CEL.
    fn asked(&self, item: &Json) -> Cel {
        match item {
            Json::Object(map) if !self.asks.whole => {
                let asked = self
                    .asks
                    .members
                    .iter()
                    .filter_map(|name| Some((name.clone(), to_cel(map.get(name)?))));
                asked.collect::<HashMap<String, Cel>>().into()
            }
            other => to_cel(other),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// To the library, a member of what has none (null, text) is false. By CEL's own definition it is an error, and it must be: who asks
/// for `!item.status.active` does not mean an item without a status. To ask by index is one. What else the library has otherwise than CEL
/// is left to functions of ours. Gathers what is asked for.
fn make_strict(expression: &mut IdedExpr, asks: &mut Asks) -> Result<(), String> {
    match &mut expression.expr {
        Expr::Ident(name) => asks.whole |= name == ITEM,
        Expr::Literal(_) => {}
        Expr::Struct(made) => {
            return Err(format!(
                "makes a `{}`, which there is not: a map is written {{'name': value}}",
                made.type_name
            ));
        }
        Expr::Unspecified => return Err("is no expression in CEL".to_owned()),
        Expr::Select(select) => {
            if is_item(&select.operand) {
                asks.members.insert(select.field.clone());
            } else {
                make_strict(&mut select.operand, asks)?;
            }
            if !select.test {
                let field = LiteralValue::String(select.field.as_str().into());
                let field = IdedExpr {
                    id: expression.id,
                    expr: Expr::Literal(field),
                };
                expression.expr = Expr::Call(CallExpr {
                    func_name: INDEX.to_owned(),
                    target: None,
                    args: vec![std::mem::take(&mut *select.operand), field],
                });
            }
        }
        Expr::Call(call) => {
            for part in call.target.as_deref_mut().into_iter().chain(&mut call.args) {
                make_strict(part, asks)?;
            }
            if let Some(ours) = instead_of(&call.func_name) {
                ours.clone_into(&mut call.func_name);
            }
        }
        Expr::List(list) => {
            for element in &mut list.elements {
                make_strict(element, asks)?;
            }
        }
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    make_strict(&mut entry.key, asks)?;
                    make_strict(&mut entry.value, asks)?;
                }
            }
        }
        Expr::Comprehension(all) => {
            asks.bound.extend([all.iter_var.clone(), all.accu_var.clone()]);
            asks.bound.extend(all.iter_var2.clone());
            for part in [
                &mut all.iter_range,
                &mut all.accu_init,
                &mut all.loop_cond,
                &mut all.loop_step,
                &mut all.result,
            ] {
                make_strict(part, asks)?;
            }
            let range = std::mem::take(&mut all.iter_range);
            all.iter_range.expr = Expr::Call(CallExpr {
                func_name: IN_ORDER.to_owned(),
                target: None,
                args: vec![range],
            });
        }
    }
    Ok(())
}

fn is_item(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name == ITEM)
}

fn is_finite(value: &Cel) -> bool {
    match value {
        Cel::Float(number) => number.is_finite(),
        Cel::List(items) => items.iter().all(is_finite),
        Cel::Map(map) => map.map.values().all(is_finite),
        _ => true,
    }
}

/// What went wrong. The error's own text quotes the item, which is nobody's business in a log.
fn without_values(error: &ExecutionError, text: &str) -> String {
    use ExecutionError as E;
    let of = |value: &Cel| value.type_of().to_string();
    match error {
        E::NoSuchKey(name) if text.contains(name.as_str()) => format!("No such key: {name}"),
        E::NoSuchKey(_) => "No such key".to_owned(),
        E::NoSuchOverload => "No such overload: a member or an operator that a value does not have, such as one that is null".to_owned(),
        E::FunctionError { function, .. } => format!("{function}(…) has no value for what it was given"),
        E::UnexpectedType { got, want } => format!("Unexpected type: got '{got}', want '{want}'"),
        E::UnsupportedTargetType { target } => format!("a function that a value of type {} does not have", of(target)),
        E::NotSupportedAsMethod { method, target } => format!("{method} is nothing that a value of type {} has", of(target)),
        E::ValuesNotComparable(left, right) => format!("{} and {} cannot be compared", of(left), of(right)),
        E::UnsupportedUnaryOperator(operator, value) => format!("Unsupported unary operator '{operator}': {}", of(value)),
        E::UnsupportedBinaryOperator(operator, left, right) => {
            format!("Unsupported binary operator '{operator}': {}, {}", of(left), of(right))
        }
        E::DivisionByZero(_) | E::RemainderByZero(_) => "division by zero".to_owned(),
        E::Overflow(operator, ..) => format!("Overflow from binary operator '{operator}'"),
        E::IndexOutOfBounds(_) => "Index out of bounds".to_owned(),
        E::InvalidArgumentCount { expected, actual } => format!("Invalid argument count: expected {expected}, got {actual}"),
        E::UndeclaredReference(name) => format!("Undeclared reference to '{name}'"),
        _ => "it has no value".to_owned(),
    }
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
            assert_eq!(Expression::read(text).unwrap().value(&item), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_says_why() {
        let item = json!({"a": 1, "none": null, "text": "x", "list": [{"b": 1}], "zero": 0.0, "far": "9000000h"});
        for (text, says) in [
            ("item.missing", "No such key"),
            ("item + 1", "Unsupported binary operator"),
            ("1 / 0", "zero"),
            ("timestamp('x')", "timestamp"),
            // A member of what has none is not false.
            ("!item.none.active", "No such overload"),
            ("item.text.b", "No such overload"),
            ("item.list.b", "Unexpected type"),
            ("item.list[0].c", "No such key"),
            ("item.none.b == 1 || false", "No such overload"),
            // What JSON would make null of.
            ("1.0 / item.zero", "infinite"),
            ("[{'a': item.zero / item.zero}]", "infinite"),
            ("timestamp('9999-12-31T00:00:00Z') + duration(item.far)", "Overflow"),
        ] {
            let error = Expression::read(text).unwrap().value(&item).unwrap_err();
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
            ("Thing{}", "makes a `Thing`"),
            ("[item.a, Thing{}]", "makes a `Thing`"),
            ("item.all(x, y > 1)", "asks for `y`"),
        ] {
            let error = Expression::read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
