//! The resources that a pipeline writes to, and where they are.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    net::IpAddr,
    sync::Arc,
};

use userpipeline_api::{
    Cassandra, Kafka, ResolvedPipeline, StoreAddress, StoreIdentity, StoreObject, StoreObjectKind, TlsMode, TopicManagement,
    UserPipelineStatus, names,
};

/// The ports of addresses without one.
const BROKER_PORT: u32 = 9092;
const NODE_PORT: u32 = 9042;

/// A resource that only one pipeline may write to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Resource {
    /// For people, for example `topic users`.
    pub what: String,
    place: Place,
}

/// The cluster or database that a resource is in. One that was identified has both an address and ids, and one of them in common is
/// enough to be the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// With the kind of store; of a cluster, the host.
    Address(String),
    /// What the servers report.
    Id(String),
}

impl Resource {
    /// The id of its store, where that is its place.
    pub fn store_id(&self) -> Option<&str> {
        match &self.place {
            Place::Address(_) => None,
            Place::Id(id) => Some(id),
        }
    }
}

/// How a pipeline reaches a host. Kafka and Cassandra have a port for each kind of connection, so a pipeline that is moved to TLS
/// gets another port of the same cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Listener {
    /// None where the place has it.
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
    /// It derives from the pipeline, so it belongs to it, also if the other one is older.
    Derived,
    /// The pipeline created the object, as the operator recorded.
    Created,
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

/// What the operator has recorded about a pipeline.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(super) struct Recorded<'a> {
    pub stores: &'a [StoreIdentity],
    pub created: &'a [StoreObject],
}

impl<'a> Recorded<'a> {
    pub fn of(status: Option<&'a UserPipelineStatus>) -> Self {
        status.map_or_else(Self::default, |status| Self {
            stores: &status.store_identities,
            created: status.created_objects.as_deref().unwrap_or_default(),
        })
    }

    pub fn hash(self) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(self)
    }

    /// Whether the pipeline created the object. The record has a Cassandra cluster by name, of which many have the same.
    fn has_created(self, object: &Named) -> bool {
        let is_same = |created: &&StoreObject| created.kind == object.kind && created.name == object.name;
        let mut same = self.created.iter().filter(is_same);
        same.any(|created| created.kind == StoreObjectKind::CassandraTable || object.store.ids(self.stores).contains(&created.store))
    }
}

/// A resource with what it is named.
struct Named {
    kind: StoreObjectKind,
    name: String,
    store: StoreAddress,
    /// At each address and id of its store.
    places: Vec<(Arc<Resource>, Listener)>,
}

impl Named {
    fn with(&self, name: NameUse) -> impl Iterator<Item = (Arc<Resource>, Use)> {
        self.places
            .iter()
            .map(move |(resource, listener)| (resource.clone(), Use { listener: *listener, name }))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name
    }
}

