//! From where each block comes, and what is merged.

use std::collections::BTreeMap;

use super::{
    error::{Connections, ResolveError},
    kafka::{Kafka, SchemaRegistry, Topic, replicas},
};
use crate::{
    Cassandra, CassandraSink, Postgres, StrimziListener, TableManagement, TopicFormat, TopicManagement, UserPipelineConnectionSpec,
    UserPipelineSpec,
};

/// The connections that a pipeline names, in its order.
pub(super) struct Offers<'a>(Vec<(&'a str, &'a UserPipelineConnectionSpec)>);

/// From where a block comes.
pub(super) enum Choice<'a, T> {
    /// The pipeline itself.
    Own,
    /// A connection: its name, and the block.
    Connection(&'a str, &'a T),
}

/// A block, for messages.
pub(super) struct Block {
    /// Its name in a connection.
    pub name: &'static str,
    /// The field of the pipeline that makes the block its own.
    pub field: &'static str,
    /// Whether the pipeline has that field.
    pub is_own: bool,
}

impl<'a> Offers<'a> {
    pub fn of(spec: &'a UserPipelineSpec, connections: &'a Connections) -> Result<Self, ResolveError> {
        let (mut offers, mut missing, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
        for connection in &spec.connections {
            match connections.get(&connection.name) {
                Some(Ok(offer)) => offers.push((connection.name.as_str(), offer)),
                Some(Err(why)) => invalid.push(format!("{}: {why}", connection.name)),
                None => missing.push(connection.name.clone()),
            }
        }
        if !missing.is_empty() {
            return Err(ResolveError::ConnectionMissing(missing));
        }
        if !invalid.is_empty() {
            return Err(ResolveError::ConnectionInvalid(invalid));
        }
        Ok(Self(offers))
    }

    /// The only place that has the block; otherwise a problem.
    pub fn choose<T>(
        &self,
        block: &Block,
        of: impl Fn(&'a UserPipelineConnectionSpec) -> Option<&'a T>,
        problems: &mut Vec<String>,
    ) -> Option<Choice<'a, T>> {
        let offers: Vec<_> = self.0.iter().filter_map(|(name, offer)| Some((*name, of(offer)?))).collect();
        let Block { name, field, is_own } = block;
        match (&offers[..], is_own) {
            ([], true) => return Some(Choice::Own),
            ([(connection, offer)], false) => return Some(Choice::Connection(connection, offer)),
            ([_, ..], _) => {
                let own = is_own.then(|| (*field).to_owned());
                let others = offers.iter().map(|(connection, _)| format!("connection {connection}"));
                let places: Vec<String> = own.into_iter().chain(others).collect();
                problems.push(format!("{name} is defined by {}: keep one", places.join(" and by ")));
            }
            ([], false) if self.0.is_empty() => {
                problems.push(format!(
                    "{field}: is missing: set it, or name a connection with {name} in spec.connections"
                ));
            }
            ([], false) => {
                let named: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
                problems.push(format!(
                    "{field}: is not set, and no connection of spec.connections has {name}: {}",
                    named.join(", ")
                ));
            }
        }
        None
    }
}

pub(super) fn postgres_block(spec: &UserPipelineSpec, offers: &Offers<'_>, problems: &mut Vec<String>) -> Option<Postgres> {
    let block = Block {
        name: "postgres",
        field: "spec.postgres",
        is_own: spec.postgres.is_some(),
    };
    match offers.choose(&block, |offer| offer.postgres.as_ref(), problems)? {
        Choice::Own => spec.postgres.clone(),
        Choice::Connection(_, postgres) => Some(postgres.clone()),
    }
}

/// The Kafka block, and the listener that it comes from if Strimzi runs the cluster.
pub(super) fn kafka_block(
    spec: &UserPipelineSpec,
    offers: &Offers<'_>,
    problems: &mut Vec<String>,
) -> Option<(Kafka, Option<StrimziListener>)> {
    let own = spec.kafka.clone().unwrap_or_default();
    let block = Block {
        name: "kafka",
        field: "spec.kafka.bootstrapServers",
        is_own: own.bootstrap_servers.is_some(),
    };
    if !block.is_own && (own.tls.is_some() || own.auth.is_some()) {
        problems.push("spec.kafka: tls and auth belong to bootstrapServers, which is not set: remove them, or set it".to_owned());
    }
    let (bootstrap_servers, tls, auth, defaults, strimzi) = match offers.choose(&block, |offer| offer.kafka.as_ref(), problems)? {
        Choice::Own => (own.bootstrap_servers?, own.tls, own.auth, None, None),
        Choice::Connection(_, kafka) => (
            kafka.bootstrap_servers.clone()?,
            kafka.tls.clone(),
            kafka.auth.clone(),
            kafka.topic.clone(),
            kafka.strimzi.clone(),
        ),
    };
    let defaults = defaults.unwrap_or_default();
    let by_default = if strimzi.is_some() {
        TopicManagement::Strimzi
    } else {
        TopicManagement::Direct
    };
    let management = own.topic.management.or(defaults.management).unwrap_or(by_default);
    if management == TopicManagement::Strimzi && strimzi.is_none() {
        problems.push(
            "spec.kafka.topic.management: Strimzi needs a connection with kafka.strimzi: name one, or choose Direct or None".to_owned(),
        );
    }
    let kafka = Kafka {
        bootstrap_servers,
        tls,
        auth,
        group_id: own.group_id,
        topic: Topic {
            name: own.topic.name,
            partitions: own.topic.partitions,
            replicas: own.topic.replicas.or(defaults.replicas).unwrap_or_else(replicas),
            config: merged(defaults.config, own.topic.config),
            management,
            adopt: own.topic.adopt,
            id: None,
        },
    };
    Some((kafka, strimzi))
}

/// The defaults with what the pipeline sets.
fn merged<T>(mut defaults: BTreeMap<String, T>, own: BTreeMap<String, T>) -> BTreeMap<String, T> {
    defaults.extend(own);
    defaults
}

/// None also where nothing is Avro: then a connection's registry is not used.
pub(super) fn registry_block(spec: &UserPipelineSpec, offers: &Offers<'_>, problems: &mut Vec<String>) -> Option<SchemaRegistry> {
    let own = spec.schema_registry.as_ref();
    let url = own.and_then(|registry| registry.url.clone());
    let block = Block {
        name: "schemaRegistry",
        field: "spec.schemaRegistry.url",
        is_own: url.is_some(),
    };
    if !block.is_own && own.is_some_and(|own| own.tls.is_some() || own.auth.is_some()) {
        problems.push("spec.schemaRegistry: tls and auth belong to url, which is not set: remove them, or set it".to_owned());
    }
    if !uses_registry(spec) {
        return None;
    }
    let compatibility = own.and_then(|registry| registry.compatibility);
    match offers.choose(&block, |offer| offer.schema_registry.as_ref(), problems)? {
        Choice::Own => Some(SchemaRegistry {
            url: url?,
            tls: own.and_then(|registry| registry.tls.clone()),
            auth: own.and_then(|registry| registry.auth.clone()),
            compatibility,
        }),
        Choice::Connection(connection, registry) => {
            proxies(spec, connection, problems);
            Some(SchemaRegistry {
                url: registry.url.clone(),
                tls: registry.tls.clone(),
                auth: registry.auth.clone(),
                compatibility,
            })
        }
    }
}

/// A proxy of the author's own would receive the requests to the registry.
fn proxies(spec: &UserPipelineSpec, connection: &str, problems: &mut Vec<String>) {
    let pods = &spec.pods;
    for (program, settings) in [("ingest", &pods.ingest), ("workers", &pods.workers), ("tasks", &pods.tasks)] {
        if settings.proxy.is_some() {
            problems.push(format!(
                "spec.pods.{program}.proxy: is not allowed, because connection {connection} has the schema registry: remove it"
            ));
        }
    }
}

/// Whether the pipeline uses a schema registry: its own, or because the topic has Avro.
pub fn uses_registry(spec: &UserPipelineSpec) -> bool {
    let is_own = spec.schema_registry.as_ref().is_some_and(|registry| registry.url.is_some());
    is_own || spec.source.topic.as_ref().is_none_or(|topic| topic.format == TopicFormat::Avro)
}

/// Cluster and sink in Cassandra. A cluster without a sink is not used.
pub(super) fn cassandra_sink(
    spec: &UserPipelineSpec,
    offers: &Offers<'_>,
    problems: &mut Vec<String>,
) -> (Option<Cassandra>, Option<CassandraSink>) {
    let Some(sink) = &spec.sinks.cassandra else {
        return (spec.cassandra.clone(), None);
    };
    let block = Block {
        name: "cassandra",
        field: "spec.cassandra",
        is_own: spec.cassandra.is_some(),
    };
    let (cluster, replication) = match offers.choose(&block, |offer| offer.cassandra.as_ref(), problems) {
        None => return (None, None),
        Some(Choice::Own) => (spec.cassandra.clone(), BTreeMap::new()),
        Some(Choice::Connection(_, cassandra)) => (Some(cassandra.cluster()), cassandra.replication.clone()),
    };
    let replication = merged(replication, sink.replication.clone());
    if replication.is_empty() && sink.management == TableManagement::Direct {
        problems.push(
            "spec.sinks.cassandra.replication: is needed to create the keyspace: set it here, or in the connection with cassandra"
                .to_owned(),
        );
    }
    let sink = CassandraSink {
        replication,
        ..sink.clone()
    };
    (cluster, Some(sink))
}
