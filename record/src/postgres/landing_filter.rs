//! What the statements of the landing table have in addition where the pipeline declares `spec.record.where`.
//!
//! A record that does not pass lands, so its version is known. It is pending, as a delete, only if a store may have an earlier version:
//! keys that never passed are not published. If rows of the table expire, each version that does not pass is pending: a record without a
//! row may be in the stores, and only they have the version of a row that expired.

use super::{
    DELETED, FILTERED, VERSION,
    landing::EXPIRED,
    quoting::{literal, quote},
};
use crate::RecordSchema;

/// Whether no row of the table ever expires.
fn keeps_rows(table: &str) -> String {
    format!("NOT EXISTS (SELECT 1 FROM {EXPIRED} WHERE table_name = {})", literal(table))
}

impl RecordSchema {
    /// For a landing table of a pipeline that had no filter.
    pub fn landing_add_filtered(table: &str) -> String {
        format!(
            "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {FILTERED} boolean NOT NULL DEFAULT false",
            quote(table)
        )
    }

    /// What is recorded before the first row of the table expires. If a statement affects rows, the next one must wait until statements
    /// of runs that have not seen it end.
    pub fn landing_announce_expiry(&self, table: &str) -> Vec<String> {
        let (name, table) = (literal(table), quote(table));
        let announce = format!("INSERT INTO {EXPIRED} (table_name, version) VALUES ({name}, -1) ON CONFLICT DO NOTHING");
        // No longer landed without a message: those that were, follow. Rows are locked in the order in which runs lock them.
        let publish = format!(
            "WITH new AS (UPDATE {EXPIRED} SET version = 0 WHERE table_name = {name} AND version < 0 RETURNING table_name), \
             filtered AS (SELECT t.ctid FROM {table} AS t, new WHERE t.{FILTERED} ORDER BY {key} FOR UPDATE OF t) \
             UPDATE {table} AS t SET _published_version = NULL FROM filtered WHERE t.ctid = filtered.ctid",
            key = self.key_columns(),
        );
        [announce].into_iter().chain(self.filter.is_some().then_some(publish)).collect()
    }

    /// The column in a list of columns.
    pub(super) const fn filtered_column(&self) -> &'static str {
        if self.filter.is_some() { "_filtered, " } else { "" }
    }

    /// The column and that of the published version, in the list of an upsert.
    pub(super) const fn filtered_columns(&self) -> &'static str {
        if self.filter.is_some() {
            "_filtered, _published_version, "
        } else {
            ""
        }
    }

    /// Their values for a record without a row, whose version is `version`.
    pub(super) fn filtered_values(&self, table: &str, version: &str) -> String {
        if self.filter.is_none() {
            return String::new();
        }
        format!("{FILTERED}, CASE WHEN {FILTERED} AND {} THEN {version} END, ", keeps_rows(table))
    }

    /// Assigns them in a row whose new version is `version`. Without a record before and after there is nothing to publish, except a
    /// deletion that is still pending.
    pub(super) fn take_filtered(&self, table: &str, version: &str) -> String {
        if self.filter.is_none() {
            return String::new();
        }
        format!(
            "{FILTERED} = excluded.{FILTERED}, _published_version = CASE WHEN t._published_version = t.{VERSION} \
             AND (excluded.{FILTERED} AND (t.{FILTERED} OR t.{DELETED}) OR excluded.{DELETED} AND t.{FILTERED}) AND {} \
             THEN {version} ELSE t._published_version END, ",
            keeps_rows(table)
        )
    }

    /// Whether a row is published without content.
    pub(super) fn without_content(&self) -> String {
        if self.filter.is_some() {
            format!("({DELETED} OR {FILTERED}) AS {DELETED}")
        } else {
            DELETED.to_owned()
        }
    }
}
