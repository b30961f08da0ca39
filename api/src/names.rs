//! Names derived from a pipeline's namespace and name, truncated to their limits.
//!
//! Two pipelines never have the same name: a name that sanitising or truncating would make ambiguous contains
//! a hash of the original.

use std::ops::Range;

use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};

pub use crate::text::digest;
use crate::{Aggregate, StrimziListener, UserAuthentication, UserPipeline, UserPipelineSpec, resolved::uses_registry, status::Names};

/// Longest name of a keyspace or table in Cassandra, in characters.
pub const CASSANDRA_LIMIT: usize = 48;
/// Longest identifier in PostgreSQL, in bytes.
pub const POSTGRES_LIMIT: usize = 63;
/// Longest name of a CronJob, in characters: its Jobs append eleven.
pub const CRON_JOB_LIMIT: usize = 52;
/// Longest value of a label, and longest name of a Job, which its pods carry as a label.
pub const LABEL_LIMIT: usize = 63;

/// Longest name of most objects, in characters.
const OBJECT_LIMIT: usize = 253;

/// Minutes since 1970 that a Job's name can carry as its tick: eight or nine digits, 1989 to 3871. A shorter
/// number is rather part of a name that a user chose.
const TICK_MINUTES: Range<i64> = 10_000_000..1_000_000_000;

