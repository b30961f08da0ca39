//! What is wrong with an expression whatever its variables hold: comparisons that are never true, and results that are neither true nor
//! false.

use cel::{
    IdedExpr,
    common::ast::{
        CallExpr, ComprehensionExpr, Expr, LiteralValue,
        operators::{
            ADD, CONDITIONAL, DIVIDE, EQUALS, GREATER, GREATER_EQUALS, IN, LESS, LESS_EQUALS, LOGICAL_AND, LOGICAL_NOT, LOGICAL_OR, MODULO,
            MULTIPLY, NEGATE, NOT_EQUALS, SUBSTRACT,
        },
    },
};
use userpipeline_api::FieldType;

use super::{bounds::position, rewrite::children};

/// Of values that compare with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Boolean,
    Number,
    Text,
    Time,
    Duration,
    Bytes,
    List,
    Map,
    Null,
}

impl Kind {
    const fn of_field(field_type: FieldType) -> Option<Self> {
        match field_type {
            FieldType::String | FieldType::Uuid => Some(Self::Text),
            FieldType::Boolean => Some(Self::Boolean),
            FieldType::Int | FieldType::Long | FieldType::Double => Some(Self::Number),
            FieldType::Date | FieldType::Timestamp => Some(Self::Time),
            FieldType::Bytes => Some(Self::Bytes),
            FieldType::Json => None,
        }
    }

    const fn of_literal(literal: &LiteralValue) -> Self {
        match literal {
            LiteralValue::Boolean(_) => Self::Boolean,
            LiteralValue::Bytes(_) => Self::Bytes,
            LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Self::Number,
            LiteralValue::String(_) => Self::Text,
            LiteralValue::Null => Self::Null,
        }
    }

    /// What a function returns.
    fn of_function(name: &str) -> Option<Self> {
        match name {
            "contains" | "startsWith" | "endsWith" | "matches" => Some(Self::Boolean),
            "size" | "double" | "int" | "uint" => Some(Self::Number),
            "string" | "lowerAscii" | "upperAscii" | "trim" | "replace" => Some(Self::Text),
            "bytes" => Some(Self::Bytes),
            "duration" => Some(Self::Duration),
            "timestamp" => Some(Self::Time),
            "split" => Some(Self::List),
            _ if name.starts_with("get") => Some(Self::Number),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Number => "a number",
            Self::Text => "text",
            Self::Time => "a timestamp",
            Self::Duration => "a duration",
            Self::Bytes => "bytes",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Null => "null",
        }
    }
}

/// Refuses an expression that cannot give true or false, or that compares what does not compare. The text is for the position.
pub fn check(tree: &IdedExpr, text: &str, fields: &[(&str, FieldType)]) -> Result<(), String> {
    let scope = Scope {
        text,
        fields,
        bound: Vec::new(),
    };
    match scope.kind(tree)? {
        None | Some(Kind::Boolean) => Ok(()),
        Some(other) => Err(format!("gives {}, not true or false", other.name())),
    }
}

struct Scope<'a> {
    text: &'a str,
    fields: &'a [(&'a str, FieldType)],
    /// Variables of loops.
    bound: Vec<&'a str>,
}

impl<'a> Scope<'a> {
    /// The kind of an expression's value; none if that depends on the record. Recursive: the tree has a bounded depth.
    fn kind(&self, node: &'a IdedExpr) -> Result<Option<Kind>, String> {
        match &node.expr {
            Expr::Literal(literal) => return Ok(Some(Kind::of_literal(literal))),
            Expr::Ident(name) => return Ok(self.variable(name)),
            Expr::Call(call) => return self.call(node, call),
            Expr::Comprehension(all) => return self.comprehension(all),
            _ => {}
        }
        for child in children(node) {
            self.kind(child)?;
        }
        Ok(match &node.expr {
            Expr::Select(select) if select.test => Some(Kind::Boolean),
            Expr::List(_) => Some(Kind::List),
            Expr::Map(_) => Some(Kind::Map),
            _ => None,
        })
    }

    fn variable(&self, name: &str) -> Option<Kind> {
        let field = self.fields.iter().find(|(field, _)| *field == name && !self.bound.contains(field));
        field.and_then(|(_, field_type)| Kind::of_field(*field_type))
    }

