//! The desired version, and the available one.

use super::*;

#[test]
fn a_pinned_version_is_reported_with_the_available_one() {
    let table = [
        (None, "0.1.0", None),
        (Some("0.1.0"), "0.1.0", None),
        (Some("0.0.9"), "0.0.9", Some("0.1.0")),
    ];
    for (pinned, desired, available) in table {
        let mut pipeline = example::pipeline();
        pipeline.spec.image = pinned.map(|version| serde_json::from_value(json!({"version": version})).unwrap());
        let status = of(&pipeline, Ok(&applied(healthy())), &Observed::default(), now());
        let version = status.version.unwrap();
        assert_eq!(
            (version.wanted.as_str(), version.available.as_deref()),
            (desired, available),
            "{pinned:?}"
        );
    }
}
