use std::sync::Arc;

use serde_json::json;
use userpipeline_api::UserAuthentication;

use super::*;
use crate::{
    pipeline::model::AclResource,
    strimzi::{ClusterId, Kind},
};

fn requested() -> RequestedUser {
    RequestedUser {
        cluster: ClusterId {
            namespace: "kafka".into(),
            name: "events".into(),
        },
        name: "users-kafka-1".into(),
        authentication: UserAuthentication::ScramSha512,
        acls: vec![Acl {
            resource: AclResource::Topic("new".into()),
            operations: vec!["Read"],
        }],
    }
}

fn user(name: &str, spec: &Value, status: &Value) -> Arc<KafkaUser> {
    let user = json!({
        "apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaUser", "metadata": {"name": name, "namespace": "demo", "generation": 2},
        "spec": spec, "status": status,
    });
    Arc::new(serde_json::from_value(user).unwrap())
}

fn live(users: Vec<Arc<KafkaUser>>) -> KafkaUsers {
    let resource = ApiResource::from_gvk_with_plural(
        &kube::api::GroupVersionKind::gvk("kafka.strimzi.io", "v1", "KafkaUser"),
        "kafkausers",
    );
    let users = users.into_iter().map(LiveUser).collect();
    KafkaUsers { resource, users }
}

fn input<'a>(requested: Option<&'a RequestedUser>, mounted: &'a BTreeSet<String>) -> KafkaUserInput<'a> {
    KafkaUserInput {
        requested,
        namespace: "demo",
        live: Some(Ok(live(Vec::new()))),
        cluster: Ok(UserCluster {
            user_namespace: "demo".into(),
            has_acls: Some(true),
        }),
        is_rolled_out: true,
        mounted,
        assumes_ready: false,
    }
}

fn condition(type_: &str, reason: &str, message: &str) -> Value {
    json!([{"type": type_, "status": "True", "reason": reason, "message": message}])
}

#[test]
fn a_user_is_ready_only_when_strimzi_says_so_of_its_current_spec() {
    let (requested, mounted) = (requested(), BTreeSet::new());
    let ready = |generation: i64, secret: &str| json!({"conditions": condition("Ready", "", ""), "observedGeneration": generation, "secret": secret});
    for (case, status, expected, says) in [
        ("not observed", Value::Null, "KafkaUserPending", "has not been reconciled yet"),
        ("ready", ready(2, "users-kafka-1"), "", ""),
        (
            "ready before a change",
            ready(1, "users-kafka-1"),
            "KafkaUserPending",
            "has not been reconciled yet",
        ),
        (
            "another Secret",
            ready(2, "prefix-users-kafka-1"),
            "KafkaUserSecret",
            "remove secretPrefix",
        ),
        (
            "refused",
            json!({"conditions": condition("NotReady", "ExecutionException", "no such cluster"), "observedGeneration": 2}),
            "ExecutionException",
            "KafkaUser users-kafka-1 is not ready: no such cluster",
        ),
        (
            "paused",
            json!({"conditions": condition("ReconciliationPaused", "", ""), "observedGeneration": 2}),
            "ReconciliationPaused",
            "remove its annotation",
        ),
    ] {
        let input = KafkaUserInput {
            live: Some(Ok(live(vec![user("users-kafka-1", &json!({}), &status)]))),
            ..input(Some(&requested), &mounted)
        };
        let decision = decide(&input);
        let (reason, message) = decision.problem().cloned().unwrap_or_default();
        assert_eq!(reason, expected, "{case}: {message}");
        assert!(message.contains(says), "{case}: {message}");
        assert!(decision.apply.is_some(), "{case}: it is applied where it differs");
        let is_failure = ["KafkaUserSecret", "ExecutionException"].contains(&expected);
        assert_eq!(decision.failure().is_some(), is_failure, "{case}");
    }
}

#[test]
fn what_is_unknown_or_not_allowed_is_reported_and_nothing_is_applied() {
    let (requested, mounted) = (requested(), BTreeSet::new());
    let kind = Kind::KafkaUser;
    let namespace = || "demo".to_owned();
    let elsewhere = UserCluster {
        user_namespace: "kafka".into(),
        has_acls: Some(true),
    };
    let unknown = UserCluster {
        user_namespace: "demo".into(),
        has_acls: None,
    };
    let not_listed = Unavailable::NotListed {
        cluster: "kafka/events".into(),
    };
    let known = input(None, &mounted);
    for (case, users, cluster, reason, fails) in [
        (
            "just started",
            Some(Err(Unavailable::NotYetKnown {
                kind,
                namespace: namespace(),
            })),
            known.cluster.clone(),
            "KafkaUserPending",
            false,
        ),
        (
            "no Strimzi",
            Some(Err(Unavailable::NotServed { kind })),
            known.cluster.clone(),
            "StrimziMissing",
            true,
        ),
        ("not listed", None, Err(not_listed), "NotAllowed", true),
        ("watched elsewhere", None, Ok(elsewhere), "UserNamespaceMismatch", true),
        (
            "Kafka is unknown",
            Some(Ok(live(Vec::new()))),
            Ok(unknown),
            "KafkaUserPending",
            false,
        ),
    ] {
        let input = KafkaUserInput {
            live: users,
            cluster,
            ..input(Some(&requested), &mounted)
        };
        let decision = decide(&input);
        assert_eq!(decision.problem().map(|(reason, _)| reason.as_str()), Some(reason), "{case}");
        assert_eq!((decision.failure().is_some(), decision.apply), (fails, None), "{case}");
    }
}

