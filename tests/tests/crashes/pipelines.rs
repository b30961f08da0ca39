//! A pipeline with its stores, and its children.

use anyhow::{Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::CronJob, core::v1::ConfigMap};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use userpipeline_api::{RunOutcome, UserPipeline, UserPipelineBackfill, names};
use userpipeline_tests::crash::Sandbox;

use crate::scenario::Scenario;

pub const SCENARIOS: [Scenario; 14] = [
    Scenario::plain("create", |sandbox| Box::pin(async { sandbox.ready(&Sandbox::pipeline()).await })),
    Scenario::plain("edit the schedule", |sandbox| {
        Box::pin(edit(sandbox, json!({"schedule": {"cron": "0 0 2 1 *"}})))
    }),
    Scenario::plain("edit the workers", |sandbox| {
        Box::pin(edit(sandbox, json!({"workers": {"replicas": 2, "batch": {"maxRecords": 7}}})))
    }),
    Scenario::plain("edit the topic", |sandbox| {
        Box::pin(edit(sandbox, json!({"kafka": {"topic": {"partitions": 12}}})))
    }),
    Scenario::plain("edit the pods", |sandbox| {
        Box::pin(edit(
            sandbox,
            json!({"pods": {"workers": {"labels": {"team": "data"}}}, "owner": "data"}),
        ))
    }),
    Scenario::plain("edit the record", |sandbox| Box::pin(edit_record(sandbox))),
    Scenario::plain("suspend and resume", |sandbox| Box::pin(suspend_and_resume(sandbox))),
    Scenario::plain("run now", |sandbox| Box::pin(run_now(sandbox))),
    Scenario::plain("back-fill", |sandbox| Box::pin(backfill(sandbox))),
    Scenario::plain("delete, retaining the data", |sandbox| Box::pin(delete(sandbox, "Retain"))),
    Scenario::plain("delete with the data", |sandbox| Box::pin(delete(sandbox, "Delete"))),
    Scenario::plain("child deleted", |sandbox| Box::pin(child_deleted(sandbox))),
    Scenario::plain("child edited", |sandbox| Box::pin(child_edited(sandbox))),
    Scenario::plain("edit and edit back", |sandbox| Box::pin(edit_and_back(sandbox))),
];

async fn edit(sandbox: &Sandbox, change: serde_json::Value) -> Result<()> {
    sandbox.ready(&Sandbox::pipeline()).await?;
    sandbox.edit(json!({"spec": change})).await?;
    sandbox.settled("Ready").await
}

async fn edit_record(sandbox: &Sandbox) -> Result<()> {
    let field = |name: &str, optional: bool| json!({"name": name, "type": "string", "from": format!("/{name}"), "optional": optional});
    let mut pipeline = Sandbox::pipeline();
    pipeline["spec"]["record"] = json!({"key": ["id"], "fields": [field("id", false)]});
    sandbox.ready(&pipeline).await?;
    let change = json!({"record": {"fields": [field("id", false), field("note", true)]}});
    sandbox.edit(json!({"spec": change})).await?;
    sandbox.settled("Ready").await
}

async fn edit_and_back(sandbox: &Sandbox) -> Result<()> {
    edit(sandbox, json!({"kafka": {"topic": {"config": {"retention.ms": "1000"}}}})).await?;
    sandbox.edit(json!({"spec": {"kafka": {"topic": {"config": null}}}})).await?;
    sandbox.settled("Ready").await
}

async fn suspend_and_resume(sandbox: &Sandbox) -> Result<()> {
    edit(sandbox, json!({"suspend": true})).await?;
    sandbox.settled("Suspended").await?;
    sandbox.edit(json!({"spec": {"suspend": false}})).await?;
    sandbox.settled("Ready").await
}

async fn run_now(sandbox: &Sandbox) -> Result<()> {
    sandbox.ready(&Sandbox::pipeline()).await?;
    sandbox.edit(json!({"spec": {"runNow": {"nonce": "first"}}})).await?;
    let done = |_: &UserPipeline, status: &userpipeline_api::UserPipelineStatus| {
        status
            .run_now
            .as_ref()
            .is_some_and(|run| run.outcome == Some(RunOutcome::Succeeded))
            && status.runs.len() == 1
    };
    sandbox.settled_where("the run that was asked for", done).await
}

async fn backfill(sandbox: &Sandbox) -> Result<()> {
    let mut pipeline = Sandbox::pipeline();
    pipeline["spec"]["schedule"]["cron"] = json!("0 0 1 * *");
    pipeline["spec"]["schedule"]["catchUp"] = json!({"enabled": false});
    sandbox.ready(&pipeline).await?;
    let backfill = json!({
        "apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineBackfill", "metadata": {"name": "spring"},
        "spec": {"pipelineRef": {"name": "users"}, "from": "2024-03-01T00:00:00Z", "to": "2024-06-01T00:00:00Z", "maxActiveRuns": 1}
    });
    sandbox.apply::<UserPipelineBackfill>(&backfill).await?;
    sandbox.backfilled("spring").await
}

async fn delete(sandbox: &Sandbox, policy: &str) -> Result<()> {
    let mut pipeline = Sandbox::pipeline();
    pipeline["spec"]["deletionPolicy"] = json!(policy);
    sandbox.ready(&pipeline).await?;
    sandbox.delete::<UserPipeline>("users").await?;
    sandbox.gone().await
}

async fn child_deleted(sandbox: &Sandbox) -> Result<()> {
    sandbox.ready(&Sandbox::pipeline()).await?;
    let (cron_job, workers) = (names::cron_job("users"), names::workers("users"));
    let before = (sandbox.uid::<CronJob>(&cron_job).await?, sandbox.uid::<Deployment>(&workers).await?);
    sandbox.delete::<CronJob>(&cron_job).await?;
    sandbox.delete::<Deployment>(&workers).await?;
    sandbox
        .quiet("both to be re-created", async || {
            let now = (sandbox.uid::<CronJob>(&cron_job).await?, sandbox.uid::<Deployment>(&workers).await?);
            let recreated = now.0.is_some() && now.1.is_some() && now.0 != before.0 && now.1 != before.1;
            Ok(if recreated { Ok(()) } else { Err(format!("{now:?}")) })
        })
        .await?;
    sandbox.settled("Ready").await
}

async fn child_edited(sandbox: &Sandbox) -> Result<()> {
    sandbox.ready(&Sandbox::pipeline()).await?;
    let workers = names::workers("users");
    let api = sandbox.api::<Deployment>();
    let evil = json!({"spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "evil"}]}}}});
    api.patch(&workers, &PatchParams::default(), &Patch::Strategic(evil)).await?;
    sandbox
        .quiet("the image to be put right", async || {
            let image = api
                .get(&workers)
                .await?
                .spec
                .and_then(|spec| spec.template.spec?.containers.into_iter().next()?.image);
            Ok(if image.as_deref() == Some("evil") {
                Err("evil".to_owned())
            } else {
                Ok(())
            })
        })
        .await?;
    let there = sandbox
        .api::<ConfigMap>()
        .list(&ListParams::default().labels("app.kubernetes.io/component=worker"))
        .await?;
    ensure!(there.items.len() == 1, "{:?}", there.items);
    sandbox.settled("Ready").await
}
