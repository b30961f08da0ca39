//! Topics that Strimzi manages, in a fake apiserver without Strimzi's operators: the tests act in their place.

mod crashes;

use serde_json::{Value, json};

use super::{cluster::*, connections::*};
use crate::pipeline::model::{FINALIZER, labels};

const TOPIC: &str = "/apis/kafka.strimzi.io/v1/namespaces/kafka/kafkatopics/demo.users";
const DEAD_LETTERS: &str = "/apis/kafka.strimzi.io/v1/namespaces/kafka/kafkatopics/demo.users.dlq";
const SCHEMA: &str = r#"{"reason":"Applied","message":"","topicReady":true,"partitions":3,"schemaId":7,"kafkaCluster":"k"}"#;

/// A pipeline whose connection is one of Strimzi, which the operator has listed.
fn with_strimzi(cluster: &Cluster, change: impl FnOnce(&mut Value)) {
    let mut connections = use_connections(cluster);
    let stores = connections.get_mut("stores").unwrap().as_mut().unwrap();
    let mut spec = serde_json::to_value(&*stores).unwrap();
    let listener = json!({"cluster": "events", "namespace": "kafka", "listener": "plain"});
    spec["kafka"]["strimzi"] = listener.clone();
    *stores = serde_json::from_value(spec).unwrap();
    put_connections(cluster, &connections);
    cluster.change(STORES, |connection| {
        connection["status"] =
            json!({"kafka": {"strimzi": listener, "bootstrapServers": "events-kafka-bootstrap.kafka:9092", "tls": false}});
    });
    cluster.change(PIPELINE, change);
    cluster.list_strimzi("kafka/events");
}

fn job(cluster: &Cluster, component: &str) -> Option<String> {
    let prefix = format!("{JOBS}users-{component}-");
    cluster.paths(&prefix).pop()
}

fn finish_inspection(cluster: &Cluster, existing: &Value) {
    let path = job(cluster, "inspection").expect("an inspection Job");
    let report = json!({"reason": "Inspected", "message": "", "kafkaCluster": "k", "existing": existing});
    cluster.finish_job_with(&path, "users", "inspection", &report.to_string());
}

/// The Topic Operator creates the topic of each KafkaTopic, with this id.
fn reconcile_topics(cluster: &Cluster, id: &str) {
    for path in cluster.paths(KAFKA_TOPICS) {
        cluster.change(&path, |topic| {
            topic["status"] = json!({
                "observedGeneration": topic["metadata"]["generation"], "topicName": topic["spec"]["topicName"], "topicId": id,
                "conditions": [{"type": "Ready", "status": "True"}],
            });
        });
    }
}

/// Reconciles until nothing is written; the Topic Operator and the Jobs do their part after each.
async fn settle(cluster: &Cluster, client: &kube::Client, existing: &Value, id: &str) {
    for _ in 0..20 {
        let reconciled = cluster.reconcile(client).await;
        if reconciled.is_ok() && short(cluster.writes()).is_empty() {
            return;
        }
        reconcile_topics(cluster, id);
        finish_jobs(cluster, existing);
        if !cluster.paths(DEPLOYMENT).is_empty() {
            cluster.roll_out();
        }
    }
    panic!("the operator keeps writing: {:#}", cluster.get(PIPELINE)["status"]);
}

