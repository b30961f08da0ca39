//! Plans of pull requests, whose authors choose hosts and labels.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::PostParams;
use serde_json::json;
use userpipeline_tests::{World, cluster::OPERATOR_NAMESPACE};

use crate::plans::plan;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_uses_the_images_of_the_release_whoever_labels_a_deployment_as_the_operator() -> Result<()> {
    // Given a Deployment with labels and arguments of the operator, and images of its own
    let world = World::new("plan-labels").await?;
    let labels = json!({"app.kubernetes.io/name": "userpipeline-operator"});
    let arguments = json!([
        "run",
        "--image-registry=evil.example",
        format!("--lease-namespace={OPERATOR_NAMESPACE}"),
        "--identity=evil"
    ]);
    let forged: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "userpipeline-operator", "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "operator", "image": "evil.example/operator", "args": arguments}]}}},
    }))?;
    world.api::<Deployment>().create(&PostParams::default(), &forged).await?;

    // When a pipeline is planned with its schema, Then the Job runs, with an image of the release
    let (code, output, errors) = plan(&world.pipeline(), &["--schema"]).await?;
    assert_eq!(code, 1, "{output}{errors}");
    assert!(output.contains("! PostgreSQL: CREATE TABLE"), "{output}");
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_sends_no_secret_to_a_host_that_only_the_file_names() -> Result<()> {
    // Given a pipeline of a pull request that sends the password of the database to another host
    let world = World::new("plan-hosts").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["postgres"]["host"] = json!("evil.example");

    // When it is planned with the schema, Then there is no plan, and no Job
    let (code, output, errors) = plan(&pipeline, &["--schema"]).await?;
    assert_eq!(code, 2, "{output}");
    assert!(
        errors.contains("evil.example (spec.postgres.host)") && errors.contains("--allow-host"),
        "{errors}"
    );
    assert!(world.pods("schema").await?.is_empty());
    world.clean_up().await
}
