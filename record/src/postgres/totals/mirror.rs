//! The statements that read what has changed in the totals, for the table in Cassandra.

use userpipeline_api::FieldType;

use super::{
    changes::list,
    columns::{CHANGED_BY, REVISION, ROWS, WINDOW},
    view::double,
};
use crate::{
    aggregate::{Aggregate, Column, Function},
    postgres::{literal, quote},
};

/// Bytes of the texts of a key.
const MAX_KEY: usize = 60_000;

/// The statements of a mirror. A transaction is a number as text.
pub struct MirrorStatements {
    /// The transaction before which everything was mirrored; null if nothing was.
    pub since: String,
    /// The first transaction that has not ended.
    pub horizon: &'static str,
    /// The totals that transactions since `$1` have changed: whether it has records, its revision, and the fields of
    /// [`Aggregate::mirror_schema`]. Without those whose texts are too long for a key of Cassandra.
    pub changed: String,
    /// Deletes totals without records that transactions since `$1` and before `$2` have changed.
    pub forget_empty: String,
    /// Records `$1`, unless it has been reset from `$2`.
    pub advance: String,
}

impl Aggregate {
    /// None where Cassandra does not have the totals.
    pub fn mirror_statements(&self) -> Option<MirrorStatements> {
        self.mirror.as_ref()?;
        let names = self.names();
        let totals = names.totals();
        let of = format!("view_name = {} AND totals = {}", literal(&self.view), literal(names.base()));
        let start = format!("t.{WINDOW}");
        let groups = self.group_by.iter().map(|column| format!("t.{}", quote(&column.name)));
        let windows = self.window.iter().flat_map(|window| [start.clone(), window.end(&start)]);
        let values = self.values_of(&names).into_iter().zip(&self.values);
        let values = values.map(|(expression, value)| match &value.function {
            Function::Sum(column) => sum(&expression, column),
            _ => expression,
        });
        let columns: Vec<String> = groups.chain(windows).chain(values).collect();
        let texts = self.group_by.iter().filter(|column| column.field_type == FieldType::String);
        let lengths = list(texts.map(|column| format!(" + octet_length(t.{})", quote(&column.name))), "");
        let fits = if lengths.is_empty() {
            String::new()
        } else {
            format!(" AND 0{lengths} <= {MAX_KEY}")
        };
        Some(MirrorStatements {
            since: format!("SELECT mirrored::text FROM userpipeline.aggregates WHERE {of}"),
            horizon: "SELECT pg_snapshot_xmin(pg_current_snapshot())::text",
            changed: format!(
                "SELECT t.{ROWS} > 0, t.{REVISION}, {} FROM {totals} AS t WHERE t.{CHANGED_BY} >= ($1::text)::xid8{fits} ORDER BY t.{CHANGED_BY}",
                columns.join(", ")
            ),
            forget_empty: format!(
                "DELETE FROM {totals} WHERE {CHANGED_BY} >= ($1::text)::xid8 AND {CHANGED_BY} < ($2::text)::xid8 AND {ROWS} = 0"
            ),
            advance: format!(
                "UPDATE userpipeline.aggregates SET mirrored = ($1::text)::xid8 WHERE {of} AND mirrored::text IS NOT DISTINCT FROM $2"
            ),
        })
    }
}

/// A sum as the type of its field; null where that is too small for it.
fn sum(expression: &str, column: &Column) -> String {
    match column.field_type {
        FieldType::Double => double(expression),
        _ => format!("CASE WHEN abs({expression}) <= {} THEN ({expression})::bigint END", i64::MAX),
    }
}
