//! The bookkeeping: schema `userpipeline` in `spec.postgres`, shared by all pipelines of the database.

use sha2::{Digest, Sha256};

/// Creates what is missing. Run it under [`LOCK`]: `IF NOT EXISTS` alone does not protect from a concurrent session.
///
/// The texts are part of [`fingerprint`]: any change makes the schema Job of every pipeline due.
pub const DDL: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS userpipeline",
    // The ledger: one row per run. The transaction that lands a page advances `landed`, so the count is exact.
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
    // Rejected items, as served.
    "CREATE TABLE IF NOT EXISTS userpipeline.rejects (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        pipeline text NOT NULL,
        run_id text NOT NULL,
        field text NOT NULL,
        reason text NOT NULL,
        raw json NOT NULL,
        rejected_at timestamptz NOT NULL DEFAULT now())",
    "CREATE INDEX IF NOT EXISTS rejects_by_run ON userpipeline.rejects (pipeline, run_id)",
    // The progress of the workers. The topic's id distinguishes a topic from a re-created one of the same name. `owner` is the
    // token of the last worker that was assigned the partition; it fences earlier workers.
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
    // Claims: the pipeline that writes to a table, topic, group or subject, and its Kubernetes cluster. `place` distinguishes
    // equal names: the id of the Kafka cluster, the name of the Cassandra cluster, the registry's URL (which may change from
    // http to https, so the same subject may have two rows); empty for this database.
    // `made`: the pipeline created it, so it may be deleted with the pipeline.
    "CREATE TABLE IF NOT EXISTS userpipeline.claims (
        kind text NOT NULL,
        place text NOT NULL,
        name text NOT NULL,
        cluster text NOT NULL,
        pipeline text NOT NULL,
        made boolean NOT NULL,
        claimed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (kind, place, name))",
    // The versions of records that were deleted from a sink table, so that an older message does not restore them.
    "CREATE TABLE IF NOT EXISTS userpipeline.tombstones (
        table_name text NOT NULL,
        key text NOT NULL,
        version bigint NOT NULL,
        deleted_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (table_name, key))",
    "CREATE INDEX IF NOT EXISTS tombstones_by_age ON userpipeline.tombstones (table_name, deleted_at)",
    "CREATE INDEX IF NOT EXISTS rejects_by_age ON userpipeline.rejects (pipeline, rejected_at)",
    "ALTER TABLE userpipeline.runs ADD COLUMN IF NOT EXISTS bytes bigint NOT NULL DEFAULT 0",
    // The counts of runs that were deleted from the ledger, so that totals never decrease.
    "CREATE TABLE IF NOT EXISTS userpipeline.forgotten (
        pipeline text PRIMARY KEY,
        items bigint NOT NULL,
        bytes bigint NOT NULL,
        landed bigint NOT NULL,
        published bigint NOT NULL)",
    // The cursors of incremental fetches. Runs with other arguments have another cursor.
    "CREATE TABLE IF NOT EXISTS userpipeline.source_cursors (
        pipeline text NOT NULL,
        arguments text NOT NULL,
        value text NOT NULL,
        run_id text NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, arguments))",
    "ALTER TABLE userpipeline.rejects ADD COLUMN IF NOT EXISTS class text NOT NULL DEFAULT ''",
    // Total number of rejects by field and class, advanced in the transaction that stores them.
    "CREATE TABLE IF NOT EXISTS userpipeline.reject_totals (
        pipeline text NOT NULL,
        field text NOT NULL,
        class text NOT NULL,
        items bigint NOT NULL,
        PRIMARY KEY (pipeline, field, class))",
    // Numbers of requests to sources: of two responses, the one with the greater number was requested later.
    "CREATE SEQUENCE IF NOT EXISTS userpipeline.requests",
    // The greatest version that expired from a landing table. A record without a row gets a greater one, because stores may have
    // its expired version.
    "CREATE TABLE IF NOT EXISTS userpipeline.expired_versions (
        table_name text PRIMARY KEY,
        version bigint NOT NULL)",
    // With `source.topic`: `orderBy` and message of a deletion, and whether its version is ahead of `orderBy`. Nothing else has such
    // a version, so it does not expire.
    "ALTER TABLE userpipeline.tombstones ADD COLUMN IF NOT EXISTS order_by bigint, ADD COLUMN IF NOT EXISTS partition integer,
        ADD COLUMN IF NOT EXISTS message_offset bigint, ADD COLUMN IF NOT EXISTS ahead boolean NOT NULL DEFAULT false",
    // Aggregates: the view that users read, and what the names of the tables and functions behind it begin with. `late`: rows that
    // arrived after their windows had expired, in total. `mirrored`: Cassandra has what earlier transactions changed.
    "CREATE TABLE IF NOT EXISTS userpipeline.aggregates (
        view_name text PRIMARY KEY,
        sink_table text NOT NULL,
        totals text NOT NULL,
        late bigint NOT NULL DEFAULT 0,
        mirrored xid8)",
    // Whether a record was deleted because it does not pass `spec.record.where`. Of equal values of `orderBy`, such a tombstone does
    // not win over a later message.
    "ALTER TABLE userpipeline.tombstones ADD COLUMN IF NOT EXISTS filtered boolean NOT NULL DEFAULT false",
    // Landed record versions, and with `source.topic` messages, that did not pass `spec.record.where`.
    "ALTER TABLE userpipeline.runs ADD COLUMN IF NOT EXISTS filtered bigint NOT NULL DEFAULT 0",
    "ALTER TABLE userpipeline.forgotten ADD COLUMN IF NOT EXISTS filtered bigint NOT NULL DEFAULT 0",
    "ALTER TABLE userpipeline.progress ADD COLUMN IF NOT EXISTS filtered bigint NOT NULL DEFAULT 0",
    // Of aggregates that are no longer declared.
    "ALTER TABLE userpipeline.forgotten ADD COLUMN IF NOT EXISTS late bigint NOT NULL DEFAULT 0",
];

