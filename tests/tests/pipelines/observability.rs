//! Metrics, logs and traces, and the record content that none of them may contain.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, cluster::OPERATOR_NAMESPACE, eventually, stores, test_source::TestSource, world::SOON};

const RECORDS: u32 = 50;
/// No log and no status may contain it.
const SECRET: &str = "a secret value";

/// The lines of a log as JSON.
async fn log(world: &World, pod: &Pod) -> Result<Vec<Value>> {
    let text = world.api::<Pod>().logs(&pod.name_any(), &LogParams::default()).await?;
    ensure!(!text.contains(SECRET), "{} logs the content of a record: {text}", pod.name_any());
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_traced_from_the_source_to_the_stores_and_record_content_is_never_published() -> Result<()> {
    // Given a pipeline whose items are secret, and some of them invalid
    let world = World::new("observed").await?;
    let source = TestSource::start(&world.client).await?;
    world.apply(&secret_pipeline(&world, &source)).await?;
    world.ready().await?;
    serve_secret_items(&source);

    // When a run has ended and everything is stored
    world.run("first").await?;
    world.drained(RECORDS.into()).await?;

    // Then the worker has measured each record on its way to each store
    let workers = world.pods("worker").await?;
    let worker = workers.first().context("a worker")?;
    for sink in ["postgres", "cassandra"] {
        let label = format!("sink=\"{sink}\"");
        for name in ["latency_seconds_count", "sink_records_total"] {
            let measured = world.metric(worker, name, &label).await?;
            ensure!((measured - f64::from(RECORDS)).abs() < 0.5, "{name} of {sink}: {measured}");
        }
    }

    // And the operator counts the rejects by field and class
    rejects_are_counted(&world).await?;

    // And the trace of the run is in its log and on each message
    let runs = world.pods("ingest").await?;
    let lines = log(&world, runs.first().context("a run's pod")?).await?;
    let trace = lines
        .iter()
        .find_map(|line| line["span"]["trace_id"].as_str())
        .context("the run's trace")?;
    let name = world.id().to_string();
    assert!(lines.iter().all(|line| line["span"]["pipeline"] == name.as_str()), "{lines:?}");
    for message in stores::messages(&names::topic(&world.id())).await? {
        let header = message.headers.get("traceparent").context("traceparent")?;
        assert_eq!(header.split('-').nth(1), Some(trace), "{header}");
    }

    // And neither log nor status contains the content of records
    let lines = log(&world, worker).await?;
    assert!(lines.iter().all(|line| line["span"]["pipeline"] == name.as_str()), "{lines:?}");
    let status = serde_json::to_string(&world.get().await?.status)?;
    assert!(!status.contains(SECRET), "{status}");
    world.clean_up().await
}

fn secret_pipeline(world: &World, source: &TestSource) -> Value {
    let record = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "name", "type": "string", "from": "/name"},
        {"name": "born", "type": "date", "from": "/born", "optional": true},
        {"name": "level", "type": "int", "expr": "item.level + 1", "optional": true},
    ]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"]["maxRejectedRatio"] = json!(1);
    // The cursor holds record content too.
    pipeline["spec"]["source"]["http"]["query"] = json!([{"name": "since", "value": "{{cursor}}"}]);
    pipeline["spec"]["source"]["http"]["cursor"] = json!({"fromItems": "/name"});
    pipeline
}

fn serve_secret_items(source: &TestSource) {
    let records: Vec<Value> = (0..RECORDS)
        .map(|n| json!({"id": n.to_string(), "name": SECRET, "level": n}))
        .collect();
    source.serve(&records);
    source.serve(&[
        json!({"id": "a"}),
        json!({"id": "b", "name": SECRET, "level": SECRET}),
        json!({"id": "c", "name": SECRET, "level": 1, "born": format!("1990-05-01, {SECRET}")}),
        json!({"id": "d", "name": SECRET, "level": 1, "born": SECRET}),
    ]);
}

async fn rejects_are_counted(world: &World) -> Result<()> {
    let operators: Api<Pod> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=userpipeline-operator");
    eventually("the rejects", SOON, async || {
        let mut counted = BTreeSet::new();
        for pod in operators.list(&selector).await? {
            let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{}:8080/proxy/metrics", pod.name_any());
            let text = world.client.request_text(http::Request::get(path).body(Vec::new())?).await?;
            let of_this = |line: &&str| line.contains("pipeline_rejected_items_total") && line.contains(&world.namespace);
            counted.extend(
                text.lines()
                    .filter(of_this)
                    .filter_map(|line| Some(line.split_once("field=")?.1.to_owned())),
            );
        }
        let expected = [
            r#""born",class="ValueInvalid"} 2"#,
            r#""level",class="ExpressionFailed"} 1"#,
            r#""name",class="Missing"} 1"#,
        ];
        let expected: BTreeSet<String> = expected.map(str::to_owned).into();
        Ok(if counted == expected { Ok(()) } else { Err(format!("{counted:?}")) })
    })
    .await
}
