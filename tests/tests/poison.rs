//! Invalid specs of every kind that the API server accepts. They leave nothing behind.

use std::{cell::RefCell, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use userpipeline_api::UserPipeline;
use userpipeline_tests::{
    cluster,
    crash::{Lease, Sandbox, Setup, trial},
};

/// How long the idle operator is observed.
const WATCHED: Duration = Duration::from_secs(4);
/// Writes of that time: a measurement of the workers, and one retry of a refused child.
const WRITES: usize = 4;
/// Concurrent trials.
const AT_ONCE: usize = 8;

/// Invalid changes of a pipeline.
fn poison() -> Vec<Value> {
    let long = "a".repeat(249);
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "Gt", "values": ["not a number"]}]}]}}});
    vec![
        json!({"schedule": {"cron": "61 * * * *"}}),
        json!({"schedule": {"cron": "0 0 31 2 *"}}),
        json!({"schedule": {"timeZone": "Mars/Olympus"}}),
        json!({"schedule": {"startAt": "9999-12-31T23:59:59Z"}}),
        json!({"schedule": {"activeDeadlineSeconds": i64::MAX}}),
        json!({"source": {"http": {"url": "http://{{interval.start}}/"}}}),
        json!({"source": {"http": {"maxBodySize": "8 apples"}}}),
        json!({"source": {"http": {"url": "http://source.example/{{arguments.missing}}"}}}),
        json!({"kafka": {"bootstrapServers": long}}),
        json!({"postgres": {"database": "日本語\u{202e}"}}),
        json!({"description": "日本語 🦀 \u{202e}"}),
        json!({"owner": "not a label!"}),
        json!({"workers": {"batch": {"maxRecords": i32::MAX}}}),
        json!({"pods": {"workers": {"affinity": affinity}}}),
        json!({"pods": {"workers": {"labels": {"app.kubernetes.io/instance": "other"}}}}),
        json!({"pods": {"workers": {"labels": {"team": "no label's value"}}}}),
        json!({"pods": {"workers": {"priorityClassName": "no-such-class"}}}),
        json!({"pods": {"workers": {"resources": {"requests": {"memory": "1e400"}}}}}),
        json!({"pods": {"workers": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}}}),
        json!({"pods": {"ingest": {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Never"}]}}}),
        json!({"image": {"registry": "evil.example"}}),
        json!({"runNow": {"nonce": "x", "arguments": {"unknown": "1"}}}),
    ]
}

/// The patch that reverts a change.
fn undone(change: &Value, original: &Value) -> Value {
    match change {
        Value::Object(map) if original.is_object() => map
            .iter()
            .map(|(key, change)| (key.clone(), undone(change, &original[key])))
            .collect(),
        _ => original.clone(),
    }
}

/// Applies an invalid change to a ready pipeline and reverts it. Returns what was reported.
async fn poisoned(change: Value) -> Result<String> {
    let report = RefCell::new(String::new());
    let scenario = async |sandbox: &Sandbox| {
        // Given a ready pipeline
        let original = Sandbox::pipeline();
        sandbox.ready(&original).await?;
        let before = sandbox.children().await?;

        // When an invalid change is applied
        if let Err(refused) = sandbox.edit(json!({"spec": change})).await {
            *report.borrow_mut() = format!("refused: {}", refused.to_string().chars().take(160).collect::<String>());
            return Ok(());
        }
        // Then the operator reports it and is idle
        let word = sandbox.observed().await?;
        sandbox.quiet("the operator to rest", async || Ok(Ok(()))).await?;
        let writes = sandbox.writes_within(WATCHED).await;
        ensure!(writes <= WRITES, "{writes} writes in {WATCHED:?}");
        *report.borrow_mut() = format!("{word}, {writes} writes");

        // When it is reverted, Then everything is as before
        sandbox.edit(json!({"spec": undone(&change, &original["spec"])})).await?;
        sandbox.settled("Ready").await?;
        let after = sandbox.children().await?;
        ensure!(after == before, "it leaves {after:#}\ninstead of {before:#}");
        Ok(())
    };
    trial(Setup::Plain, scenario, None).await?;
    Ok(report.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_spec_is_reported_costs_nothing_and_leaves_nothing_behind() -> Result<()> {
    let _lease = Lease::take(cluster::connect().await?).await?;
    let trials = stream::iter(poison()).map(|change| async move {
        let about = change.to_string();
        let played = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(poisoned(change))
        });
        let report = played.await.map_err(Into::into).flatten();
        report.map(|report| format!("{about}: {report}")).with_context(|| about)
    });
    for report in trials.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        println!("{}", report?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_pipeline_equals_one_created_with_the_same_spec() -> Result<()> {
    let _lease = Lease::take(cluster::connect().await?).await?;
    for change in [
        json!({"schedule": {"cron": "@daily"}, "owner": "data"}),
        json!({"workers": {"replicas": 3}, "kafka": {"topic": {"partitions": 12}}}),
        json!({"pods": {"workers": {"labels": {"team": "data"}}, "ingest": {"priorityClassName": "system-node-critical"}}}),
        json!({"source": {"http": {"query": [{"name": "a", "value": "b"}]}}, "schedule": {"concurrencyPolicy": "Allow"}}),
    ] {
        let ends = RefCell::new(Vec::new());
        for edited in [true, false] {
            let scenario = async |sandbox: &Sandbox| {
                if edited {
                    sandbox.ready(&Sandbox::pipeline()).await?;
                    sandbox.edit(json!({"spec": change})).await?;
                } else {
                    let mut pipeline = Sandbox::pipeline();
                    merge(&mut pipeline["spec"], &change);
                    sandbox.apply::<UserPipeline>(&pipeline).await?;
                }
                sandbox.settled("Ready").await?;
                let children = sandbox.children().await?;
                ends.borrow_mut().push(children);
                Ok(())
            };
            trial(Setup::Plain, scenario, None).await.with_context(|| change.to_string())?;
        }
        let ends = ends.into_inner();
        ensure!(ends[0] == ends[1], "{change}: {:#}\ninstead of {:#}", ends[0], ends[1]);
    }
    Ok(())
}

fn merge(into: &mut Value, change: &Value) {
    match change {
        Value::Object(map) => map.iter().for_each(|(key, change)| merge(&mut into[key], change)),
        _ => *into = change.clone(),
    }
}