fn finish_jobs(cluster: &Cluster, existing: &Value) {
    if job(cluster, "inspection").is_some() {
        finish_inspection(cluster, existing);
    }
    for (component, report) in [("schema", SCHEMA), ("deletion", r#"{"reason":"Deleted","message":""}"#)] {
        if let Some(path) = job(cluster, component) {
            cluster.finish_job_with(&path, "users", component, report);
        }
    }
}

fn worker_config(cluster: &Cluster) -> String {
    let name = cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"].clone();
    let path = format!("{CONFIG_MAPS}{}", name.as_str().unwrap());
    cluster.get(&path)["data"]["pipeline.yaml"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn given_a_new_pipeline_then_topics_are_inspected_then_created_and_the_schema_follows_when_they_are_ready() {
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |_| {});

    // The inspection goes first
    cluster.reconcile(&client).await.unwrap();
    assert!(job(&cluster, "inspection").is_some() && job(&cluster, "schema").is_none());
    assert!(cluster.paths(KAFKA_TOPICS).is_empty());
    assert_eq!(cluster.condition("TopicReady"), ("False".into(), "Inspecting".into()));
    assert_eq!(cluster.condition("SchemaReady"), ("False".into(), "WaitingForTopics".into()));

    // Its result is recorded before the KafkaTopics are created
    finish_inspection(&cluster, &json!([]));
    cluster.reconcile(&client).await.unwrap();
    assert!(cluster.paths(KAFKA_TOPICS).is_empty());
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.paths(KAFKA_TOPICS), [TOPIC, DEAD_LETTERS]);
    let topic = cluster.get(TOPIC);
    assert_eq!(topic["metadata"].get("ownerReferences"), None);
    assert_eq!(topic["metadata"]["labels"][labels::STRIMZI_CLUSTER], "events");
    assert_eq!(topic["apiVersion"], "kafka.strimzi.io/v1");
    assert_eq!(cluster.condition("TopicReady"), ("False".into(), "WaitingForTopicOperator".into()));
    assert!(job(&cluster, "schema").is_none());

    // Strimzi's refusal is passed on
    cluster.change(TOPIC, |topic| {
        topic["status"] = json!({"observedGeneration": topic["metadata"]["generation"], "conditions":
            [{"type": "Ready", "status": "False", "reason": "KafkaError", "message": "replication factor 3 is larger than 1"}]});
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("TopicReady"), ("False".into(), "KafkaError".into()));
    let writes = cluster.writes();
    assert!(writes.iter().any(|write| write.contains("/events")), "{writes:?}");

    // When they are ready, the id is recorded, and schema and workers follow with it
    reconcile_topics(&cluster, "a-b");
    settle(&cluster, &client, &json!([]), "a-b").await;
    assert_eq!(cluster.condition("Ready"), ("True".into(), "Ready".into()));
    assert_eq!(cluster.get(PIPELINE)["status"]["topics"]["resources"][0]["id"], "a-b");
    assert!(worker_config(&cluster).contains("id: a-b"), "{}", worker_config(&cluster));
    assert!(cluster.paths(JOBS).is_empty(), "{:?}", cluster.paths(JOBS));
}

#[tokio::test]
async fn given_an_operator_that_has_not_listed_kafka_topics_yet_then_a_ready_pipeline_is_not_touched() {
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |_| {});
    settle(&cluster, &client, &json!([]), "a-b").await;
    *cluster.strimzi_is_known.lock().unwrap() = false;
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
    assert_eq!(cluster.condition("TopicReady").0, "True");
}

#[tokio::test]
async fn given_an_operator_that_restarts_before_it_creates_the_schema_job_then_the_config_of_the_job_stays() {
    // Given the operator has created the ConfigMap of the schema Job, and then ends
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |_| {});
    for _ in 0..12 {
        if job(&cluster, "schema").is_some() {
            break;
        }
        finish_jobs(&cluster, &json!([]));
        let _ = cluster.reconcile(&client).await;
        reconcile_topics(&cluster, "a-b");
    }
    let path = job(&cluster, "schema").expect("a schema Job");
    cluster.objects.lock().unwrap().remove(&path);
    let configs = || cluster.paths(&format!("{CONFIG_MAPS}users-schema-"));
    let before = configs();
    assert_eq!(before.len(), 1, "{before:?}");

    // When its successor has not listed KafkaTopics yet, Then the ConfigMap stays until it has
    *cluster.strimzi_is_known.lock().unwrap() = false;
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(configs(), before);
    *cluster.strimzi_is_known.lock().unwrap() = true;
    settle(&cluster, &client, &json!([]), "a-b").await;
    assert_eq!(cluster.condition("Ready").0, "True", "{:#}", cluster.get(PIPELINE)["status"]);
    assert_eq!(configs(), [""; 0]);
}

#[tokio::test]
async fn given_an_existing_topic_then_it_is_refused_unless_it_is_adopted_with_its_settings() {
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |_| {});
    let existing = json!([{"name": "demo.users", "id": "a", "partitions": 4, "replicas": 1, "config": {"segment.ms": "5"}}]);
    cluster.reconcile(&client).await.unwrap();
    finish_inspection(&cluster, &existing);
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("TopicReady"), ("False".into(), "TopicNotCreated".into()));
    assert!(cluster.paths(KAFKA_TOPICS).is_empty());

    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["kafka"]["topic"]["adopt"] = json!(true);
        pipeline["metadata"]["generation"] = json!(9);
    });
    settle(&cluster, &client, &existing, "a").await;
    assert_eq!(cluster.condition("Ready").0, "True", "{:#}", cluster.get(PIPELINE)["status"]);
    let spec = cluster.get(TOPIC)["spec"].clone();
    assert_eq!((&spec["partitions"], &spec["config"]["segment.ms"]), (&json!(4), &json!("5")));
}

