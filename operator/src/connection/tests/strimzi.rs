//! Connections to Kafka clusters that Strimzi runs.

use super::*;
use crate::connection::authorities::tests::authority;

const KAFKA: &str = "/apis/kafka.strimzi.io/v1/namespaces/kafka/kafkas/events";
const AUTHORITIES: &str = "/api/v1/namespaces/demo/configmaps/stores-kafka-ca";

fn kafka(certificate: &str) -> Value {
    let listeners = json!([{"name": "tls", "tls": true, "authentication": {"type": "scram-sha-512"}}, {"name": "plain"}]);
    let tls = json!({"name": "tls", "bootstrapServers": "b.kafka.svc:9093", "certificates": [certificate]});
    json!({
        "apiVersion": "kafka.strimzi.io/v1", "kind": "Kafka", "metadata": {"name": "events", "namespace": "kafka"},
        "spec": {"kafka": {"listeners": listeners}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "listeners": [tls, {"name": "plain", "bootstrapServers": "b.kafka.svc:9092"}]},
    })
}

/// A connection to this listener, with this authentication. The chart lists the cluster.
async fn start_with(listener: &str, auth: &Value) -> (Arc<Cluster>, kube::Client) {
    let strimzi = json!({"cluster": "events", "namespace": "kafka", "listener": listener});
    let (cluster, client) = start(&json!({"kafka": {"strimzi": strimzi, "auth": auth}})).await;
    cluster.list_strimzi("kafka/events");
    (cluster, client)
}