/// Identity of a pipeline: its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineId {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for PipelineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl PipelineId {
    /// The id of a resource. A file without a namespace is in `default`.
    pub fn of(pipeline: &UserPipeline) -> Self {
        Self {
            namespace: pipeline.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            name: pipeline.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// `<namespace>.<name>`: unambiguous, because neither may contain a dot.
    fn dotted(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// `<namespace>_<name>` as an identifier of SQL and CQL, at most `limit` characters with the suffix.
    fn identifier(&self, suffix: &str, limit: usize) -> String {
        let plain = format!("{}_{}", self.namespace, self.name);
        let lossless = plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && plain.starts_with(|c: char| c.is_ascii_lowercase());
        if lossless && plain.len() + suffix.len() <= limit {
            return plain + suffix;
        }
        let mut safe: String = plain.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !safe.starts_with(|c: char| c.is_ascii_lowercase()) {
            safe.insert_str(0, "up_");
        }
        cut(&safe, &hash(&self.to_string()), '_', limit - suffix.len()) + suffix
    }
}

/// The names that a pipeline uses in the stores, set in its spec or derived. Connections have no names.
pub fn in_stores(spec: &UserPipelineSpec, id: &PipelineId) -> Names {
    let kafka = spec.kafka.as_ref();
    let topic = kafka.and_then(|kafka| kafka.topic.name.clone()).unwrap_or_else(|| topic(id));
    let group = kafka.and_then(|kafka| kafka.group_id.clone());
    let cassandra = spec.sinks.cassandra.as_ref().map(|sink| {
        let keyspace = sink.keyspace.clone().unwrap_or_else(|| keyspace(id));
        (keyspace, sink.table.clone().unwrap_or_else(|| cassandra_table(id)))
    });
    let aggregate_tables = cassandra.iter().flat_map(|(keyspace, sink)| {
        let tables = spec.aggregates.iter().filter_map(|aggregate| mirror(aggregate, sink));
        tables.map(move |table| format!("{keyspace}.{table}"))
    });
    let table = |set: &Option<String>, derived: fn(&PipelineId) -> String| set.clone().unwrap_or_else(|| derived(id));
    let sink = spec.sinks.postgres.as_ref().map(|sink| table(&sink.table, postgres_table));
    let views = sink
        .iter()
        .flat_map(|sink| spec.aggregates.iter().map(|aggregate| view(aggregate, sink)));
    Names {
        subject: uses_registry(spec).then(|| subject(&topic)),
        dead_letter_topic: Some(spec.dead_letter.topic.clone().unwrap_or_else(|| dead_letter_topic(&topic))),
        topic: Some(topic),
        consumer_group: Some(group.unwrap_or_else(|| group_id(id))),
        landing_table: spec.source.http.as_ref().map(|_| table(&spec.landing.table, landing_table)),
        aggregate_views: views.collect(),
        postgres_table: sink.clone(),
        aggregate_tables: aggregate_tables.collect(),
        cassandra_table: cassandra.map(|(keyspace, table)| format!("{keyspace}.{table}")),
    }
}

/// Default of `spec.landing.table`.
pub fn landing_table(id: &PipelineId) -> String {
    id.identifier("_raw", POSTGRES_LIMIT)
}

/// Default of `spec.sinks.postgres.table`.
pub fn postgres_table(id: &PipelineId) -> String {
    id.identifier("", POSTGRES_LIMIT)
}

/// Default of `spec.sinks.cassandra.keyspace`.
pub fn keyspace(id: &PipelineId) -> String {
    id.identifier("", CASSANDRA_LIMIT)
}

/// Default of `spec.sinks.cassandra.table`.
pub fn cassandra_table(id: &PipelineId) -> String {
    id.identifier("", CASSANDRA_LIMIT)
}

/// Name of the view of an aggregate of this table, set or derived.
pub fn view(aggregate: &Aggregate, sink_table: &str) -> String {
    let set = aggregate.sinks.postgres.view.clone();
    set.unwrap_or_else(|| aggregate_view(sink_table, &aggregate.name))
}

/// Name of the table of an aggregate in Cassandra, beside this one, set or derived. None if it has none there.
pub fn mirror(aggregate: &Aggregate, sink_table: &str) -> Option<String> {
    let set = aggregate.sinks.cassandra.as_ref()?.table.clone();
    Some(set.unwrap_or_else(|| aggregate_table(sink_table, &aggregate.name)))
}

/// Default of the view of an aggregate.
pub fn aggregate_view(sink_table: &str, aggregate: &str) -> String {
    let plain = format!("{sink_table}_{aggregate}");
    if plain.len() <= POSTGRES_LIMIT {
        return plain;
    }
    cut(&plain, &hash(&plain), '_', POSTGRES_LIMIT)
}

/// Default of the table of an aggregate in Cassandra.
pub fn aggregate_table(sink_table: &str, aggregate: &str) -> String {
    let plain = format!("{sink_table}_{aggregate}");
    if plain.len() <= CASSANDRA_LIMIT {
        return plain;
    }
    cut(&plain, &hash(&plain), '_', CASSANDRA_LIMIT)
}

/// What the names of the tables and functions behind a view begin with. It leaves room for ten characters. `definition`: the hash of the
/// aggregate.
pub fn totals(view: &str, definition: &str) -> String {
    let room = POSTGRES_LIMIT - 10;
    let plain = format!("{view}_{definition}");
    if plain.len() <= room {
        return plain;
    }
    format!("{}_{definition}", cut(view, &hash(view), '_', room - definition.len() - 1))
}

/// Default of `spec.kafka.topic.name`.
pub fn topic(id: &PipelineId) -> String {
    id.dotted()
}

/// Default of `spec.deadLetter.topic`.
pub fn dead_letter_topic(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// The `KafkaTopic` of a topic, whose name Kubernetes may not allow.
pub fn kafka_topic(topic: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| part.starts_with(is_allowed) && part.ends_with(is_allowed);
    let has_only = |c: char| is_allowed(c) || c == '-' || c == '.';
    if topic.chars().all(has_only) && topic.split('.').all(is_part) {
        return topic.to_owned();
    }
    let safe: String = topic
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if is_allowed(c) { c } else { '-' })
        .collect();
    let safe = safe.trim_matches('-');
    let safe = if safe.is_empty() { "topic" } else { safe };
    cut(safe, &hash(topic), '-', OBJECT_LIMIT)
}

/// Default of `spec.kafka.groupId`.
pub fn group_id(id: &PipelineId) -> String {
    id.dotted()
}

/// The subject of a topic's values in the schema registry.
pub fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// `<name>-<suffix>` as the name of a child, at most `limit` characters.
pub fn child(name: &str, suffix: &str, limit: usize) -> String {
    let plain = format!("{name}-{suffix}");
    if plain.len() <= limit {
        return plain;
    }
    format!("{}-{suffix}", cut(name, &hash(name), '-', limit - suffix.len() - 1))
}

/// The CronJob that starts the runs.
pub fn cron_job(name: &str) -> String {
    child(name, "ingest", CRON_JOB_LIMIT)
}

/// The Job of a scheduled run, `<cronjob>-<minutes since 1970>`. It is the name that Kubernetes' CronJob
/// controller uses, so at most one of controller and operator creates it.
pub fn scheduled_job(cron_job: &str, tick: Timestamp) -> String {
    format!("{cron_job}-{}", tick.as_second() / 60)
}

/// The tick in the name of a scheduled run's Job. A Job with any other name is a manual run.
pub fn tick_of_job(cron_job: &str, job: &str) -> Option<Timestamp> {
    let digits = job.strip_prefix(cron_job)?.strip_prefix('-')?;
    let minutes: i64 = digits.parse().ok()?;
    // `+29000000` and `029000000` parse too, but Kubernetes writes neither.
    if minutes.to_string() != digits || !TICK_MINUTES.contains(&minutes) {
        return None;
    }
    Timestamp::from_second(minutes * 60).ok()
}

/// The Job of a run requested with `spec.runNow`.
pub fn run_now(name: &str, nonce: &str) -> String {
    child(name, &format!("now-{}", hash(nonce)), LABEL_LIMIT)
}

/// The Job of a back-fill's run: the back-fill's hash, and the minutes since 1970 of the run's tick.
pub fn backfill_run(pipeline: &str, backfill_uid: &str, minutes: i64) -> String {
    child(pipeline, &format!("bf-{}-{minutes}", hash(backfill_uid)), LABEL_LIMIT)
}

/// The Deployment of the workers. As short as a CronJob's name, so that the names of its pods are valid
/// labels.
pub fn workers(name: &str) -> String {
    child(name, "worker", CRON_JOB_LIMIT)
}

/// The ConfigMap with the authorities of a connection's listener.
pub fn kafka_authorities(connection: &str) -> String {
    child(connection, "kafka-ca", LABEL_LIMIT)
}

/// The `KafkaUser` of a pipeline. It differs for each cluster and authentication, so that a pipeline that changes
/// either has both users until its workers have changed. Short enough for the common name of a certificate.
pub fn kafka_user(pipeline: &str, listener: &StrimziListener, authentication: UserAuthentication) -> String {
    let StrimziListener { cluster, namespace, .. } = listener;
    let hash = hash(&format!("{namespace}/{cluster}\n{}", authentication.as_str()));
    child(pipeline, &format!("kafka-{hash}"), LABEL_LIMIT)
}

/// An index that the pipeline creates on a table, also on an externally managed one, whose own indexes have
/// other names.
pub fn index(purpose: &str, table: &str) -> String {
    let plain = format!("userpipeline_{purpose}_{table}");
    if plain.len() <= POSTGRES_LIMIT {
        return plain;
    }
    cut(&plain, &hash(table), '_', POSTGRES_LIMIT)
}

/// First eight hexadecimal digits of the SHA-256 of a text: for names, not for secrets.
pub fn hash(text: &str) -> String {
    format!("{:.8x}", Sha256::digest(text.as_bytes()))
}

fn cut(text: &str, hash: &str, separator: char, limit: usize) -> String {
    let room = limit - hash.len() - 1;
    let kept: String = text.chars().take(room).collect();
    format!("{}{separator}{hash}", kept.trim_end_matches(separator))
}

#[cfg(test)]
mod tests;