#[tokio::test]
async fn given_a_changed_kafka_topic_then_its_spec_is_corrected_and_what_others_add_stays() {
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |_| {});
    settle(&cluster, &client, &json!([]), "a-b").await;
    cluster.change(TOPIC, |topic| topic["spec"]["config"]["segment.ms"] = json!("5"));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.writes(), [""; 0]);
    cluster.change(TOPIC, |topic| topic["spec"]["config"]["max.message.bytes"] = json!("5"));
    cluster.reconcile(&client).await.unwrap();
    assert!(short(cluster.writes()).contains(&"PATCH kafkatopics/demo.users".to_owned()));
    assert_eq!(cluster.get(TOPIC)["spec"]["config"]["max.message.bytes"], "1179648");
}

#[tokio::test]
async fn given_a_foreign_kafka_topic_then_it_is_never_patched() {
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |_| {});
    let labels = json!({labels::STRIMZI_CLUSTER: "events"});
    let foreign =
        json!({"metadata": {"name": "demo.users", "namespace": "kafka", "uid": "foreign", "labels": labels}, "spec": {"partitions": 1}});
    cluster.put(TOPIC, foreign);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("TopicReady"), ("False".into(), "NotOurs".into()));
    assert!(short(cluster.writes()).iter().all(|write| !write.contains("kafkatopics")));
    assert!(cluster.paths(JOBS).is_empty());
}

#[tokio::test]
async fn given_a_topic_that_was_created_again_then_the_pipeline_is_not_ready_until_it_is_accepted() {
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |_| {});
    settle(&cluster, &client, &json!([]), "first").await;
    reconcile_topics(&cluster, "second");
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("TopicReady"), ("False".into(), "TopicReplaced".into()));
    assert_eq!(cluster.condition("Ready"), ("False".into(), "TopicReplaced".into()));
    assert!(worker_config(&cluster).contains("id: first"), "the workers wait for the old one");
    let event = "POST /apis/events.k8s.io/v1/namespaces/demo/events";
    assert!(cluster.writes().iter().any(|write| write == event));

    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["annotations"] = json!({"userpipeline.dev/accept-topic": "second"});
    });
    settle(&cluster, &client, &json!([]), "second").await;
    assert_eq!(cluster.condition("Ready").0, "True");
    assert!(worker_config(&cluster).contains("id: second"));
}

