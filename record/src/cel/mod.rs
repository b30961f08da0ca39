//! Expressions in CEL (https://cel.dev) over a source's item or page, or over a record: bounded text, bounded evaluation, and the same value for the same item.

mod bounds;
mod budget;
mod convert;
mod filter;
#[allow(clippy::needless_pass_by_value)] // The library defines the signature.
mod functions;
mod kinds;
mod parse;
mod reads;
mod rewrite;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use cel::{Context, ExecutionError, IdedExpr, Value as Cel};
use serde_json::Value as Json;

pub use self::{filter::Filter, reads::Reads};
use self::{functions::BASE, parse::parse};

/// The variable of a record's expressions.
const ITEM: &str = "item";
/// The variables of expressions over a page: the response, its items, the number of the page, and the response's headers.
pub const PAGE_VARIABLES: [&str; 4] = ["answer", "items", "page", "headers"];

/// The variables of expressions over a response: its status, its headers, and the response.
pub const RESPONSE_VARIABLES: [&str; 3] = ["status", "headers", "answer"];

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    text: String,
    tree: Arc<IdedExpr>,
    /// The declared variables, and what is read of each.
    variables: Vec<(&'static str, Reads)>,
}

impl Expression {
    /// Compiles an expression over `item`. The error is for its author and does not name the field.
    pub fn compile(text: &str) -> Result<Self, String> {
        Self::compile_over(&[ITEM], text)
    }

    /// Compiles an expression over a page, with [`PAGE_VARIABLES`].
    pub fn compile_for_page(text: &str) -> Result<Self, String> {
        Self::compile_over(&PAGE_VARIABLES, text)
    }

    /// Compiles an expression over a response, with [`RESPONSE_VARIABLES`].
    pub fn compile_for_response(text: &str) -> Result<Self, String> {
        Self::compile_over(&RESPONSE_VARIABLES, text)
    }

    /// Compiles an expression over these variables.
    pub fn compile_over(variables: &[&'static str], text: &str) -> Result<Self, String> {
        let mut tree = parse(text)?;
        rewrite::check_names(&tree, variables).map_err(|why| format!("`{text}` {why}"))?;
        let variables = variables.iter().map(|name| (*name, Reads::of(&tree, name))).collect();
        rewrite::rewrite(&mut tree).map_err(|why| format!("`{text}` {why}"))?;
        Ok(Self {
            text: text.to_owned(),
            tree: Arc::new(tree),
            variables,
        })
    }

    /// Its value for an item, as JSON. The error does not quote the item.
    pub fn evaluate(&self, item: &Json) -> Result<Json, String> {
        self.evaluate_over(&[item])
    }

    /// Its value for values of its variables, in the order in which they were declared. A value must have at least what the expression
    /// [reads](Self::reads) of it.
    pub fn evaluate_over(&self, values: &[&Json]) -> Result<Json, String> {
        let value = budget::within(|| self.resolve(values))?;
        let value = value.map_err(|error| convert::describe(&error, &self.text))?;
        convert::to_json(&value)
    }

    /// What it reads of a variable.
    pub fn reads(&self, variable: &str) -> Reads {
        let found = self.variables.iter().find(|(name, _)| *name == variable);
        found.map(|(_, reads)| reads.clone()).unwrap_or_default()
    }

    fn resolve(&self, values: &[&Json]) -> Result<Cel, ExecutionError> {
        BASE.with(|base| {
            let base: &Context<'_, '_> = base;
            let mut context = base.new_inner_scope();
            for ((name, reads), value) in self.variables.iter().zip(values) {
                context.add_variable_as_val(*name, reads.select(value));
            }
            Cel::resolve(&self.tree, &context)
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
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
