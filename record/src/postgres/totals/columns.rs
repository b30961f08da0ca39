//! The columns of totals besides groups and sums. Fields do not begin with `_`.

/// The group of a row: the SHA-256 of its values, because a key of PostgreSQL can neither be null nor long.
pub(super) const GROUP: &str = "_group";
/// The start of its window; without windows, the least time.
pub(super) const WINDOW: &str = "_window";
/// Of totals that Cassandra has too: the time of the last change in microseconds, which increases with each, and its transaction. A
/// sequence would go back with the database, after a failover or from a backup, and Cassandra would ignore what follows.
pub(super) const REVISION: &str = "_revision";
pub(super) const CHANGED_BY: &str = "_changed_by";
/// A new total has this revision.
pub(super) const NEW_REVISION: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
/// Number of records.
pub(super) const ROWS: &str = "_rows";
