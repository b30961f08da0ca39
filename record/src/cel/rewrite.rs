//! A parsed expression made safe to evaluate: names checked, loops in a fixed order, and what costs counted.

use std::collections::BTreeSet;

use super::functions::{FUNCTIONS, HAS, RANGE, SPEND, Style, own_form, style};
use cel::{
    IdedExpr,
    common::ast::{
        CallExpr, EntryExpr, Expr, LiteralValue,
        operators::{ADD, CONDITIONAL, LOGICAL_AND, LOGICAL_OR},
    },
};

/// Levels of the tree, which is evaluated and dropped on the stack: `a + b + c` has a level for each `+`.
const MAX_DEPTH: usize = 64;

/// Refuses a tree with too many levels. Walks without recursion.
pub fn check_depth(tree: &IdedExpr) -> Result<(), String> {
    let mut rest = vec![(tree, 1)];
    while let Some((node, depth)) = rest.pop() {
        if depth > MAX_DEPTH {
            return Err(format!(
                "has more than {MAX_DEPTH} operators, members or calls on top of each other: use `in`, `exists` or brackets"
            ));
        }
        rest.extend(children(node).into_iter().map(|child| (child, depth + 1)));
    }
    Ok(())
}

/// Refuses names that are not declared.
pub fn check_names(tree: &IdedExpr, declared: &[&str]) -> Result<(), String> {
    if let Some(unknown) = unknown_variables(tree, declared).first() {
        let list = declared.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(match declared {
            [_] => format!("reads `{unknown}`, but the only variable is {list}"),
            _ => format!("reads `{unknown}`, but the only variables are {list}"),
        });
    }
    match unknown_function(tree) {
        Some(unknown) => Err(format!("calls `{unknown}`, which does not exist")),
        None => Ok(()),
    }
}

/// The variables that are neither declared nor of a loop, sorted.
pub fn unknown_variables(tree: &IdedExpr, declared: &[&str]) -> Vec<String> {
    let mut bound = BTreeSet::new();
    let mut rest = vec![tree];
    while let Some(node) = rest.pop() {
        if let Expr::Comprehension(all) = &node.expr {
            bound.extend([all.iter_var.as_str(), all.accu_var.as_str()]);
            bound.extend(all.iter_var2.as_deref());
        }
        rest.extend(children(node));
    }
    let references = tree.references();
    let unknown = references.variables().into_iter();
    let unknown = unknown.filter(|name| !declared.contains(name) && !bound.contains(name));
    let unknown: BTreeSet<String> = unknown.map(str::to_owned).collect();
    unknown.into_iter().collect()
}

/// A function that does not exist.
pub fn unknown_function(tree: &IdedExpr) -> Option<String> {
    // Operators are functions as well, with names of their own kind. A leading dot calls the same function by its absolute name.
    let named = |name: &&str| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    let references = tree.references();
    let functions = references.functions().into_iter().filter(named);
    let unknown: BTreeSet<&str> = functions.filter(|name| !FUNCTIONS.contains(name)).collect();
    unknown.first().map(|&name| name.to_owned())
}

pub fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    match &node.expr {
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(made) => made.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Comprehension(all) => vec![&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result],
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}

/// Rewrites a tree of bounded depth.
pub fn rewrite(tree: &mut IdedExpr) -> Result<(), String> {
    match &mut tree.expr {
        Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Unspecified => return Err("is not a CEL expression".to_owned()),
        Expr::Struct(made) => {
            return Err(format!(
                "makes a `{}`, which does not exist: a map is written {{'name': value}}",
                made.type_name
            ));
        }
        Expr::Select(_) => return member(tree),
        Expr::Call(call) => {
            for part in call.target.as_deref_mut().into_iter().chain(&mut call.args) {
                rewrite(part)?;
            }
            restyle(call);
            if let Some(name) = own_form(&call.func_name) {
                name.clone_into(&mut call.func_name);
            }
            if call.func_name == ADD {
                // A list takes the keys of a map, in the map's order.
                call.args.iter_mut().skip(1).for_each(|right| wrap(RANGE, right));
                count(tree);
            }
        }
        Expr::List(list) => {
            for element in &mut list.elements {
                rewrite(element)?;
                count(element);
            }
        }
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    for part in [&mut entry.key, &mut entry.value] {
                        rewrite(part)?;
                        count(part);
                    }
                }
            }
        }
        Expr::Comprehension(all) => {
            for part in [&mut all.iter_range, &mut all.accu_init, &mut all.loop_cond, &mut all.result] {
                rewrite(part)?;
            }
            step(&mut all.loop_step, &all.accu_var)?;
            // A step that fails does not count, and `all` and `exists` go on after it: their condition counts. That of `map` is a literal,
            // by which the library recognises it.
            if !matches!(all.loop_cond.expr, Expr::Literal(_)) {
                count(&mut all.loop_cond);
            }
            wrap(RANGE, &mut all.iter_range);
        }
    }
    Ok(())
}

/// Calls a function in the way that the library has it.
fn restyle(call: &mut CallExpr) {
    if !FUNCTIONS.contains(&call.func_name.as_str()) {
        return;
    }
    match (style(&call.func_name), call.target.take()) {
        (Style::Global, Some(target)) => call.args.insert(0, *target),
        (Style::Member, None) if !call.args.is_empty() => call.target = Some(Box::new(call.args.remove(0))),
        (_, target) => call.target = target,
    }
}

/// `a.b`, and `has(a.b)`.
fn member(tree: &mut IdedExpr) -> Result<(), String> {
    let Expr::Select(select) = &mut tree.expr else { return Ok(()) };
    rewrite(&mut select.operand)?;
    if select.test {
        let field = LiteralValue::String(std::mem::take(&mut select.field).into());
        let field = IdedExpr {
            id: tree.id,
            expr: Expr::Literal(field),
        };
        let operand = std::mem::take(&mut *select.operand);
        tree.expr = call(HAS, vec![operand, field]);
    }
    Ok(())
}

/// A loop's step counts, but keeps its shape, `accumulator + [x]` or `accumulator && x`: the library recognises it, and appends
/// without a copy.
fn step(tree: &mut IdedExpr, accumulator: &str) -> Result<(), String> {
    if let Expr::Call(call) = &mut tree.expr
        && call.target.is_none()
    {
        match (call.func_name.as_str(), call.args.as_mut_slice()) {
            (CONDITIONAL, [condition, then, otherwise]) => {
                rewrite(condition)?;
                count(condition);
                step(then, accumulator)?;
                return step(otherwise, accumulator);
            }
            (ADD | LOGICAL_AND | LOGICAL_OR, [first, next]) if is_variable(first, accumulator) => {
                rewrite(next)?;
                // A list's elements count already.
                if !matches!(next.expr, Expr::List(_)) {
                    count(next);
                }
                return Ok(());
            }
            _ => {}
        }
    }
    let keeps = is_variable(tree, accumulator);
    rewrite(tree)?;
    if !keeps {
        count(tree);
    }
    Ok(())
}

fn count(tree: &mut IdedExpr) {
    wrap(SPEND, tree);
}

fn wrap(function: &str, tree: &mut IdedExpr) {
    let wrapped = std::mem::take(tree);
    tree.id = wrapped.id;
    tree.expr = call(function, vec![wrapped]);
}

fn call(function: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr {
        func_name: function.to_owned(),
        target: None,
        args,
    })
}

fn is_variable(tree: &IdedExpr, name: &str) -> bool {
    matches!(&tree.expr, Expr::Ident(found) if found == name)
}
