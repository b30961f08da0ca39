//! The user of a pipeline in Kafka, with exactly the rights that its programs need.

use userpipeline_api::{DeletionPolicy, ResolvedPipeline, TopicManagement};

use crate::{
    pipeline::model::{Acl, AclResource, RequestedUser},
    strimzi::ClusterId,
};

/// Runs publish, workers read, and the commands about dead letters read and write both topics. Schema Jobs compare the settings.
const USE: [&str; 4] = ["Describe", "DescribeConfigs", "Read", "Write"];
/// For a schema Job that creates and changes topics.
const MANAGE: [&str; 3] = ["Create", "Alter", "AlterConfigs"];

/// None where the connection has another authentication, or a Secret for all its pipelines.
pub(super) fn requested_user(resolved: &ResolvedPipeline, policy: DeletionPolicy) -> Option<RequestedUser> {
    let user = resolved.kafka_user.as_ref()?;
    let (kafka, deletes) = (&resolved.spec.kafka, policy == DeletionPolicy::Delete);
    let mut operations = USE.to_vec();
    if kafka.topic.management == TopicManagement::Direct {
        operations.extend(MANAGE);
        operations.extend(deletes.then_some("Delete"));
    }
    // A consumer reads its group's offsets and joins it; a drain Job describes it.
    let group = ["Describe", "Read"].into_iter().chain(deletes.then_some("Delete"));
    let topics = [&kafka.topic.name, &resolved.spec.dead_letter.topic];
    let topics = topics.into_iter().flatten().map(|name| Acl {
        resource: AclResource::Topic(name.clone()),
        operations: operations.clone(),
    });
    let others = [
        kafka.group_id.as_ref().map(|name| Acl {
            resource: AclResource::Group(name.clone()),
            operations: group.collect(),
        }),
        // Brokers before Kafka 2.8 require it of an idempotent producer.
        Some(Acl {
            resource: AclResource::Cluster,
            operations: vec!["IdempotentWrite"],
        }),
    ];
    Some(RequestedUser {
        cluster: ClusterId::of(resolved.strimzi.as_ref()?),
        name: user.name.clone(),
        authentication: user.authentication,
        acls: topics.chain(others.into_iter().flatten()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use userpipeline_api::{Connections, UserPipeline, resolve};

    use super::*;
    use crate::pipeline::example;

    fn requested(management: &str, policy: DeletionPolicy, auth: &serde_json::Value) -> Option<RequestedUser> {
        let (mut pipeline, mut connections): (UserPipeline, Connections) = example::with_connections();
        let kafka = json!({
            "strimzi": {"cluster": "events", "namespace": "kafka", "listener": "tls"}, "bootstrapServers": "b:9093", "auth": auth,
            "topic": {"management": management},
        });
        let stores = connections.get_mut("stores").unwrap().as_mut().unwrap();
        stores.kafka = Some(serde_json::from_value(kafka).unwrap());
        pipeline.spec.deletion_policy = policy;
        requested_user(&resolve(&pipeline, &connections).unwrap(), policy)
    }

    #[test]
    fn a_user_may_do_only_what_the_programs_of_its_pipeline_do() {
        let auth = json!({"strimziUser": {"authentication": "scram-sha-512"}});
        let (using, managing) = ("Describe DescribeConfigs Read Write", "Create Alter AlterConfigs");
        for (management, policy, topic, group) in [
            ("Strimzi", DeletionPolicy::Retain, using.to_owned(), "Describe Read"),
            ("Strimzi", DeletionPolicy::Delete, using.to_owned(), "Describe Read Delete"),
            ("None", DeletionPolicy::Retain, using.to_owned(), "Describe Read"),
            ("Direct", DeletionPolicy::Retain, format!("{using} {managing}"), "Describe Read"),
            (
                "Direct",
                DeletionPolicy::Delete,
                format!("{using} {managing} Delete"),
                "Describe Read Delete",
            ),
        ] {
            let user = requested(management, policy, &auth).unwrap();
            let acls: Vec<(AclResource, String)> = user.acls.into_iter().map(|acl| (acl.resource, acl.operations.join(" "))).collect();
            let expected = [
                (AclResource::Topic("demo.users".to_owned()), topic.clone()),
                (AclResource::Topic("demo.users.dlq".to_owned()), topic),
                (AclResource::Group("demo.users".to_owned()), group.to_owned()),
                (AclResource::Cluster, "IdempotentWrite".to_owned()),
            ];
            assert_eq!(acls, expected, "{management} {policy:?}");
            assert!(user.name.starts_with("users-kafka-"), "{}", user.name);
        }
        let copied = json!({"strimziUser": {"authentication": "tls", "secretRef": {"name": "shop"}}});
        assert_eq!(requested("None", DeletionPolicy::Retain, &copied), None);
    }
}