#[test]
fn acls_are_left_out_where_none_are_enforced_and_earlier_ones_stay_until_the_workers_have_changed() {
    let (requested, mounted) = (requested(), BTreeSet::new());
    let acl = |topic: &str| json!({"resource": {"type": "topic", "name": topic}, "operations": ["Read"]});
    let with_acls = json!({"authorization": {"type": "simple", "acls": [acl("old")]}});
    let without = json!({});
    for (case, spec, has_acls, is_rolled_out, expected) in [
        ("new", None, Some(true), true, Some(vec![acl("new")])),
        ("nothing is enforced", None, Some(false), true, None),
        (
            "during a rollout",
            Some(&with_acls),
            Some(true),
            false,
            Some(vec![acl("new"), acl("old")]),
        ),
        ("after it", Some(&with_acls), Some(true), true, Some(vec![acl("new")])),
        ("Kafka is unknown", Some(&with_acls), None, true, Some(vec![acl("new")])),
        ("Kafka is unknown, and it has none", Some(&without), None, true, None),
    ] {
        let input = KafkaUserInput {
            live: Some(Ok(live(
                spec.into_iter().map(|spec| user("users-kafka-1", spec, &Value::Null)).collect(),
            ))),
            cluster: Ok(UserCluster {
                user_namespace: "demo".into(),
                has_acls,
            }),
            is_rolled_out,
            ..input(Some(&requested), &mounted)
        };
        assert_eq!(decide(&input).apply.unwrap().acls, expected, "{case}");
    }
}

#[test]
fn an_earlier_user_is_deleted_once_no_pod_mounts_its_secret() {
    let requested = requested();
    let status = json!({"conditions": condition("Ready", "", ""), "observedGeneration": 2, "secret": "users-kafka-1"});
    let current = user("users-kafka-1", &json!({}), &status);
    let old = user("users-kafka-0", &json!({}), &Value::Null);
    let (free, used) = (BTreeSet::new(), BTreeSet::from(["users-kafka-0".to_owned()]));
    for (case, requested, is_ready, is_rolled_out, mounted, expected) in [
        ("replaced", Some(&requested), true, true, &free, vec!["users-kafka-0"]),
        ("a pod has it", Some(&requested), true, true, &used, vec![]),
        ("before the rollout", Some(&requested), true, false, &free, vec![]),
        ("the new one is not ready", Some(&requested), false, true, &free, vec![]),
        ("no user any more", None, true, true, &free, vec!["users-kafka-0", "users-kafka-1"]),
    ] {
        let unready = user("users-kafka-1", &json!({}), &Value::Null);
        let users = vec![old.clone(), if is_ready { current.clone() } else { unready }];
        let input = KafkaUserInput {
            live: Some(Ok(live(users))),
            is_rolled_out,
            ..input(requested, mounted)
        };
        let decision = decide(&input);
        let stale: Vec<String> = decision.stale.iter().map(|user| user.0.name_any()).collect();
        assert_eq!(stale, expected, "{case}");
    }
}

#[test]
fn a_plan_shows_which_user_is_created_and_which_earlier_one_is_deleted_or_what_keeps_it_from_that() {
    let (requested, mounted) = (requested(), BTreeSet::new());
    let old = || user("users-kafka-0", &json!({}), &Value::Null);
    let planned = |live: Option<Result<KafkaUsers, Unavailable>>, requested| {
        decide(&KafkaUserInput {
            live,
            assumes_ready: true,
            ..input(requested, &mounted)
        })
    };
    let new = planned(Some(Ok(live(vec![old()]))), Some(&requested));
    let stale: Vec<String> = new.stale.iter().map(|user| user.0.name_any()).collect();
    assert_eq!(
        (new.apply.is_some(), new.problem(), stale),
        (true, None, vec!["users-kafka-0".to_owned()])
    );
    assert_eq!(planned(Some(Ok(live(vec![old()]))), None).stale.len(), 1);

    let kind = Kind::KafkaUser;
    let missing = planned(Some(Err(Unavailable::NotServed { kind })), Some(&requested));
    assert_eq!(missing.problem().map(|(reason, _)| reason.as_str()), Some("StrimziMissing"));
}
