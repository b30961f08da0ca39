//! The resources that a pipeline writes to, and where they are.

use std::sync::Arc;

use userpipeline_api::{Cassandra, Kafka, ResolvedPipeline, TlsMode, TopicManagement, names};

/// A resource that only one pipeline may write to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Resource {
    /// For people, for example `topic users`.
    pub what: String,
    /// The cluster or database that it is in; of a cluster, the host.
    place: String,
}

/// How a pipeline reaches a host. Kafka and Cassandra have a port for each kind of connection, so a pipeline that is moved to TLS
/// gets another port of the same cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Listener {
    port: Option<u32>,
    is_encrypted: bool,
    has_authentication: bool,
}

impl Listener {
    /// Whether both may be of one cluster. Two ports of one kind are two clusters.
    pub fn may_share(self, other: Self) -> bool {
        let kind = |listener: Self| (listener.is_encrypted, listener.has_authentication);
        self.port == other.port || kind(self) != kind(other)
    }
}

/// How a pipeline uses a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameUse {
    /// It derives from the pipeline, so it belongs to it whoever is older.
    Derived,
    /// The spec sets it.
    Set,
    /// It derives from the pipeline, whose spec sets another one. Pipelines of other namespaces cannot take it.
    Reserved,
}

/// A user of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub listener: Listener,
    pub name: NameUse,
}

/// Resources with their use.
pub(super) type Used = Vec<(Arc<Resource>, Use)>;

/// The resources that a pipeline writes to, and those whose names are reserved for it. `default_tls` holds where the spec omits
/// `tls`.
pub(super) fn resources(pipeline: &ResolvedPipeline, default_tls: TlsMode) -> [Used; 2] {
    let derived = named(&with_derived_names(pipeline), default_tls);
    let used = named(pipeline, default_tls);
    let reserved = derived.iter().filter(|(resource, _)| used.iter().all(|(used, _)| used != resource));
    let reserved = reserved.map(|(resource, listener)| {
        let name = NameUse::Reserved;
        (resource.clone(), Use { listener: *listener, name })
    });
    let own = used.iter().map(|(resource, listener)| {
        let is_derived = derived.iter().any(|(derived, _)| derived == resource);
        let name = if is_derived { NameUse::Derived } else { NameUse::Set };
        (resource.clone(), Use { listener: *listener, name })
    });
    [own.collect(), reserved.collect()]
}

fn with_derived_names(pipeline: &ResolvedPipeline) -> ResolvedPipeline {
    let mut derived = pipeline.clone();
    let (id, spec) = (&pipeline.id, &mut derived.spec);
    spec.kafka.topic.name = Some(names::topic(id));
    spec.dead_letter.topic = Some(names::dead_letter_topic(&names::topic(id)));
    spec.kafka.group_id = Some(names::group_id(id));
    spec.landing.table = spec.landing.table.take().map(|_| names::landing_table(id));
    if let Some(sink) = &mut spec.sinks.postgres {
        sink.table = Some(names::postgres_table(id));
    }
    if let Some(sink) = &mut spec.sinks.cassandra {
        sink.keyspace = Some(names::keyspace(id));
        sink.table = Some(names::cassandra_table(id));
    }
    derived
}

fn named(pipeline: &ResolvedPipeline, default_tls: TlsMode) -> Vec<(Arc<Resource>, Listener)> {
    let ResolvedPipeline { id, spec, .. } = pipeline;
    let mut resources = Vec::new();
    let mut add = |what: String, place: &str, listener: Listener| {
        let place = place.to_owned();
        resources.push((Arc::new(Resource { what, place }), listener));
    };
    // One common address is enough to be the same cluster.
    for broker in spec.kafka.bootstrap_servers.split(',') {
        let (host, listener) = broker_address(broker.trim(), &spec.kafka, default_tls, &id.namespace);
        let brokers = format!("kafka {host}");
        // Many pipelines may read an externally managed topic.
        let shared = spec.source.topic.is_some() && spec.kafka.topic.management == TopicManagement::None;
        let topic = spec.kafka.topic.name.iter().filter(|_| !shared);
        for topic in topic.chain(&spec.dead_letter.topic) {
            add(format!("topic {topic}"), &brokers, listener);
        }
        if let Some(group) = &spec.kafka.group_id {
            add(format!("consumer group {group}"), &brokers, listener);
        }
    }
    let postgres = &spec.postgres;
    let host = name(&postgres.host, &id.namespace);
    let database = format!("postgres {host}:{}/{}", postgres.port, postgres.database);
    let sink = spec.sinks.postgres.as_ref().and_then(|sink| sink.table.as_ref());
    for table in spec.landing.table.iter().chain(sink) {
        add(format!("table {table} in PostgreSQL"), &database, Listener::default());
    }
    if let (Some(cluster), Some(sink)) = (&spec.cassandra, &spec.sinks.cassandra) {
        let table = format!(
            "table {}.{} in Cassandra",
            sink.keyspace.as_deref().unwrap_or_default(),
            sink.table.as_deref().unwrap_or_default()
        );
        for point in &cluster.contact_points {
            let (host, listener) = node_address(point, cluster, default_tls, &id.namespace);
            add(table.clone(), &format!("cassandra {host}"), listener);
        }
    }
    resources
}

fn broker_address(broker: &str, kafka: &Kafka, default_tls: TlsMode, namespace: &str) -> (String, Listener) {
    let (host, port) = address(broker, namespace);
    let listener = Listener {
        port,
        is_encrypted: kafka.tls.as_ref().map_or(default_tls, |tls| tls.mode) != TlsMode::Disable,
        has_authentication: kafka.auth.is_some(),
    };
    (host, listener)
}

fn node_address(point: &str, cassandra: &Cassandra, default_tls: TlsMode, namespace: &str) -> (String, Listener) {
    let (host, port) = address(point, namespace);
    let listener = Listener {
        port,
        is_encrypted: cassandra.tls.as_ref().map_or(default_tls, |tls| tls.mode) != TlsMode::Disable,
        has_authentication: true,
    };
    (host, listener)
}

/// The normal form of the name in an address, and the port.
fn address(address: &str, namespace: &str) -> (String, Option<u32>) {
    let parts = address.split_once(':');
    match parts.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (name(host, namespace), Some(port)),
        None => (name(address, namespace), None),
    }
}

/// The normal form of a name: `db`, `db.stores` and `db.stores.svc.cluster.local` are the same Service.
fn name(host: &str, namespace: &str) -> String {
    let mut name = host.trim_end_matches('.').to_ascii_lowercase();
    for suffix in [".cluster.local", ".svc"] {
        if let Some(short) = name.strip_suffix(suffix) {
            name = short.to_owned();
        }
    }
    if !name.contains('.') {
        name = format!("{name}.{namespace}");
    }
    name
}
