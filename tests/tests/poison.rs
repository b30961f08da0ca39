//! Specs that are wrong in every way that the API server lets pass, and what they leave behind: nothing.

use std::{cell::RefCell, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use userpipeline_api::UserPipeline;
use userpipeline_tests::{
    cluster,
    crash::{Lease, Stage, trial},
};

/// How long the operator is watched once it rests.
const WATCHED: Duration = Duration::from_secs(4);
/// What it may write meanwhile: a look at the workers, and one more try at a child that is refused.
const WRITES: usize = 4;
/// Trials at the same time.
const AT_ONCE: usize = 8;

/// Changes of a pipeline that nobody should make.
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

/// Takes back what a change has set.
fn undone(change: &Value, original: &Value) -> Value {
    match change {
        Value::Object(map) if original.is_object() => map
            .iter()
            .map(|(key, change)| (key.clone(), undone(change, &original[key])))
            .collect(),
        _ => original.clone(),
    }
}

/// Changes a ready pipeline for the worse, and takes that back; gives what was said of it.
async fn poisoned(change: Value) -> Result<String> {
    let said = RefCell::new(String::new());
    let scenario = async |stage: &Stage| {
        // Given a ready pipeline
        let original = Stage::pipeline();
        stage.ready(&original).await?;
        let before = stage.children().await?;

        // When it is changed for the worse
        if let Err(refused) = stage.edit(json!({"spec": change})).await {
            *said.borrow_mut() = format!("refused: {}", refused.to_string().chars().take(160).collect::<String>());
            return Ok(());
        }
        // Then the operator says what it makes of it, and rests
        let word = stage.observed().await?;
        stage.quiet("the operator to rest", async || Ok(Ok(()))).await?;
        let writes = stage.writes_within(WATCHED).await;
        ensure!(writes <= WRITES, "{writes} writes in {WATCHED:?}");
        *said.borrow_mut() = format!("{word}, {writes} writes");

        // When that is taken back, Then all is as it was
        stage.edit(json!({"spec": undone(&change, &original["spec"])})).await?;
        stage.settled("Ready").await?;
        let after = stage.children().await?;
        ensure!(after == before, "it leaves {after:#}\ninstead of {before:#}");
        Ok(())
    };
    trial(scenario, None).await?;
    Ok(said.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_spec_is_told_costs_nothing_and_leaves_nothing_behind() -> Result<()> {
    let _lease = Lease::take(cluster::connect().await?).await?;
    let trials = stream::iter(poison()).map(|change| async move {
        let about = change.to_string();
        let played = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(poisoned(change))
        });
        let said = played.await.map_err(Into::into).flatten();
        said.map(|said| format!("{about}: {said}")).with_context(|| about)
    });
    for said in trials.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        println!("{}", said?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_was_edited_is_like_one_that_was_made_so() -> Result<()> {
    let _lease = Lease::take(cluster::connect().await?).await?;
    for change in [
        json!({"schedule": {"cron": "@daily"}, "owner": "data"}),
        json!({"workers": {"replicas": 3}, "kafka": {"topic": {"partitions": 12}}}),
        json!({"pods": {"workers": {"labels": {"team": "data"}}, "ingest": {"priorityClassName": "system-node-critical"}}}),
        json!({"source": {"http": {"query": [{"name": "a", "value": "b"}]}}, "schedule": {"concurrencyPolicy": "Allow"}}),
    ] {
        let ends = RefCell::new(Vec::new());
        for edited in [true, false] {
            let scenario = async |stage: &Stage| {
                if edited {
                    stage.ready(&Stage::pipeline()).await?;
                    stage.edit(json!({"spec": change})).await?;
                } else {
                    let mut pipeline = Stage::pipeline();
                    merge(&mut pipeline["spec"], &change);
                    stage.apply::<UserPipeline>(&pipeline).await?;
                }
                stage.settled("Ready").await?;
                let children = stage.children().await?;
                ends.borrow_mut().push(children);
                Ok(())
            };
            trial(scenario, None).await.with_context(|| change.to_string())?;
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
