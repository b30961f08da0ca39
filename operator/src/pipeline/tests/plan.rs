//! A plan, while the operator applies an earlier change.

use serde_json::json;

use super::cluster::*;
use crate::pipeline::{
    example,
    plan::{Plan, PlanError, PlannedConnections, SchemaDryRun, plan},
};

async fn planned(cluster: &Cluster, client: &kube::Client) -> Result<Plan, PlanError> {
    let (connections, schema) = (PlannedConnections::default(), SchemaDryRun::default());
    let document = cluster.get(PIPELINE);
    Box::pin(plan(client, &example::installation(), &document, &connections, "test", &schema)).await
}

#[tokio::test]
async fn given_a_schema_job_of_an_earlier_spec_then_the_plan_is_that_of_its_success() {
    // Given a schema Job that has not ended
    let (cluster, client) = Cluster::start().await;
    cluster.reconcile(&client).await.unwrap();
    cluster.reconcile(&client).await.unwrap();

    // When the next spec is planned, Then the workers are planned, too, and nothing is written
    cluster.change(PIPELINE, |pipeline| pipeline["spec"]["kafka"]["topic"] = json!({"partitions": 7}));
    cluster.writes();
    let plan = planned(&cluster, &client).await.unwrap().to_string();
    assert!(plan.contains("+ Deployment users-worker"), "{plan}");
    assert!(!plan.contains("- Job"), "{plan}");
    assert_eq!(short(cluster.writes()), [""; 0]);
}

#[tokio::test]
async fn given_an_object_that_changes_while_its_deletion_is_planned_then_it_is_planned_again() {
    // Given a ConfigMap that is no longer used
    let (cluster, client) = Cluster::start().await;
    cluster.ready(&client).await;
    let mut stale = cluster.get(&cluster.paths(CONFIG_MAPS)[0]);
    stale["metadata"]["name"] = json!("users-stale");
    cluster.put(&format!("{CONFIG_MAPS}users-stale"), stale);

    // When it changes between its observation and its deletion, Then there is a plan nonetheless
    *cluster.conflict_once.lock().unwrap() = Some("users-stale");
    let plan = planned(&cluster, &client).await.unwrap().to_string();
    assert!(plan.contains("- ConfigMap users-stale"), "{plan}");
    assert!(cluster.conflict_once.lock().unwrap().is_none(), "the deletion was refused");
}