fn accepted(cluster: &Cluster) -> String {
    let conditions = cluster.get(STORES)["status"]["conditions"].clone();
    conditions.as_array().unwrap()[0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn given_a_listener_then_its_authorities_are_written_before_the_status_and_nothing_is_written_twice() {
    // Given a Kafka resource that is created after the connection
    let (cluster, client) = start_with("tls", &Value::Null).await;
    assert_eq!(writes(&cluster, &client).await, ["PATCH stores/status"]);
    assert_eq!(condition(&cluster, "Accepted"), ("False".into(), "KafkaMissing".into()));
    assert_eq!(condition(&cluster, "Checked"), ("Unknown".into(), "KafkaMissing".into()));

    // When it has the listener, Then the status has it too, and the check Job reads it
    let (old, new) = (authority("old", 2090), authority("new", 2095));
    cluster.put(KAFKA, kafka(&old));
    let first = writes(&cluster, &client).await;
    assert_eq!(first[0], "POST demo/configmaps", "{first:?}");
    assert_eq!(first[2..], ["POST demo/jobs", "PATCH stores/status"], "{first:?}");
    assert_eq!(condition(&cluster, "Accepted"), ("True".into(), "Accepted".into()));
    let found = cluster.get(STORES)["status"]["kafka"].clone();
    assert_eq!(
        (&found["bootstrapServers"], &found["tls"], &found["authentication"]),
        (&json!("b.kafka.svc:9093"), &json!(true), &json!("scram-sha-512"))
    );
    assert_eq!(cluster.get(AUTHORITIES)["data"]["ca.crt"].as_str().unwrap().trim(), old.trim());
    let document = cluster
        .paths(CONFIG_MAPS)
        .iter()
        .map(|path| cluster.get(path)["data"]["pipeline.yaml"].clone())
        .find(|text| !text.is_null())
        .unwrap();
    let document = document.as_str().unwrap();
    assert!(
        document.contains("bootstrapServers: b.kafka.svc:9093") && document.contains("name: stores-kafka-ca"),
        "{document}"
    );
    assert_eq!(writes(&cluster, &client).await, [""; 0]);

    // When the authority is replaced, Then both are trusted
    cluster.put(KAFKA, kafka(&new));
    assert_eq!(
        writes(&cluster, &client).await,
        ["PATCH configmaps/stores-kafka-ca", "PATCH stores/status"]
    );
    let bundle = cluster.get(AUTHORITIES)["data"]["ca.crt"].as_str().unwrap().to_owned();
    assert!(bundle.starts_with(new.trim()) && bundle.contains(old.trim()), "{bundle}");
    assert_eq!(writes(&cluster, &client).await, [""; 0]);

    // When the ConfigMap is changed or deleted, Then it is corrected
    cluster.change(AUTHORITIES, |config_map| config_map["data"] = json!({"ca.crt": "mine"}));
    assert_eq!(writes(&cluster, &client).await, ["PATCH configmaps/stores-kafka-ca"]);
    cluster.objects.lock().unwrap().remove(AUTHORITIES);
    assert_eq!(writes(&cluster, &client).await, ["POST demo/configmaps"]);
    assert_eq!(cluster.get(AUTHORITIES)["data"]["ca.crt"], json!(bundle));
}

#[tokio::test]
async fn given_a_restart_or_a_kafka_resource_that_is_deleted_then_what_was_found_last_stays() {
    let (cluster, client) = start_with("tls", &Value::Null).await;
    cluster.put(KAFKA, kafka(&authority("a", 2090)));
    writes(&cluster, &client).await;
    let found = cluster.get(STORES)["status"]["kafka"].clone();

    // An operator that has just started knows nothing of Strimzi yet
    *cluster.strimzi_is_known.lock().unwrap() = false;
    assert_eq!(writes(&cluster, &client).await, [""; 0]);
    *cluster.strimzi_is_known.lock().unwrap() = true;

    // A deleted Kafka resource is reported once
    cluster.objects.lock().unwrap().remove(KAFKA);
    assert_eq!(writes(&cluster, &client).await, ["PATCH stores/status"]);
    assert_eq!(condition(&cluster, "Accepted"), ("False".into(), "KafkaMissing".into()));
    assert!(accepted(&cluster).ends_with("Pipelines continue with the address and the authorities that were found last"));
    assert_eq!(cluster.get(STORES)["status"]["kafka"], found);
    assert_eq!(writes(&cluster, &client).await, [""; 0]);

    // And so is a cluster that the chart no longer lists
    cluster.strimzi.lock().unwrap().clear();
    assert_eq!(writes(&cluster, &client).await, ["PATCH stores/status"]);
    assert_eq!(condition(&cluster, "Accepted"), ("False".into(), "NotAllowed".into()));
    assert!(accepted(&cluster).contains("add it to the chart value strimzi.clusters"));
}

#[tokio::test]
async fn given_a_listener_without_tls_then_there_are_no_authorities() {
    let (cluster, client) = start_with("plain", &Value::Null).await;
    cluster.put(KAFKA, kafka(&authority("a", 2090)));
    writes(&cluster, &client).await;
    assert_eq!(condition(&cluster, "Accepted").0, "True");
    assert!(!cluster.objects.lock().unwrap().contains_key(AUTHORITIES));
    let found = cluster.get(STORES)["status"]["kafka"].clone();
    assert_eq!((&found["tls"], &found["certificates"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn given_a_config_map_of_another_owner_then_it_is_not_changed_and_the_connection_is_not_used() {
    let (cluster, client) = start_with("tls", &Value::Null).await;
    cluster.put(KAFKA, kafka(&authority("a", 2090)));
    let foreign = json!({"metadata": {"name": "stores-kafka-ca", "namespace": "demo", "uid": "foreign"}, "data": {"ca.crt": "theirs"}});
    cluster.put(AUTHORITIES, foreign);
    assert_eq!(
        writes(&cluster, &client).await,
        ["POST demo/configmaps", "PATCH stores/status"],
        "the create is refused"
    );
    assert_eq!(condition(&cluster, "Accepted"), ("False".into(), "NotOurs".into()));
    assert_eq!(cluster.get(AUTHORITIES)["data"]["ca.crt"], "theirs");
    assert_eq!(cluster.get(STORES)["status"]["kafka"], Value::Null);
}

#[tokio::test]
async fn given_users_that_the_operator_cannot_create_then_the_connection_says_what_to_do() {
    let (cluster, client) = start_with("tls", &json!({"strimziUser": {}})).await;
    cluster.put(KAFKA, kafka(&authority("a", 2090)));
    writes(&cluster, &client).await;
    assert_eq!(condition(&cluster, "Accepted"), ("False".into(), "UserNamespaceMismatch".into()));
    let says = "copy its Secret to demo, and name the copy in spec.kafka.auth.strimziUser.secretRef";
    assert!(accepted(&cluster).contains(says), "{}", accepted(&cluster));
}
