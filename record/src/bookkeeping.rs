//! The tables that a pipeline keeps for itself: schema `userpipeline` in `spec.postgres`, shared by all its pipelines.

use sha2::{Digest, Sha256};

/// Creates what is not there yet. Run it under [`LOCK`]: `IF NOT EXISTS` alone is no protection from a concurrent twin.
pub const DDL: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS userpipeline",
    // The ledger: one row per run. `landed` is advanced in the transaction that lands, so it counts exactly.
    "CREATE TABLE IF NOT EXISTS userpipeline.runs (
        pipeline text NOT NULL,
        run_id text NOT NULL,
        job text NOT NULL,
        scheduled_at timestamptz,
        state text NOT NULL CHECK (state IN ('Running', 'Succeeded', 'Failed')),
        attempt integer NOT NULL DEFAULT 1,
        started_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        pages bigint NOT NULL DEFAULT 0,
        items bigint NOT NULL DEFAULT 0,
        landed bigint NOT NULL DEFAULT 0,
        published bigint NOT NULL DEFAULT 0,
        rejected bigint NOT NULL DEFAULT 0,
        reason text,
        message text,
        PRIMARY KEY (pipeline, run_id))",
    "ALTER TABLE userpipeline.runs ADD COLUMN IF NOT EXISTS kind text NOT NULL DEFAULT 'Scheduled',
        ADD COLUMN IF NOT EXISTS interval_start timestamptz, ADD COLUMN IF NOT EXISTS interval_end timestamptz,
        ADD COLUMN IF NOT EXISTS arguments json",
    // Items that are no records, with the reason and as they were served.
    "CREATE TABLE IF NOT EXISTS userpipeline.rejects (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        pipeline text NOT NULL,
        run_id text NOT NULL,
        field text NOT NULL,
        reason text NOT NULL,
        raw json NOT NULL,
        rejected_at timestamptz NOT NULL DEFAULT now())",
    "CREATE INDEX IF NOT EXISTS rejects_by_run ON userpipeline.rejects (pipeline, run_id)",
    // Where the workers are. The topic's id tells a topic from one of the same name that was made anew; `owner` is the
    // token of the worker that was assigned the partition last, and fences any earlier one.
    "CREATE TABLE IF NOT EXISTS userpipeline.progress (
        group_id text NOT NULL,
        topic_id text NOT NULL,
        partition integer NOT NULL,
        topic text NOT NULL,
        next_offset bigint NOT NULL,
        owner uuid NOT NULL,
        stored bigint NOT NULL DEFAULT 0,
        dead_lettered bigint NOT NULL DEFAULT 0,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (group_id, topic_id, partition))",
    // Whose a thing is: the pipeline that writes to it, and the Kubernetes cluster of that. `place` tells things of one name
    // apart: the id of the Kafka cluster, the name of the Cassandra cluster, the registry's address; empty for this database.
    // `made`: it was not there before that pipeline, so it may go with it.
    "CREATE TABLE IF NOT EXISTS userpipeline.claims (
        kind text NOT NULL,
        place text NOT NULL,
        name text NOT NULL,
        cluster text NOT NULL,
        pipeline text NOT NULL,
        made boolean NOT NULL,
        claimed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (kind, place, name))",
    // The versions of records that were deleted from a sink table, so that an older one that arrives later stays out of it.
    "CREATE TABLE IF NOT EXISTS userpipeline.tombstones (
        table_name text NOT NULL,
        key text NOT NULL,
        version bigint NOT NULL,
        deleted_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (table_name, key))",
    "CREATE INDEX IF NOT EXISTS tombstones_by_age ON userpipeline.tombstones (table_name, deleted_at)",
    "CREATE INDEX IF NOT EXISTS rejects_by_age ON userpipeline.rejects (pipeline, rejected_at)",
    "ALTER TABLE userpipeline.runs ADD COLUMN IF NOT EXISTS bytes bigint NOT NULL DEFAULT 0",
    // What runs had counted that the ledger has forgotten: totals never go backwards.
    "CREATE TABLE IF NOT EXISTS userpipeline.forgotten (
        pipeline text PRIMARY KEY,
        items bigint NOT NULL,
        bytes bigint NOT NULL,
        landed bigint NOT NULL,
        published bigint NOT NULL)",
    // How far a pipeline's runs have come in what its source has, where it is asked for what is new only.
    // Runs with other arguments ask for something else, so they have a cursor of their own.
    "CREATE TABLE IF NOT EXISTS userpipeline.source_cursors (
        pipeline text NOT NULL,
        arguments text NOT NULL,
        value text NOT NULL,
        run_id text NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, arguments))",
    // The word for what is wrong.
    "ALTER TABLE userpipeline.rejects ADD COLUMN IF NOT EXISTS class text NOT NULL DEFAULT ''",
    // Rejects ever, by the field at fault and what is wrong: advanced in the transaction that keeps them.
    "CREATE TABLE IF NOT EXISTS userpipeline.reject_totals (
        pipeline text NOT NULL,
        field text NOT NULL,
        class text NOT NULL,
        items bigint NOT NULL,
        PRIMARY KEY (pipeline, field, class))",
];

