//! The columns of totals besides groups and sums. Fields do not begin with `_`.

/// The group of a row: the SHA-256 of its values, because a key of PostgreSQL can neither be null nor long.
pub(super) const GROUP: &str = "_group";
/// The start of its window; without windows, the least time.
pub(super) const WINDOW: &str = "_window";
/// Of totals that Cassandra has too: a number that increases with each change, and the transaction of the last one.
pub(super) const REVISION: &str = "_revision";
pub(super) const CHANGED_BY: &str = "_changed_by";
/// Number of records.
pub(super) const ROWS: &str = "_rows";
