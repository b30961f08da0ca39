//! What an expression reads of a variable: the rest of a large value need not be converted, nor even parsed.

use std::collections::BTreeMap;

use cel::{
    IdedExpr,
    common::{
        ast::{Expr, LiteralValue, operators::INDEX},
        value::Val,
    },
};
use serde_json::Value as Json;

use super::{convert, rewrite::children};

/// What is read of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    #[default]
    Nothing,
    /// Only the size of the value.
    Size,
    /// These members of the value, or elements by their index.
    Parts(BTreeMap<String, Reads>),
    Whole,
}

impl Reads {
    /// What a parsed tree reads of a variable. A loop's variable of the same name counts as well, which is safe. Recursive: the tree has
    /// a bounded depth.
    pub fn of(tree: &IdedExpr, variable: &str) -> Self {
        let mut reads = Self::Nothing;
        reads.collect(tree, variable);
        reads
    }

    fn collect(&mut self, tree: &IdedExpr, variable: &str) {
        if let Some(path) = path_of(tree, variable) {
            self.add(&path, &Self::Whole);
        } else if let Some(path) = sized(tree).and_then(|sized| path_of(sized, variable)) {
            self.add(&path, &Self::Size);
        } else {
            for child in children(tree) {
                self.collect(child, variable);
            }
        }
    }

    fn add(&mut self, path: &[String], read: &Self) {
        match (path.split_first(), &mut *self) {
            (_, Self::Whole) => {}
            (None, this) if *read == Self::Whole || *this == Self::Nothing => *this = read.clone(),
            (None, Self::Size) => {}
            // Size and parts.
            (None, this) => *this = Self::Whole,
            (Some(_), Self::Size) => *self = Self::Whole,
            (Some((first, rest)), Self::Parts(parts)) => parts.entry(first.clone()).or_default().add(rest, read),
            (Some((first, rest)), Self::Nothing) => {
                let mut part = Self::Nothing;
                part.add(rest, read);
                *self = Self::Parts([(first.clone(), part)].into());
            }
        }
    }

    /// Adds a value at a path of names and indices.
    pub fn add_whole(&mut self, path: &[String]) {
        self.add(path, &Self::Whole);
    }

    /// Adds what something else reads.
    pub fn add_all(&mut self, other: &Self) {
        match other {
            Self::Nothing => {}
            Self::Size | Self::Whole => self.add(&[], other),
            Self::Parts(parts) => {
                for (name, read) in parts {
                    self.add_part(name, read);
                }
            }
        }
    }

    fn add_part(&mut self, name: &str, read: &Self) {
        match self {
            Self::Whole => {}
            Self::Size => *self = Self::Whole,
            Self::Nothing => *self = Self::Parts([(name.to_owned(), read.clone())].into()),
            Self::Parts(parts) => parts.entry(name.to_owned()).or_default().add_all(read),
        }
    }

    /// The value as the expression needs it, from one that has at least what it reads.
    pub fn select<'v>(&'v self, value: &'v Json) -> Box<dyn Val + 'v> {
        match (self, value) {
            (Self::Parts(parts), Json::Object(object)) => convert::select(object, parts.keys()),
            _ => convert::from_json(value),
        }
    }
}

/// The path of `variable.a.b[0]` below the variable.
fn path_of(tree: &IdedExpr, variable: &str) -> Option<Vec<String>> {
    let (operand, step) = match &tree.expr {
        Expr::Ident(name) => return (name == variable).then(Vec::new),
        Expr::Select(select) => (&*select.operand, select.field.clone()),
        Expr::Call(call) if call.func_name == INDEX && call.target.is_none() => match call.args.as_slice() {
            [operand, index] => (operand, literal(index)?),
            _ => return None,
        },
        _ => return None,
    };
    let mut path = path_of(operand, variable)?;
    path.push(step);
    Some(path)
}

fn literal(tree: &IdedExpr) -> Option<String> {
    match &tree.expr {
        Expr::Literal(LiteralValue::Int(number)) => Some(number.inner().to_string()),
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().to_owned()),
        _ => None,
    }
}

/// What `size(…)` and `….size()` count.
fn sized(tree: &IdedExpr) -> Option<&IdedExpr> {
    let Expr::Call(call) = &tree.expr else { return None };
    match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
        ("size", Some(target), []) => Some(target),
        ("size", None, [argument]) => Some(argument),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::Expression;

    fn reads(text: &str) -> String {
        let expression = Expression::compile_over(&["answer", "items", "page"], text).unwrap();
        format!("{:?} {:?}", expression.reads("answer"), expression.reads("items"))
    }

    #[test]
    fn an_expression_needs_only_what_it_reads() {
        for (text, expected) in [
            ("page > 3", "Nothing Nothing"),
            ("!answer.meta.has_more", r#"Parts({"meta": Parts({"has_more": Whole})}) Nothing"#),
            ("page >= answer[0].pages", r#"Parts({"0": Parts({"pages": Whole})}) Nothing"#),
            ("!has(answer.next)", r#"Parts({"next": Whole}) Nothing"#),
            ("answer['@odata.count'] == size(items)", r#"Parts({"@odata.count": Whole}) Size"#),
            ("items.size() < 3", "Nothing Size"),
            ("size(answer.data) == 0", r#"Parts({"data": Size}) Nothing"#),
            ("size(items) > 0 && items[0].last", "Nothing Whole"),
            ("items.exists(i, i.last)", "Nothing Whole"),
            ("answer[string(page)]", "Whole Nothing"),
            ("answer.a.b == answer.a", r#"Parts({"a": Whole}) Nothing"#),
            ("answer.a == answer.a.b", r#"Parts({"a": Whole}) Nothing"#),
        ] {
            assert_eq!(reads(text), expected, "{text}");
        }
    }
}
