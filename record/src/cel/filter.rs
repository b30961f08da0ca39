//! `spec.record.where`: an expression over the fields of a record, by their names.

use std::sync::Arc;

use cel::{Context, IdedExpr, Value as Cel};
use serde_json::Value as Json;
use userpipeline_api::FieldType;

use super::{
    bounds, budget, convert,
    functions::BASE,
    kinds,
    parse::parse,
    reads::Reads,
    rewrite::{rewrite, unknown_function, unknown_variables},
};
use crate::value::{Record, Value};

/// Which records are stored.
#[derive(Clone)]
pub struct Filter {
    text: String,
    tree: Arc<IdedExpr>,
    /// Positions and names of the fields that it reads.
    reads: Vec<(usize, String)>,
}

impl Filter {
    /// Compiles an expression over fields. The error is for its author, has the position in the text, and does not name the field of
    /// the spec.
    pub fn compile(text: &str, fields: &[(&str, FieldType)]) -> Result<Self, String> {
        let mut tree = parse(text)?;
        check_names(&tree, text, fields)?;
        kinds::check(&tree, text, fields).map_err(|why| format!("`{text}` {why}"))?;
        let read = fields.iter().enumerate();
        let read = read.filter(|(_, (name, _))| Reads::of(&tree, name) != Reads::Nothing);
        let reads = read.map(|(position, (name, _))| (position, (*name).to_owned())).collect();
        rewrite(&mut tree).map_err(|why| format!("`{text}` {why}"))?;
        Ok(Self {
            text: text.to_owned(),
            tree: Arc::new(tree),
            reads,
        })
    }

    /// Whether a record passes. One does not if the value is null, or if an operand is null that must not be. The error does not quote
    /// the record.
    pub fn passes(&self, record: &Record) -> Result<bool, String> {
        let documents: Vec<Json> = self.reads.iter().map(|(position, _)| document(&record.0[*position])).collect();
        let value = budget::within(|| {
            BASE.with(|base| {
                let base: &Context<'_, '_> = base;
                let mut context = base.new_inner_scope();
                for ((position, name), document) in self.reads.iter().zip(&documents) {
                    context.add_variable_as_val(name.as_str(), convert::from_value(&record.0[*position], document));
                }
                Cel::resolve(&self.tree, &context)
            })
        })?;
        match value {
            Ok(Cel::Bool(passes)) => Ok(passes),
            Ok(Cel::Null) => Ok(false),
            Ok(other) => Err(format!("expected true or false, found a value of type {}", other.type_of())),
            Err(error) if convert::is_of_null(&error) => Ok(false),
            Err(error) => Err(convert::describe(&error, &self.text)),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The document of a field of type json; null of others, whose value is used as it is.
fn document(value: &Value) -> Json {
    match value {
        Value::Json(text) => serde_json::from_str(text).unwrap_or_default(),
        _ => Json::Null,
    }
}

fn check_names(tree: &IdedExpr, text: &str, fields: &[(&str, FieldType)]) -> Result<(), String> {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = unknown_variables(tree, &names).first() {
        let hint = if unknown == "item" {
            "; it reads fields by their names, after mapping: write `name` in place of `item.name`"
        } else {
            ""
        };
        return Err(format!(
            "`{text}` reads `{unknown}` at {}, which is not among spec.record.fields{hint}",
            bounds::position(text, unknown)
        ));
    }
    if let Some(unknown) = unknown_function(tree) {
        let name = unknown.trim_start_matches('.');
        let position = text.find(name).map_or_else(String::new, |at| bounds::line_and_column(&text[..at]));
        return Err(format!("`{text}` calls `{unknown}` at {position}, which does not exist"));
    }
    Ok(())
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}
