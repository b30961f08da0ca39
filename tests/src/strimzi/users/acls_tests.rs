use serde_json::{Value, json};

use super::*;

fn spec(resource: &Value, operations: &[&str]) -> UserSpec {
    let rule = json!({"resource": resource, "operations": operations});
    serde_json::from_value(json!({"authorization": {"type": "simple", "acls": [rule]}})).unwrap()
}

#[test]
fn each_operation_of_a_rule_is_an_acl() {
    // Given a rule with two operations on all topics with a prefix
    let spec = spec(
        &json!({"type": "topic", "name": "e2e-x.", "patternType": "prefix"}),
        &["Read", "DescribeConfigs"],
    );

    // When it is translated
    let acls = desired(&spec, "User:e2e-x", "e2e-x").unwrap();

    // Then there is an ACL for each, for every host
    let found: Vec<_> = acls
        .iter()
        .map(|acl| {
            (
                acl.resource,
                acl.name.as_str(),
                acl.pattern,
                acl.host.as_str(),
                acl.operation,
                acl.permission,
            )
        })
        .collect();
    let expected = |operation| (ResourceType::Topic, "e2e-x.", Pattern::Prefixed, "*", operation, Permission::Allow);
    assert_eq!(found, [expected(3), expected(10)]);
}

#[test]
fn what_belongs_to_other_stories_is_not_closed_to_them() {
    for (resource, operation, expected) in [
        (json!({"type": "topic", "name": "e2e-x.users"}), "Read", Ok(1)),
        (json!({"type": "group", "name": "e2e-x.users"}), "Read", Ok(1)),
        (json!({"type": "transactionalId", "name": "e2e-x.users"}), "Write", Ok(1)),
        (json!({"type": "cluster"}), "Describe", Ok(0)),
        (
            json!({"type": "topic", "name": "*"}),
            "Read",
            Err("the stand-in grants only what begins with e2e-x, not the Topic *"),
        ),
        (
            json!({"type": "group", "name": "e2e-"}),
            "Read",
            Err("the stand-in grants only what begins with e2e-x, not the Group e2e-"),
        ),
        (json!({"type": "topic", "name": "e2e-x"}), "Any", Err("no such operation: Any")),
    ] {
        let found = desired(&spec(&resource, &[operation]), "User:e2e-x", "e2e-x").map(|acls| acls.len());
        assert_eq!(found, expected.map_err(str::to_owned), "{resource}");
    }
}