    fn call(&self, node: &'a IdedExpr, call: &'a CallExpr) -> Result<Option<Kind>, String> {
        let kinds = children(node)
            .into_iter()
            .map(|part| self.kind(part))
            .collect::<Result<Vec<_>, _>>()?;
        let operator = call.func_name.as_str();
        match (operator, kinds.as_slice()) {
            (EQUALS | NOT_EQUALS, [Some(left), Some(right)]) if left != right && ![*left, *right].contains(&Kind::Null) => {
                Err(self.refusal(node, "compares", *left, *right, "which are never equal"))
            }
            (LESS | LESS_EQUALS | GREATER | GREATER_EQUALS, [Some(left), Some(right)])
                if left != right && ![*left, *right].contains(&Kind::Null) =>
            {
                Err(self.refusal(node, "compares", *left, *right, "which have no order"))
            }
            (LOGICAL_AND | LOGICAL_OR | LOGICAL_NOT, kinds) => {
                let other = kinds.iter().flatten().find(|kind| ![Kind::Boolean, Kind::Null].contains(kind));
                other.map_or(Ok(Some(Kind::Boolean)), |other| {
                    Err(format!(
                        "combines {} with `&&`, `||` or `!`, which take true or false{}",
                        other.name(),
                        self.at(node)
                    ))
                })
            }
            (EQUALS | NOT_EQUALS | LESS | LESS_EQUALS | GREATER | GREATER_EQUALS | IN, _) => Ok(Some(Kind::Boolean)),
            (CONDITIONAL, [_, then, otherwise]) => Ok(then.filter(|then| Some(*then) == *otherwise)),
            (ADD, [Some(left), Some(right)]) => Ok(match (left, right) {
                (Kind::Time, Kind::Duration) | (Kind::Duration, Kind::Time) => Some(Kind::Time),
                (left, right) => (left == right).then_some(*left),
            }),
            (SUBSTRACT, [Some(left), Some(right)]) => Ok(match (left, right) {
                (Kind::Time, Kind::Time) => Some(Kind::Duration),
                (Kind::Time, Kind::Duration) => Some(Kind::Time),
                (left, right) => (left == right).then_some(*left),
            }),
            (MULTIPLY | DIVIDE | MODULO | NEGATE, _) => Ok(Some(Kind::Number)),
            (function, _) => Ok(Kind::of_function(function)),
        }
    }

    fn comprehension(&self, all: &'a ComprehensionExpr) -> Result<Option<Kind>, String> {
        self.kind(&all.iter_range)?;
        let start = self.kind(&all.accu_init)?;
        let mut bound = self.bound.clone();
        bound.extend([all.iter_var.as_str(), all.accu_var.as_str()]);
        bound.extend(all.iter_var2.as_deref());
        let within = Scope { bound, ..*self };
        within.kind(&all.loop_cond)?;
        within.kind(&all.loop_step)?;
        // `all`, `exists`, `map` and `filter` return what they start with; `exists_one` compares it.
        Ok(within.kind(&all.result)?.or(start))
    }

    fn refusal(&self, node: &IdedExpr, verb: &str, left: Kind, right: Kind, why: &str) -> String {
        let is_time_as_text = [left, right].contains(&Kind::Time) && [left, right].contains(&Kind::Text);
        let hint = if is_time_as_text {
            "; write timestamp('2024-01-31T00:00:00Z')"
        } else {
            ""
        };
        format!("{verb} {} with {}, {why}{}{hint}", left.name(), right.name(), self.at(node))
    }

    /// Where the first field of a part stands.
    fn at(&self, node: &IdedExpr) -> String {
        let mut rest = vec![node];
        let mut found: Vec<String> = Vec::new();
        while let Some(node) = rest.pop() {
            match &node.expr {
                Expr::Ident(name) if self.fields.iter().any(|(field, _)| field == name) => found.push(name.clone()),
                _ => rest.extend(children(node).into_iter().rev()),
            }
        }
        let first = found.first().map(|name| position(self.text, name)).filter(|at| !at.is_empty());
        first.map_or_else(String::new, |at| format!(", at {at}"))
    }
}
