use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, body::Body, extract::Request, http::StatusCode, response::IntoResponse};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;

/// What the API server serves.
const NOTHING: u8 = 0;
const V1BETA2: u8 = 1;
const BOTH_BUT_NO_RIGHT: u8 = 2;
const BOTH: u8 = 3;
const BROKEN: u8 = 4;

fn topic(name: &str, topic_name: &str) -> Value {
    json!({"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaTopic",
        "metadata": {"name": name, "namespace": "kafka", "resourceVersion": "1", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}},
        "spec": {"topicName": topic_name, "partitions": 3, "config": {"retention.ms": 1000, "unclean.leader.election.enable": false}, "unknown": {"a": 1}},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00.000000000Z"}], "topicId": "id"}})
}

fn refusal(code: u16) -> axum::response::Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "", "message": "no", "code": code});
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}

fn answer(request: &Request, serves: u8) -> axum::response::Response {
    let (path, query) = (
        request.uri().path().to_owned(),
        request.uri().query().unwrap_or_default().to_owned(),
    );
    let discovered = |version: &str| {
        let resource = json!({"name": "kafkatopics", "singularName": "", "namespaced": true, "kind": "KafkaTopic", "verbs": []});
        Json(json!({"groupVersion": format!("{}/{version}", served::GROUP), "resources": [resource]})).into_response()
    };
    match (path.as_str(), serves) {
        (_, BROKEN) => refusal(500),
        ("/apis/kafka.strimzi.io/v1", BOTH | BOTH_BUT_NO_RIGHT) => discovered("v1"),
        ("/apis/kafka.strimzi.io/v1beta2", V1BETA2 | BOTH) => discovered("v1beta2"),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", _) => {
            Json(json!({"spec": {}, "status": {"allowed": serves != BOTH_BUT_NO_RIGHT}})).into_response()
        }
        ("/apis/kafka.strimzi.io/v1/namespaces/kafka/kafkatopics", BOTH)
        | ("/apis/kafka.strimzi.io/v1beta2/namespaces/kafka/kafkatopics", V1BETA2) => {
            if query.contains("watch=") {
                // The watch ends at once, and the next one may find another API.
                let gone =
                    json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "reason": "", "message": "no", "code": 404}});
                return Body::from(format!("{gone}\n")).into_response();
            }
            let list = json!({"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaTopicList", "metadata": {"resourceVersion": "1"}, "items": [topic("a", "Orders"), topic("b", "b")]});
            Json(list).into_response()
        }
        _ => refusal(404),
    }
}

async fn client(serves: Arc<AtomicU8>) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let app = Router::new().fallback(move |request: Request| std::future::ready(answer(&request, serves.load(Ordering::SeqCst))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Client::try_from(kube::Config::new(uri)).unwrap()
}

async fn until(view: &View<KafkaTopic>, is_met: impl Fn(&Result<Objects<KafkaTopic>, Unavailable>) -> bool) {
    let met = async {
        while !is_met(&view.select(|_, _| true)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), met).await;
    assert!(waited.is_ok(), "{:?}", view.select(|_, _| true));
}

#[tokio::test]
async fn crds_that_come_later_and_another_served_version_are_noticed_and_a_failing_server_changes_nothing() {
    // Given an API server without Strimzi
    let serves = Arc::new(AtomicU8::new(NOTHING));
    let writer = ViewWriter::new(Kind::KafkaTopic, "kafka");
    let topics = writer.view();
    let client = client(serves.clone()).await;
    let soon = Duration::from_millis(50);
    let retry = Retry {
        unavailable: soon,
        failed: soon,
    };
    let task = tokio::spawn(watch(client, Kind::KafkaTopic, "kafka".to_owned(), writer, retry, |_| {}));
    let kind = Kind::KafkaTopic;
    until(&topics, |found| found.as_ref().err() == Some(&Unavailable::NotServed { kind })).await;

    // When an old Strimzi is installed, Then its topics are found, without what is never read
    serves.store(V1BETA2, Ordering::SeqCst);
    let version = |wanted: &'static str| {
        move |found: &Result<Objects<KafkaTopic>, Unavailable>| found.as_ref().is_ok_and(|found| found.resource.version == wanted)
    };
    until(&topics, version("v1beta2")).await;
    let orders = topics.get("a").unwrap().unwrap();
    assert_eq!((orders.spec.topic("a"), orders.spec.partitions), ("Orders", Some(3)));
    assert_eq!(orders.spec.config["retention.ms"], json!(1000));
    assert_eq!(orders.annotations().keys().collect::<Vec<_>>(), ["a"]);

    // When the API server fails, Then what is known stays
    serves.store(BROKEN, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(topics.get("a").unwrap().is_some());

    // When it serves the new version, but the operator has no right to it, Then that is said until it is granted
    serves.store(BOTH_BUT_NO_RIGHT, Ordering::SeqCst);
    until(&topics, |found| matches!(found, Err(Unavailable::NotAllowed { verb: "list", .. }))).await;
    serves.store(BOTH, Ordering::SeqCst);
    until(&topics, version("v1")).await;
    task.abort();
}

#[test]
fn a_cluster_that_the_chart_does_not_list_is_not_available() {
    let listed = ["kafka/events", "kafka/audit:apps"].map(|text| text.parse().unwrap());
    let (strimzi, writers) = Strimzi::new(&listed);
    let id = |name: &str| ClusterId {
        namespace: "kafka".to_owned(),
        name: name.to_owned(),
    };
    assert_eq!(strimzi.cluster(&id("audit")).unwrap().user_namespace, "apps");
    let why = strimzi.cluster(&id("other")).err().unwrap();
    assert_eq!(
        (why.reason(), why.to_string().as_str()),
        (
            "NotAllowed",
            "the operator has no right to use Kafka cluster kafka/other: add it to the chart value strimzi.clusters"
        )
    );
    assert_eq!((writers.topics.len(), writers.users.len()), (1, 2), "one watch for each namespace");
}
