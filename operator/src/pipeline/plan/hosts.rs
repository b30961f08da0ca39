//! To which hosts a plan may send Secrets. Pure. A file may come from a pull request, and name any host.

use std::collections::BTreeSet;

use userpipeline_api::{PodSettings, ResolvedPipeline, UserPipelineConnectionSpec};

/// A host, and the field that names it.
type Host = (String, &'static str);

/// The hosts of a connection's stores.
pub fn of_connection(spec: &UserPipelineConnectionSpec) -> BTreeSet<String> {
    let mut hosts = Vec::new();
    hosts.extend(spec.postgres.iter().map(|postgres| postgres.host.as_str()));
    hosts.extend(
        spec.kafka
            .iter()
            .filter_map(|kafka| kafka.bootstrap_servers.as_ref())
            .flat_map(|servers| servers.split(',')),
    );
    hosts.extend(spec.schema_registry.iter().map(|registry| registry.url.as_str()));
    hosts.extend(
        spec.cassandra
            .iter()
            .flat_map(|cassandra| &cassandra.contact_points)
            .map(String::as_str),
    );
    hosts.into_iter().map(host).collect()
}

/// `pods`: `spec.pods.tasks`. The hosts of a pipeline to which a schema Job would send Secrets and that are not allowed, with their fields.
pub fn not_allowed(pipeline: &ResolvedPipeline, pods: &PodSettings, allowed: &BTreeSet<String>) -> Vec<Host> {
    let spec = &pipeline.spec;
    let mut hosts = vec![(spec.postgres.host.as_str(), "spec.postgres.host")];
    let brokers = spec.kafka.bootstrap_servers.split(',');
    hosts.extend(brokers.map(|broker| (broker, "spec.kafka.bootstrapServers")));
    hosts.extend(
        spec.schema_registry
            .iter()
            .map(|registry| (registry.url.as_str(), "spec.schemaRegistry.url")),
    );
    let points = spec.cassandra.iter().flat_map(|cassandra| &cassandra.contact_points);
    hosts.extend(points.map(|point| (point.as_str(), "spec.cassandra.contactPoints")));
    let proxy = pods.proxy.iter();
    let proxies = proxy.flat_map(|proxy| proxy.http.iter().chain(&proxy.https));
    hosts.extend(proxies.map(|url| (url.as_str(), "spec.pods.tasks.proxy")));
    let hosts = hosts.into_iter().map(|(address, field)| (host(address), field));
    hosts.filter(|(host, _)| !allowed.contains(host)).collect()
}

/// The host of a URL, of `host:port` or of `host`.
pub fn host(address: &str) -> String {
    let address = address.trim();
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    let address = address.split('/').next().unwrap_or(address);
    let host = match address.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        // An IPv6 address without brackets has several colons, and no port.
        None if address.matches(':').count() > 1 => address,
        None => address.split(':').next().unwrap_or(address),
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use userpipeline_api::resolve;

    use super::*;
    use crate::pipeline::example;

    #[test]
    fn a_host_is_the_same_in_every_form_of_address() {
        for (address, expected) in [
            ("db", "db"),
            ("DB.example.", "db.example"),
            ("db:5432", "db"),
            (" kafka:9092", "kafka"),
            ("https://registry:8443/apis/ccompat/v7", "registry"),
            ("http://registry", "registry"),
            ("[fd00::1]:9042", "fd00::1"),
            ("fd00::1", "fd00::1"),
        ] {
            assert_eq!(host(address), expected, "{address}");
        }
    }

    #[test]
    fn only_hosts_of_connections_are_allowed() {
        let (moved, connections) = example::with_connections();
        let known: BTreeSet<String> = connections
            .values()
            .flat_map(|connection| of_connection(connection.as_ref().unwrap()))
            .collect();
        let resolved = resolve(&moved, &connections).unwrap();
        let pods = PodSettings::default();
        assert_eq!(not_allowed(&resolved, &pods, &known), []);
        for (field, change) in [
            ("spec.postgres.host", 0),
            ("spec.kafka.bootstrapServers", 1),
            ("spec.schemaRegistry.url", 2),
            ("spec.cassandra.contactPoints", 3),
            ("spec.pods.tasks.proxy", 4),
        ] {
            let (mut forged, mut settings) = (resolved.clone(), pods.clone());
            let spec = &mut forged.spec;
            match change {
                0 => spec.postgres.host = "evil".into(),
                1 => spec.kafka.bootstrap_servers.push_str(",evil:9092"),
                2 => spec.schema_registry.as_mut().unwrap().url = "https://evil/v7".into(),
                3 => spec.cassandra.as_mut().unwrap().contact_points.push("evil:9042".into()),
                _ => settings.proxy = serde_json::from_value(serde_json::json!({"https": "http://evil:3128"})).unwrap(),
            }
            assert_eq!(not_allowed(&forged, &settings, &known), [("evil".to_owned(), field)]);
        }
        let with_evil: BTreeSet<String> = known.into_iter().chain(["evil".to_owned()]).collect();
        let mut allowed = resolved;
        allowed.spec.postgres.host = "EVIL".into();
        assert_eq!(not_allowed(&allowed, &pods, &with_evil), [], "--allow-host");
    }
}