#[tokio::test]
async fn given_data_to_delete_then_the_kafka_topics_that_the_pipeline_created_go_last_and_are_awaited() {
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |pipeline| {
        pipeline["spec"]["deletionPolicy"] = json!("Delete");
        pipeline["spec"]["kafka"]["topic"]["adopt"] = json!(true);
    });
    // Given the dead-letter topic existed before
    let existing = json!([{"name": "demo.users.dlq", "id": "a", "partitions": 1, "replicas": 1, "messageLimit": 2_000_000}]);
    settle(&cluster, &client, &existing, "a-b").await;
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([FINALIZER]));

    // When the pipeline is deleted, then the KafkaTopics stay until a Job has deleted everything else
    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
    });
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();
    let path = job(&cluster, "deletion").expect("a deletion Job");
    assert_eq!(cluster.paths(KAFKA_TOPICS), [TOPIC, DEAD_LETTERS]);
    cluster.finish_job_with(&path, "users", "deletion", r#"{"reason":"Deleted","message":""}"#);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.paths(KAFKA_TOPICS), [TOPIC, DEAD_LETTERS], "recorded first");

    // Then the created one is deleted, and the pipeline waits for Strimzi's finalizer
    let held = cluster.get(TOPIC);
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.paths(KAFKA_TOPICS), [DEAD_LETTERS]);
    cluster.put(TOPIC, held);
    cluster.change(TOPIC, |topic| {
        topic["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(cluster.condition("Ready"), ("False".into(), "Deleting".into()));

    // After five minutes it says what does not respond
    cluster.change(TOPIC, |topic| {
        topic["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.condition("Ready"), ("False".into(), "EntityOperatorUnresponsive".into()));
    let message = cluster.get(PIPELINE)["status"]["conditions"][0]["message"].clone();
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("Deployment events-entity-operator in namespace kafka"),
        "{message}"
    );

    // And when it is gone, that is recorded and published before the pipeline is released
    cluster.objects.lock().unwrap().remove(TOPIC);
    cluster.writes();
    cluster.reconcile(&client).await.unwrap();
    let deletion = cluster.get(PIPELINE)["status"]["deletion"].clone();
    assert_eq!(deletion["kafkaTopics"], json!(["demo.users"]));
    assert!(deletion["topicsDeletedAt"].is_string(), "{deletion}");
    assert!(cluster.writes().iter().any(|write| write.contains("/events")));
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([FINALIZER]));
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([]));
    assert_eq!(cluster.paths(KAFKA_TOPICS), [DEAD_LETTERS], "an adopted topic stays");
}

#[tokio::test]
async fn given_a_deleted_namespace_and_kafka_topics_that_cannot_be_deleted_then_the_pipeline_is_released() {
    for (reason, is_allowed) in [("NotAllowed", false), ("EntityOperatorUnresponsive", true)] {
        let (cluster, client) = Cluster::start().await;
        with_strimzi(&cluster, |pipeline| pipeline["spec"]["deletionPolicy"] = json!("Delete"));
        settle(&cluster, &client, &json!([]), "a-b").await;

        // Given the operator has lost the right, or the Topic Operator does not run, and the other data is deleted
        if !is_allowed {
            cluster.strimzi.lock().unwrap().clear();
        }
        cluster.change(PIPELINE, |pipeline| {
            pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
        });
        let held = cluster.get(TOPIC);
        settle(&cluster, &client, &json!([]), "a-b").await;
        if is_allowed {
            cluster.change(PIPELINE, |pipeline| pipeline["metadata"]["finalizers"] = json!([FINALIZER]));
            cluster.put(TOPIC, held);
            cluster.change(TOPIC, |topic| {
                topic["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
            });
            cluster.reconcile(&client).await.unwrap();
        }
        assert_eq!(
            cluster.get(PIPELINE)["metadata"]["finalizers"],
            json!([FINALIZER]),
            "{reason}: it may end"
        );
        assert_eq!(cluster.condition("Ready"), ("False".into(), reason.into()));
        let topics = cluster.paths(KAFKA_TOPICS);

        // When the namespace is deleted, then it need not wait
        *cluster.terminating.lock().unwrap() = true;
        for path in cluster.paths("/api/v1/namespaces/demo/serviceaccounts/") {
            remove(&cluster, &path);
        }
        cluster.reconcile(&client).await.unwrap();
        assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([]), "{reason}");
        assert_eq!(cluster.paths(KAFKA_TOPICS), topics, "{reason}");
    }
}

#[tokio::test]
async fn given_the_policy_retain_or_another_management_then_the_kafka_topics_stay() {
    let (cluster, client) = Cluster::start().await;
    with_strimzi(&cluster, |pipeline| pipeline["spec"]["deletionPolicy"] = json!("Delete"));
    settle(&cluster, &client, &json!([]), "a-b").await;

    // Given the topics are managed externally from now on
    cluster.change(PIPELINE, |pipeline| {
        pipeline["spec"]["kafka"]["topic"]["management"] = json!("None");
        pipeline["metadata"]["generation"] = json!(9);
    });
    settle(&cluster, &client, &json!([]), "a-b").await;
    let status = cluster.get(PIPELINE)["status"].clone();
    assert_eq!(status["topics"]["retained"], true);
    let mut conditions = status["conditions"].as_array().unwrap().iter();
    let topic = conditions.find(|c| c["type"] == "TopicReady").unwrap();
    assert!(
        topic["message"]
            .as_str()
            .unwrap()
            .contains("KafkaTopics demo.users and demo.users.dlq"),
        "{topic}"
    );

    // When the pipeline is deleted, then they stay
    cluster.change(PIPELINE, |pipeline| {
        pipeline["metadata"]["deletionTimestamp"] = json!("2025-01-02T00:00:00Z");
        pipeline["spec"]["deletionPolicy"] = json!("Retain");
    });
    cluster.reconcile(&client).await.unwrap();
    assert_eq!(cluster.get(PIPELINE)["metadata"]["finalizers"], json!([]));
    assert_eq!(cluster.paths(KAFKA_TOPICS), [TOPIC, DEAD_LETTERS]);
}