/// The resources that a pipeline writes to, and those whose names are reserved for it. `default_tls` holds where the spec omits
/// `tls`.
pub(super) fn resources(pipeline: &ResolvedPipeline, default_tls: TlsMode, recorded: Recorded<'_>) -> [Used; 2] {
    let derived = named(&with_derived_names(pipeline), default_tls, recorded.stores);
    let used = named(pipeline, default_tls, recorded.stores);
    let reserved = derived.iter().filter(|object| !used.iter().any(|used| used.is_same(object)));
    let reserved = reserved.flat_map(|object| object.with(NameUse::Reserved));
    let own = used.iter().flat_map(|object| {
        let name = if derived.iter().any(|derived| derived.is_same(object)) {
            NameUse::Derived
        } else if recorded.has_created(object) {
            NameUse::Created
        } else {
            NameUse::Set
        };
        object.with(name)
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
    for aggregate in &mut spec.aggregates {
        aggregate.sinks.postgres.view = None;
        if let Some(table) = &mut aggregate.sinks.cassandra {
            table.table = None;
        }
    }
    derived
}

fn named(pipeline: &ResolvedPipeline, default_tls: TlsMode, stores: &[StoreIdentity]) -> Vec<Named> {
    let ResolvedPipeline { id, spec, .. } = pipeline;
    let mut all = kafka_objects(pipeline, default_tls, stores);
    let postgres = &spec.postgres;
    let host = name(&postgres.host, &id.namespace);
    let database = [(
        format!("postgres {host}:{}/{}", postgres.port, postgres.database),
        Listener::default(),
    )];
    let sink = spec.sinks.postgres.as_ref().and_then(|sink| sink.table.as_ref());
    // Tables and views share their names.
    let views = sink
        .iter()
        .flat_map(|sink| spec.aggregates.iter().map(|aggregate| names::view(aggregate, sink)));
    for table in spec.landing.table.iter().chain(sink).cloned().chain(views) {
        let what = format!("table {table} in PostgreSQL");
        let store = StoreAddress::postgres(postgres);
        all.push(object(StoreObjectKind::Table, &table, &what, store, &database, stores));
    }
    if let (Some(cluster), Some(sink)) = (&spec.cassandra, &spec.sinks.cassandra) {
        let (keyspace, table) = (sink.keyspace.as_deref(), sink.table.as_deref().unwrap_or_default());
        let of_aggregates = spec.aggregates.iter().filter_map(|aggregate| names::mirror(aggregate, table));
        let nodes = cluster.contact_points.iter().map(|point| {
            let (host, listener) = node_address(point, cluster, default_tls, &id.namespace);
            (format!("cassandra {host}"), listener)
        });
        let nodes = nodes.collect::<Vec<_>>();
        for table in std::iter::once(table.to_owned()).chain(of_aggregates) {
            let table = format!("{}.{table}", keyspace.unwrap_or_default());
            let what = format!("table {table} in Cassandra");
            all.push(object(
                StoreObjectKind::CassandraTable,
                &table,
                &what,
                StoreAddress::cassandra(cluster),
                &nodes,
                stores,
            ));
        }
    }
    all
}

fn kafka_objects(pipeline: &ResolvedPipeline, default_tls: TlsMode, stores: &[StoreIdentity]) -> Vec<Named> {
    let ResolvedPipeline { id, spec, .. } = pipeline;
    // One common address is enough to be the same cluster.
    let brokers = spec.kafka.bootstrap_servers.split(',').map(|broker| {
        let (host, listener) = broker_address(broker.trim(), &spec.kafka, default_tls, &id.namespace);
        (format!("kafka {host}"), listener)
    });
    // The listeners of a cluster that Strimzi runs have different addresses.
    let strimzi = pipeline.strimzi.as_ref().map(|listener| {
        let cluster = format!("strimzi {}/{}", listener.namespace, listener.cluster);
        (cluster, Listener::default())
    });
    let brokers = brokers.chain(strimzi).collect::<Vec<_>>();
    // Many pipelines may read an externally managed topic.
    let shared = spec.source.topic.is_some() && spec.kafka.topic.management == TopicManagement::None;
    let topic = spec.kafka.topic.name.iter().filter(|_| !shared);
    let topics = topic.chain(&spec.dead_letter.topic).map(|topic| (StoreObjectKind::Topic, topic));
    let group = spec.kafka.group_id.iter().map(|group| (StoreObjectKind::ConsumerGroup, group));
    let objects = topics.chain(group).map(|(kind, name)| {
        let what = match kind {
            StoreObjectKind::Topic => format!("topic {name}"),
            _ => format!("consumer group {name}"),
        };
        let store = StoreAddress::kafka(&spec.kafka.bootstrap_servers);
        object(kind, name, &what, store, &brokers, stores)
    });
    objects.collect()
}

fn object(
    kind: StoreObjectKind,
    name: &str,
    what: &str,
    store: StoreAddress,
    addresses: &[(String, Listener)],
    stores: &[StoreIdentity],
) -> Named {
    let addresses = addresses
        .iter()
        .map(|(address, listener)| (Place::Address(address.clone()), *listener));
    let ids = store.ids(stores).iter().map(|id| (Place::Id(id.clone()), Listener::default()));
    let places = addresses.chain(ids).map(|(place, listener)| {
        let what = what.to_owned();
        (Arc::new(Resource { what, place }), listener)
    });
    let places = places.collect();
    Named {
        kind,
        name: name.to_owned(),
        store,
        places,
    }
}

fn broker_address(broker: &str, kafka: &Kafka, default_tls: TlsMode, namespace: &str) -> (String, Listener) {
    let (host, port) = address(broker, BROKER_PORT, namespace);
    let listener = Listener {
        port,
        is_encrypted: kafka.tls.as_ref().map_or(default_tls, |tls| tls.mode) != TlsMode::Disable,
        has_authentication: kafka.auth.is_some(),
    };
    (host, listener)
}

fn node_address(point: &str, cassandra: &Cassandra, default_tls: TlsMode, namespace: &str) -> (String, Listener) {
    let (host, port) = address(point, NODE_PORT, namespace);
    let listener = Listener {
        port,
        is_encrypted: cassandra.tls.as_ref().map_or(default_tls, |tls| tls.mode) != TlsMode::Disable,
        has_authentication: true,
    };
    (host, listener)
}

/// The normal form of the name in an address, and the port.
fn address(address: &str, default_port: u32, namespace: &str) -> (String, Option<u32>) {
    let parts = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let (host, port) = match parts.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (host, port),
        None => (address, default_port),
    };
    (name(host, namespace), Some(port))
}

/// The normal form of a name: `db`, `db.stores` and `db.stores.svc.cluster.local` are the same Service.
fn name(host: &str, namespace: &str) -> String {
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return ip.to_canonical().to_string();
    }
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

#[cfg(test)]
mod tests {
    use userpipeline_api::{StrimziListener, resolve};

    use super::*;
    use crate::pipeline::example;

    #[test]
    fn a_topic_is_the_same_at_all_listeners_of_a_cluster_that_strimzi_runs() {
        let topics = |cluster: Option<&str>, servers: &str| {
            let mut resolved = resolve(&example::pipeline(), &userpipeline_api::Connections::new()).unwrap();
            resolved.spec.kafka.bootstrap_servers = servers.to_owned();
            resolved.strimzi = cluster.map(|cluster| StrimziListener {
                cluster: cluster.to_owned(),
                namespace: "kafka".into(),
                listener: "any".into(),
            });
            let [used, _] = resources(&resolved, TlsMode::VerifyFull, Recorded::default());
            let topics = used.into_iter().filter(|(resource, _)| resource.what == "topic demo.users");
            topics.map(|(resource, _)| resource).collect::<Vec<_>>()
        };
        let plain = topics(Some("events"), "plain:9092");
        for (case, cluster, is_same) in [
            ("another listener", Some("events"), true),
            ("another cluster", Some("audit"), false),
            ("no cluster of Strimzi", None, false),
        ] {
            let other = topics(cluster, "external:9094");
            assert_eq!(plain.iter().any(|resource| other.contains(resource)), is_same, "{case}");
        }
    }
}
