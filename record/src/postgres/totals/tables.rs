//! The tables of an aggregate.

use userpipeline_api::FieldType;

use super::{
    columns::{CHANGED_BY, GROUP, NEW_REVISION, REVISION, ROWS, WINDOW},
    names::Names,
};
use crate::{
    aggregate::{Aggregate, Column, Function},
    postgres::{column_type, quote},
};

impl Aggregate {
    pub(super) fn tables(&self, names: &Names) -> Vec<String> {
        let groups = self
            .group_by
            .iter()
            .map(|c| format!("{} {}", quote(&c.name), column_type(c.field_type)));
        let sums = self.sums().map(|sum| format!("{} {} NOT NULL", sum.column, sum.sql_type));
        let revision = [format!("{REVISION} bigint NOT NULL"), format!("{CHANGED_BY} xid8 NOT NULL")];
        let revision = revision.into_iter().filter(|_| self.mirror.is_some());
        let columns: Vec<String> = groups.chain(sums).chain(revision).map(|column| format!(", {column}")).collect();
        // A row is updated with each batch that touches its group, so its page has room for more versions of it.
        let totals = format!(
            "CREATE TABLE {} ({GROUP} bytea NOT NULL, {WINDOW} timestamptz NOT NULL, {ROWS} bigint NOT NULL{}, \
             PRIMARY KEY ({GROUP}, {WINDOW})) WITH (fillfactor = 70)",
            names.totals(),
            columns.concat(),
        );
        let values = self
            .counted_values()
            .filter_map(|(i, value)| Some((names.values(i), value.function.column()?)));
        let values = values.flat_map(|(table, column)| {
            let create = format!(
                "CREATE TABLE {table} ({GROUP} bytea NOT NULL, {WINDOW} timestamptz NOT NULL, value {} NOT NULL, \
                 n bigint NOT NULL, change bigint NOT NULL, PRIMARY KEY ({GROUP}, {WINDOW}, value)) WITH (fillfactor = 70)",
                occurring_type(column),
            );
            // What no longer occurs is deleted after each statement.
            [create, format!("CREATE INDEX ON {table} (n) WHERE n <= 0")]
        });
        let by_age = self.keep.map(|_| format!("CREATE INDEX ON {} ({WINDOW})", names.totals()));
        let by_change = self
            .mirror
            .iter()
            .map(|_| format!("CREATE INDEX ON {} ({CHANGED_BY})", names.totals()));
        [totals].into_iter().chain(values).chain(by_age).chain(by_change).collect()
    }

    /// Deletes up to `$2` totals whose windows ended more than `$1` seconds ago, and what their values were; with the seconds. Totals that
    /// Cassandra has too become empty instead, so that they are deleted there first. None where totals do not expire.
    pub fn expire(&self) -> Option<(f64, String)> {
        let (window, keep) = self.window.as_ref().zip(self.keep)?;
        let names = self.names();
        let values = self.counted_values().map(|(i, _)| {
            format!(
                ", gone{i} AS (DELETE FROM {} AS v USING old WHERE v.{GROUP} = old.{GROUP} AND v.{WINDOW} = old.{WINDOW})",
                names.values(i)
            )
        });
        // No window ends before it starts: the index by start finds the few that may be old.
        let statement = format!(
            "WITH old AS (SELECT {GROUP}, {WINDOW} FROM {totals} WHERE {WINDOW} < now() - make_interval(secs => $1) \
             AND {end} + make_interval(secs => $1) <= now() AND {ROWS} > 0 ORDER BY {WINDOW} LIMIT $2){values} \
             {gone} WHERE t.{GROUP} = old.{GROUP} AND t.{WINDOW} = old.{WINDOW}",
            gone = self.mirror.as_ref().map_or_else(
                || format!("DELETE FROM {} AS t USING old", names.totals()),
                |_| format!("UPDATE {} AS t SET {ROWS} = 0, {} FROM old", names.totals(), revised())
            ),
            totals = names.totals(),
            end = window.end(WINDOW),
            values = values.collect::<String>(),
        );
        #[allow(clippy::cast_precision_loss)] // Ten years at most.
        Some((keep as f64, statement))
    }

    /// The columns that values are summed up in, besides the number of records.
    pub(super) fn sums(&self) -> impl Iterator<Item = Sum> {
        let sum = |column: String, sql_type, is_distinct| Sum {
            column,
            sql_type,
            is_distinct,
        };
        self.values.iter().enumerate().flat_map(move |(i, value)| match value.function {
            Function::Sum(_) | Function::Avg(_) => {
                vec![sum(format!("_n{i}"), "bigint", false), sum(format!("_s{i}"), "numeric", false)]
            }
            Function::CountDistinct(_) => vec![sum(format!("_d{i}"), "bigint", true)],
            Function::Count | Function::Min(_) | Function::Max(_) => Vec::new(),
        })
    }
}

/// A column of the totals: `_n`, records with a value; `_s`, the sum of their values; `_d`, the number of different values.
pub(super) struct Sum {
    pub column: String,
    pub sql_type: &'static str,
    pub is_distinct: bool,
}

/// Assigns another revision to a total `t`.
pub(super) fn revised() -> String {
    format!("{REVISION} = greatest(t.{REVISION} + 1, {NEW_REVISION}), {CHANGED_BY} = pg_current_xact_id()")
}

/// The type under which occurrences of a value are counted: of texts, a digest, because a key cannot be long.
fn occurring_type(column: &Column) -> &'static str {
    match column.field_type {
        FieldType::String => "bytea",
        other => column_type(other),
    }
}

/// The value of a column as it is counted.
pub(super) fn occurring(column: &Column) -> String {
    let name = quote(&column.name);
    match column.field_type {
        FieldType::String => format!("sha256(convert_to({name}, 'UTF8'))"),
        FieldType::Bytes => format!("sha256({name})"),
        _ => name,
    }
}
