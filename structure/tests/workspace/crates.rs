//! Crates depend on each other in one direction, and what is pure stays pure.

use std::collections::BTreeSet;

use userpipeline_structure::Package;

use crate::WORKSPACE;

/// Each package of the workspace and those that it may depend on, for its tests included.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("userpipeline-api", &[]),
    ("userpipeline-record", &["userpipeline-api"]),
    ("userpipeline-stores", &["userpipeline-api", "userpipeline-record"]),
    ("userpipeline-runtime", &["userpipeline-api"]),
    (
        "userpipeline-operator",
        &["userpipeline-api", "userpipeline-record", "userpipeline-runtime"],
    ),
    (
        "ingest-job",
        &[
            "userpipeline-api",
            "userpipeline-record",
            "userpipeline-runtime",
            "userpipeline-stores",
        ],
    ),
    (
        "stream-worker",
        &[
            "userpipeline-api",
            "userpipeline-record",
            "userpipeline-runtime",
            "userpipeline-stores",
        ],
    ),
    ("randomuser-source", &[]),
    (
        "userpipeline-tests",
        &[
            "userpipeline-api",
            "userpipeline-operator",
            "userpipeline-record",
            "userpipeline-stores",
        ],
    ),
    (
        "userpipeline-benches",
        &[
            "userpipeline-api",
            "userpipeline-operator",
            "userpipeline-record",
            "userpipeline-tests",
            "randomuser-source",
        ],
    ),
    ("userpipeline-structure", &[]),
];

/// The resources and the record schema are plain data: no client, no IO.
const PURE: &[&str] = &["userpipeline-api", "userpipeline-record"];
const IO: &[&str] = &[
    "axum",
    "hyper",
    "kube-client",
    "kube-runtime",
    "rdkafka",
    "reqwest",
    "scylla",
    "tokio",
    "tokio-postgres",
    "tower-http",
];
/// The features with which `kube` is more than types.
const KUBE_CLIENT: &[&str] = &["client", "runtime", "ws", "rustls-tls", "openssl-tls", "aws-lc-rs", "ring"];

/// The operator opens no connection to what pipelines read and write.
const DATA_PLANE: &[&str] = &["rdkafka", "scylla", "tokio-postgres", "apache-avro"];

fn package(name: &str) -> &'static Package {
    let found = WORKSPACE.packages.iter().find(|package| package.name == name);
    found.unwrap_or_else(|| panic!("the workspace has no package {name}"))
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let ours: BTreeSet<&str> = WORKSPACE.packages.iter().map(|package| package.name.as_str()).collect();
    let listed: BTreeSet<&str> = MAY_DEPEND_ON.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours, listed, "MAY_DEPEND_ON lists the packages of the workspace");
    for (name, allowed) in MAY_DEPEND_ON {
        for dependency in &package(name).dependencies {
            let dependency = dependency.name.as_str();
            assert!(
                !ours.contains(dependency) || allowed.contains(&dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn pure_crates_have_no_client_and_the_operator_has_none_of_the_data_plane() {
    let mut violations = BTreeSet::new();
    for name in PURE {
        // Tests may do IO.
        for dependency in package(name).dependencies.iter().filter(|dependency| dependency.kind.is_none()) {
            if IO.contains(&dependency.name.as_str()) {
                violations.insert(format!("{name}: {}", dependency.name));
            }
            let features = dependency.features.iter().filter(|_| dependency.name == "kube");
            for feature in features.filter(|feature| KUBE_CLIENT.contains(&feature.as_str())) {
                violations.insert(format!("{name}: kube/{feature}"));
            }
        }
    }
    let operator = package("userpipeline-operator");
    for dependency in &operator.dependencies {
        if DATA_PLANE.contains(&dependency.name.as_str()) {
            violations.insert(format!("{}: {}", operator.name, dependency.name));
        }
    }
    assert!(violations.is_empty(), "{violations:?}");
}
