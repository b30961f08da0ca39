//! What we write for Strimzi is what Strimzi reads. These tests need no cluster.

use std::{fs, path::PathBuf};

use anyhow::Result;
use userpipeline_tests::strimzi::model::{folder, read_strictly};

/// The samples that are to be refused, with what is said of each.
const REFUSED: [(&str, &str); 5] = [
    ("unknown_property_of_a_topic", "unknown property KafkaTopic.spec.replicationFactor"),
    (
        "unknown_property_of_an_acl",
        "unknown property KafkaUser.spec.authorization.acls[0].resource.pattern",
    ),
    ("unknown_operation", "operations[0]: \"Consume\" is read as null"),
    ("unknown_authentication", "Could not resolve type id 'scram-sha-256'"),
    ("wrong_type", "from String \"many\""),
];

fn sample(name: &str) -> PathBuf {
    folder().join("samples").join(format!("{name}.yaml"))
}

#[test]
fn the_model_has_every_property_of_the_stand_in() -> Result<()> {
    read_strictly(&[sample("accepted")])
}

#[test]
fn properties_and_values_that_the_model_lacks_are_refused() {
    // Given samples with one mistake each
    let files = REFUSED.map(|(name, _)| sample(name));
    assert_eq!(
        fs::read_dir(folder().join("samples")).unwrap().count(),
        files.len() + 1,
        "all samples are read"
    );

    // When the model reads them, Then each mistake is reported with its file
    let refused = read_strictly(&files).expect_err("mistakes").to_string();
    for (name, expected) in REFUSED {
        let reported = refused.lines().any(|line| line.contains(name) && line.contains(expected));
        assert!(reported, "{name}: {refused}");
    }
}
