//! What is seen of a pipeline: metrics, logs, traces; and what is not.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, cluster::OPERATOR_NAMESPACE, eventually, own_source::OwnSource, stores, world::SOON};

/// A text that no log and no status may have in it.
const SECRET: &str = "nobody's business";

/// The log of a pod, line by line as JSON.
async fn log(world: &World, pod: &Pod) -> Result<Vec<Value>> {
    let text = world.api::<Pod>().logs(&pod.name_any(), &LogParams::default()).await?;
    ensure!(!text.contains(SECRET), "{} tells the content of a record: {text}", pod.name_any());
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_seen_from_the_source_to_the_stores_and_its_content_is_not() -> Result<()> {
    const RECORDS: u32 = 50;
    // Given a pipeline whose items are nobody's business, some of which are no records
    let world = World::new("seen").await?;
    let source = OwnSource::start(&world.client).await?;
    let record = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "name", "type": "string", "from": "/name"},
        {"name": "born", "type": "date", "from": "/born", "optional": true},
        {"name": "level", "type": "int", "expr": "item.level + 1", "optional": true},
    ]});
    let mut pipeline = world.pipeline_of(&record, &source.url());
    pipeline["spec"]["source"]["maxRejectedRatio"] = json!(1);
    // What the next run asks from is in the items as well.
    pipeline["spec"]["source"]["http"]["query"] = json!([{"name": "since", "value": "{{cursor}}"}]);
    pipeline["spec"]["source"]["http"]["cursor"] = json!({"fromItems": "/name"});
    world.apply(&pipeline).await?;
    world.ready().await?;
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

    // When a run has been and everything is stored
    world.run("first").await?;
    world.drained(RECORDS.into()).await?;

    // Then the worker has measured each record on its way to each store
    let workers = world.pods("worker").await?;
    let worker = workers.first().context("a worker")?;
    for sink in ["postgres", "cassandra"] {
        let label = format!("sink=\"{sink}\"");
        for name in ["latency_seconds_count", "sink_records_total"] {
            let seen = world.metric(worker, name, &label).await?;
            ensure!((seen - f64::from(RECORDS)).abs() < 0.5, "{name} of {sink}: {seen}");
        }
    }

    // And the operator counts the rejects by what is wrong
    let operators: Api<Pod> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=userpipeline-operator");
    eventually("the rejects", SOON, async || {
        let mut seen = BTreeSet::new();
        for pod in operators.list(&selector).await? {
            let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{}:8080/proxy/metrics", pod.name_any());
            let text = world.client.request_text(http::Request::get(path).body(Vec::new())?).await?;
            let of_this = |line: &&str| line.contains("pipeline_rejected_items_total") && line.contains(&world.namespace);
            seen.extend(
                text.lines()
                    .filter(of_this)
                    .filter_map(|line| Some(line.split_once("field=")?.1.to_owned())),
            );
        }
        let wanted = [
            r#""born",class="ValueInvalid"} 2"#,
            r#""level",class="ExpressionFailed"} 1"#,
            r#""name",class="Missing"} 1"#,
        ];
        let wanted: BTreeSet<String> = wanted.map(str::to_owned).into();
        Ok(if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) })
    })
    .await?;

    // And the run's trace is in its log and on each message
    let runs = world.pods("ingest").await?;
    let told = log(&world, runs.first().context("a run's pod")?).await?;
    let trace = told
        .iter()
        .find_map(|line| line["span"]["trace_id"].as_str())
        .context("the run's trace")?;
    let name = world.id().to_string();
    assert!(told.iter().all(|line| line["span"]["pipeline"] == name.as_str()), "{told:?}");
    for message in stores::topic(&names::topic(&world.id())).await? {
        let header = message.headers.get("traceparent").context("traceparent")?;
        assert_eq!(header.split('-').nth(1), Some(trace), "{header}");
    }

    // And neither log nor status tells what is in the records
    let told = log(&world, worker).await?;
    assert!(told.iter().all(|line| line["span"]["pipeline"] == name.as_str()), "{told:?}");
    let status = serde_json::to_string(&world.get().await?.status)?;
    assert!(!status.contains(SECRET), "{status}");
    world.leave().await
}