/// The number of a request to a source, to be sent next.
pub const NEXT_REQUEST: &str = "SELECT nextval('userpipeline.requests')";

/// A query whether the index, sequence or columns of a statement of [`DDL`] exist; none for other statements. `IF NOT EXISTS` checks only
/// after it has locked the table, to which all pipelines write, so it could deadlock with them.
pub fn exists_query(statement: &str) -> Option<String> {
    let word = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
    if let Some(sequence) = statement.strip_prefix("CREATE SEQUENCE IF NOT EXISTS ") {
        return Some(format!("SELECT to_regclass('{}') IS NOT NULL", word(sequence)));
    }
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

/// Deletes up to `$3` runs of the pipeline `$1` that ended more than `$2` seconds ago, adds their counts to `forgotten`, and returns
/// how many. A run without an end is deleted two weeks later, which is longer than a run may last.
pub const EXPIRE_RUNS: &str = "WITH old AS (SELECT run_id FROM userpipeline.runs WHERE pipeline = $1 \
     AND (finished_at < now() - make_interval(secs => $2) OR finished_at IS NULL AND started_at < now() - make_interval(secs => $2, days => 14)) ORDER BY started_at LIMIT $3 FOR UPDATE SKIP LOCKED), \
     gone AS (DELETE FROM userpipeline.runs AS r USING old WHERE r.pipeline = $1 AND r.run_id = old.run_id RETURNING r.items, r.bytes, r.landed, r.published, r.filtered), \
     kept AS (INSERT INTO userpipeline.forgotten AS f (pipeline, items, bytes, landed, published, filtered) \
     SELECT $1, sum(items)::bigint, sum(bytes)::bigint, sum(landed)::bigint, sum(published)::bigint, sum(filtered)::bigint FROM gone HAVING count(*) > 0 \
     ON CONFLICT (pipeline) DO UPDATE SET items = f.items + excluded.items, bytes = f.bytes + excluded.bytes, \
     landed = f.landed + excluded.landed, published = f.published + excluded.published, filtered = f.filtered + excluded.filtered) SELECT count(*) FROM gone";

/// Deletes up to `$3` rejects of the pipeline `$1` that are older than `$2` seconds.
pub const EXPIRE_REJECTS: &str = "DELETE FROM userpipeline.rejects WHERE id = ANY(ARRAY(SELECT id FROM userpipeline.rejects \
     WHERE pipeline = $1 AND rejected_at < now() - make_interval(secs => $2) ORDER BY rejected_at LIMIT $3))";

/// Deletes up to `$3` tombstones of the table `$1` that are older than `$2` seconds.
pub const EXPIRE_TOMBSTONES: &str = "DELETE FROM userpipeline.tombstones WHERE ctid = ANY(ARRAY(SELECT ctid FROM userpipeline.tombstones \
     WHERE table_name = $1 AND deleted_at < now() - make_interval(secs => $2) AND NOT ahead ORDER BY deleted_at LIMIT $3 FOR UPDATE SKIP LOCKED))";

/// Record versions that the pipeline `$1` landed in total.
pub const TOTAL_LANDED: &str = "SELECT (coalesce((SELECT sum(landed) FROM userpipeline.runs WHERE pipeline = $1), 0) \
     + coalesce((SELECT landed FROM userpipeline.forgotten WHERE pipeline = $1), 0))::bigint AS landed";

/// The advisory lock for creating tables.
pub const LOCK: i64 = 0x7570_7363_6865_6d61;

/// Changes with the tables, so that the schema Job of a newer version becomes due.
pub fn fingerprint() -> String {
    format!("{:.16x}", Sha256::digest(DDL.join("\n").as_bytes()))
}

/// Total items, their bytes, record versions published, and record versions that did not pass the filter, of the pipeline `$1`.
pub const TOTALS: &str = "SELECT coalesce(sum(items), 0)::bigint, coalesce(sum(bytes), 0)::bigint, coalesce(sum(published), 0)::bigint, \
     coalesce(sum(filtered), 0)::bigint FROM (SELECT items, bytes, published, filtered FROM userpipeline.runs WHERE pipeline = $1 \
     UNION ALL SELECT items, bytes, published, filtered FROM userpipeline.forgotten WHERE pipeline = $1) AS counted";

/// Record versions that aggregates of the table `$1` of the pipeline `$2` did not count, in total.
pub const LATE: &str = "SELECT (coalesce((SELECT sum(late) FROM userpipeline.aggregates WHERE sink_table = $1), 0) \
     + coalesce((SELECT late FROM userpipeline.forgotten WHERE pipeline = $2), 0))::bigint";

/// Adds `$2` to what deleted aggregates of the pipeline `$1` did not count.
pub const FORGET_LATE: &str = "INSERT INTO userpipeline.forgotten AS f (pipeline, items, bytes, landed, published, late) VALUES ($1, 0, 0, 0, 0, $2) \
     ON CONFLICT (pipeline) DO UPDATE SET late = f.late + excluded.late";

/// Total rejects of the pipeline `$1` by field and class.
pub const REJECTS: &str = "SELECT field, class, items FROM userpipeline.reject_totals WHERE pipeline = $1 ORDER BY field, class";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_that_locks_an_existing_table_has_an_exists_query() {
        let queries: Vec<(&str, String)> = DDL
            .iter()
            .filter_map(|statement| Some((*statement, exists_query(statement)?)))
            .collect();
        let locking = DDL
            .iter()
            .filter(|statement| !["CREATE TABLE", "CREATE SCHEMA"].iter().any(|kind| statement.starts_with(kind)));
        assert_eq!(queries.len(), locking.count());
        for (part, expected) in [
            ("rejects_by_run", "SELECT to_regclass('userpipeline.rejects_by_run') IS NOT NULL"),
            (
                "interval_start",
                "SELECT count(*) = 4 FROM pg_attribute WHERE attrelid = to_regclass('userpipeline.runs') \
                 AND attname IN ('kind', 'interval_start', 'interval_end', 'arguments') AND NOT attisdropped",
            ),
        ] {
            let found = queries.iter().find(|(statement, _)| statement.contains(part));
            assert_eq!(found.map(|(_, query)| query.as_str()), Some(expected));
        }
    }
}
