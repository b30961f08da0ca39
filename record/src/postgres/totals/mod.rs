//! The totals of an aggregate in PostgreSQL: tables, the triggers on the sink table that keep them exact, and the view of users.
//!
//! The triggers add what a statement inserted and subtract what it replaced or deleted, in the statement's own transaction. So the totals
//! equal `GROUP BY` over the sink table at any moment, whoever writes to it.

mod changes;
mod columns;
mod mirror;
mod names;
mod tables;
mod triggers;
mod view;

pub use self::{mirror::MirrorStatements, names::Names};
use crate::aggregate::{Aggregate, AggregateValue};

/// The statements that create an aggregate and fill it from the sink table.
pub struct Statements {
    /// Settings of the transaction in which the others run: the digests of groups depend on them. The functions keep the search path, in
    /// which `$user` would be another schema for another role that writes.
    pub settings: &'static str,
    /// Nobody writes to the sink table until the transaction ends.
    pub lock: String,
    pub tables: Vec<String>,
    pub fill: String,
    pub triggers: Vec<String>,
    pub view: String,
}

impl Aggregate {
    pub fn names(&self) -> Names {
        Names::of(userpipeline_api::names::totals(&self.view, &self.hash()))
    }

    pub fn statements(&self) -> Statements {
        let names = self.names();
        Statements {
            settings: "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL extra_float_digits = 1; \
                 SELECT set_config('search_path', string_agg(quote_ident(name), ', ' ORDER BY position), true) \
                 FROM unnest(current_schemas(false)) WITH ORDINALITY AS s (name, position)",
            lock: format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", super::quote(&self.sink_table)),
            tables: self.tables(&names),
            fill: self.fill(&names),
            triggers: self.triggers(&names),
            view: self.view(&names),
        }
    }

    /// The values whose occurrences are counted, with their positions.
    fn counted_values(&self) -> impl Iterator<Item = (usize, &AggregateValue)> {
        self.values.iter().enumerate().filter(|(_, value)| value.function.counts_values())
    }
}

#[cfg(test)]
mod tests;