/// A query that says whether what a statement of [`DDL`] adds to a table is there by now; none for one that makes a table. `IF NOT EXISTS`
/// looks only when it has locked the table: one that all pipelines write to, among them those that hold what is locked next.
pub fn is_there(statement: &str) -> Option<String> {
    let word = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
    if let Some(index) = statement.strip_prefix("CREATE INDEX IF NOT EXISTS ") {
        return Some(format!("SELECT to_regclass('userpipeline.{}') IS NOT NULL", word(index)));
    }
    let table = word(statement.strip_prefix("ALTER TABLE ")?);
    let columns = statement.split("ADD COLUMN IF NOT EXISTS ").skip(1);
    let columns: Vec<String> = columns.map(|column| format!("'{}'", word(column))).collect();
    Some(format!(
        "SELECT count(*) = {} FROM pg_attribute WHERE attrelid = to_regclass('{table}') AND attname IN ({}) AND NOT attisdropped",
        columns.len(),
        columns.join(", ")
    ))
}

/// Forgets up to `$3` runs of the pipeline `$1` that ended before now less `$2` seconds, but for what they had counted; gives how many. One
/// that has not ended goes two weeks later, which is longer than any may last: nobody is at it any more.
pub const EXPIRE_RUNS: &str = "WITH old AS (SELECT run_id FROM userpipeline.runs WHERE pipeline = $1 \
     AND (finished_at < now() - make_interval(secs => $2) OR finished_at IS NULL AND started_at < now() - make_interval(secs => $2, days => 14)) ORDER BY started_at LIMIT $3 FOR UPDATE SKIP LOCKED), \
     gone AS (DELETE FROM userpipeline.runs AS r USING old WHERE r.pipeline = $1 AND r.run_id = old.run_id RETURNING r.items, r.bytes, r.landed, r.published), \
     kept AS (INSERT INTO userpipeline.forgotten AS f (pipeline, items, bytes, landed, published) \
     SELECT $1, sum(items)::bigint, sum(bytes)::bigint, sum(landed)::bigint, sum(published)::bigint FROM gone HAVING count(*) > 0 \
     ON CONFLICT (pipeline) DO UPDATE SET items = f.items + excluded.items, bytes = f.bytes + excluded.bytes, \
     landed = f.landed + excluded.landed, published = f.published + excluded.published) SELECT count(*) FROM gone";

/// Deletes up to `$3` rejects of the pipeline `$1` that are older than `$2` seconds.
pub const EXPIRE_REJECTS: &str = "DELETE FROM userpipeline.rejects WHERE id = ANY(ARRAY(SELECT id FROM userpipeline.rejects \
     WHERE pipeline = $1 AND rejected_at < now() - make_interval(secs => $2) ORDER BY rejected_at LIMIT $3))";

/// Deletes up to `$3` tombstones of the table `$1` that are older than `$2` seconds.
pub const EXPIRE_TOMBSTONES: &str = "DELETE FROM userpipeline.tombstones WHERE ctid = ANY(ARRAY(SELECT ctid FROM userpipeline.tombstones \
     WHERE table_name = $1 AND deleted_at < now() - make_interval(secs => $2) ORDER BY deleted_at LIMIT $3 FOR UPDATE SKIP LOCKED))";

/// Record versions ever landed by the pipeline `$1`.
pub const TOTAL_LANDED: &str = "SELECT (coalesce((SELECT sum(landed) FROM userpipeline.runs WHERE pipeline = $1), 0) \
     + coalesce((SELECT landed FROM userpipeline.forgotten WHERE pipeline = $1), 0))::bigint";

/// The advisory lock under which tables are made.
pub const LOCK: i64 = 0x7570_7363_6865_6d61;

/// Changes with the tables, so that a newer version's schema Job is seen to be due.
pub fn fingerprint() -> String {
    format!("{:.16x}", Sha256::digest(DDL.join("\n").as_bytes()))
}

/// Items, their bytes, and record versions published, ever, by the pipeline `$1`.
pub const TOTALS: &str = "SELECT coalesce(sum(items), 0)::bigint, coalesce(sum(bytes), 0)::bigint, coalesce(sum(published), 0)::bigint \
     FROM (SELECT items, bytes, published FROM userpipeline.runs WHERE pipeline = $1 \
     UNION ALL SELECT items, bytes, published FROM userpipeline.forgotten WHERE pipeline = $1) AS counted";

/// Rejects ever of the pipeline `$1`, by field and class.
pub const REJECTS: &str = "SELECT field, class, items FROM userpipeline.reject_totals WHERE pipeline = $1 ORDER BY field, class";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_locks_a_table_that_is_there_is_looked_for_first() {
        let asked: Vec<(&str, String)> = DDL
            .iter()
            .filter_map(|statement| Some((*statement, is_there(statement)?)))
            .collect();
        let locking = DDL
            .iter()
            .filter(|statement| !["CREATE TABLE", "CREATE SCHEMA"].iter().any(|kind| statement.starts_with(kind)));
        assert_eq!(asked.len(), locking.count());
        for (has, wanted) in [
            ("rejects_by_run", "SELECT to_regclass('userpipeline.rejects_by_run') IS NOT NULL"),
            (
                "interval_start",
                "SELECT count(*) = 4 FROM pg_attribute WHERE attrelid = to_regclass('userpipeline.runs') \
                 AND attname IN ('kind', 'interval_start', 'interval_end', 'arguments') AND NOT attisdropped",
            ),
        ] {
            let found = asked.iter().find(|(statement, _)| statement.contains(has));
            assert_eq!(found.map(|(_, query)| query.as_str()), Some(wanted));
        }
    }
}
