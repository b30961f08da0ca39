//! Removes what earlier tests have left in the local cluster, failed ones included. `make test` begins with it, because a killed broker
//! reads every partition when it restarts, and each keyspace slows down the creation of the next one.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    types::RDKafkaErrorCode as Code,
};
use userpipeline_record::postgres::{quote, totals::Names};
use userpipeline_tests::{
    cluster, eventually,
    exact::{node::Node, volume},
    stores,
    strimzi::{self, crds},
    world::LABEL,
};

/// The prefix of every name that a test creates. In PostgreSQL and Cassandra a dash becomes `_`.
const DASHED_PREFIX: &str = "e2e-";
const UNDERSCORED_PREFIX: &str = "e2e_";
/// Many pods may have to terminate.
const NAMESPACES_GONE: Duration = Duration::from_secs(600);
/// Limited by the number of locks in PostgreSQL.
const BATCH: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let client = cluster::connect().await?;
    let swept = BTreeMap::from([
        ("webhooks", webhooks(&client).await?),
        // Before the namespaces, which could not be deleted otherwise.
        ("Kafka users and ACLs", strimzi(&client).await?),
        // First, so that no pipeline uses what is removed next.
        ("namespaces", namespaces(&client).await?),
        ("topics", topics().await?),
        ("subjects", subjects().await?),
        ("tables", tables(&client).await?),
        ("keyspaces", keyspaces(&client).await?),
        ("roles", roles(&client).await?),
    ]);
    volume::unmount_all(&client, &Node::enter()?).await?;
    if swept.values().any(|count| *count > 0) {
        println!("removed from earlier tests: {swept:?}");
    }
    Ok(())
}

async fn webhooks(client: &Client) -> Result<usize> {
    let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let found = api.list(&ListParams::default().labels(LABEL)).await?.items;
    for webhook in &found {
        api.delete(&webhook.name_any(), &DeleteParams::default()).await?;
    }
    Ok(found.len())
}

/// What the stand-in for Strimzi left: its definitions with all resources, and in Kafka users and ACLs.
async fn strimzi(client: &Client) -> Result<usize> {
    crds::remove(client).await?;
    strimzi::remove_users(DASHED_PREFIX).await
}

async fn namespaces(client: &Client) -> Result<usize> {
    let api = Api::<Namespace>::all(client.clone());
    let ours = ListParams::default().labels(LABEL);
    let found = api.list(&ours).await?.items;
    for namespace in &found {
        if let Err(e) = api.delete(&namespace.name_any(), &DeleteParams::background()).await
            && !matches!(&e, kube::Error::Api(status) if status.code == 404)
        {
            return Err(e).with_context(|| format!("deleting {}", namespace.name_any()));
        }
    }
    eventually("the namespaces of earlier tests to be gone", NAMESPACES_GONE, async || {
        let left: Vec<_> = api.list(&ours).await?.iter().map(ResourceExt::name_any).collect();
        Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
    })
    .await?;
    Ok(found.len())
}

async fn topics() -> Result<usize> {
    let admin: AdminClient<DefaultClientContext> = stores::kafka_config().await?.create()?;
    let left: Vec<String> = stores::topics()
        .await?
        .into_iter()
        .filter(|topic| topic.starts_with(DASHED_PREFIX))
        .collect();
    for some in left.chunks(BATCH) {
        let names: Vec<&str> = some.iter().map(String::as_str).collect();
        for answer in admin.delete_topics(&names, &AdminOptions::new()).await? {
            match answer {
                Ok(_) | Err((_, Code::UnknownTopicOrPartition)) => {}
                Err((topic, code)) => anyhow::bail!("deleting topic {topic}: {code}"),
            }
        }
    }
    Ok(left.len())
}

async fn subjects() -> Result<usize> {
    let left: Vec<String> = serde_json::from_value(stores::registry_answer("/subjects").await?)?;
    let registry = stores::registry().await?;
    let left: Vec<_> = left.iter().filter(|subject| subject.starts_with(DASHED_PREFIX)).collect();
    for subject in &left {
        registry.delete_subject(subject).await?;
    }
    Ok(left.len())
}

/// Before the tables whose rows they count.
async fn aggregates(db: &tokio_postgres::Client) -> Result<()> {
    let left = "SELECT view_name, totals FROM userpipeline.aggregates WHERE starts_with(sink_table, $1)";
    let is_there = db
        .query_one("SELECT to_regclass('userpipeline.aggregates') IS NOT NULL", &[])
        .await?;
    if !is_there.get::<_, bool>(0) {
        return Ok(());
    }
    for row in db.query(left, &[&UNDERSCORED_PREFIX]).await? {
        let (view, totals): (String, String) = (row.get(0), row.get(1));
        let mut statements = vec![format!("DROP VIEW IF EXISTS {} CASCADE", quote(&view))];
        statements.extend(Names::of(totals).drop());
        db.batch_execute(&statements.join("; ")).await?;
        db.execute("DELETE FROM userpipeline.aggregates WHERE view_name = $1", &[&view])
            .await?;
    }
    Ok(())
}

async fn tables(client: &Client) -> Result<usize> {
    let db = stores::postgres(client).await?;
    aggregates(&db).await?;
    let rows = db
        .query(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE starts_with(tablename, $1)",
            &[&UNDERSCORED_PREFIX],
        )
        .await?;
    let left: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for some in left.chunks(BATCH) {
        db.batch_execute(&format!("DROP TABLE IF EXISTS {}", some.join(", "))).await?;
    }
    for (table, column, begins) in [
        ("claims", "pipeline", DASHED_PREFIX),
        ("expired_versions", "table_name", UNDERSCORED_PREFIX),
        ("forgotten", "pipeline", DASHED_PREFIX),
        ("progress", "group_id", DASHED_PREFIX),
        ("rejects", "pipeline", DASHED_PREFIX),
        ("reject_totals", "pipeline", DASHED_PREFIX),
        ("runs", "pipeline", DASHED_PREFIX),
        ("source_cursors", "pipeline", DASHED_PREFIX),
        ("tombstones", "table_name", UNDERSCORED_PREFIX),
    ] {
        // A new cluster has none of them.
        let name = format!("userpipeline.{table}");
        if db.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await?.get(0) {
            db.execute(&format!("DELETE FROM {name} WHERE starts_with({column}, $1)"), &[&begins])
                .await?;
        }
    }
    Ok(left.len())
}

async fn keyspaces(client: &Client) -> Result<usize> {
    let session = stores::cassandra(client).await?;
    let found = session
        .query_unpaged("SELECT keyspace_name FROM system_schema.keyspaces", ())
        .await?
        .into_rows_result()?;
    let found: Vec<String> = found.rows::<(String,)>()?.map(|row| Ok(row?.0)).collect::<Result<_>>()?;
    let left: Vec<_> = found.iter().filter(|name| name.starts_with(UNDERSCORED_PREFIX)).collect();
    for keyspace in &left {
        session
            .query_unpaged(format!("DROP KEYSPACE IF EXISTS \"{keyspace}\""), ())
            .await
            .with_context(|| format!("dropping {keyspace}"))?;
    }
    Ok(left.len())
}

/// Of the tests that rotate passwords.
async fn roles(client: &Client) -> Result<usize> {
    let db = stores::postgres_superuser(client).await?;
    let rows = db
        .query(
            "SELECT quote_ident(rolname) FROM pg_roles WHERE starts_with(rolname, $1)",
            &[&UNDERSCORED_PREFIX],
        )
        .await?;
    let in_postgres: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for role in &in_postgres {
        db.batch_execute(&format!("DROP ROLE {role}")).await?;
    }
    let session = stores::cassandra_superuser(client).await?;
    let found = session
        .query_unpaged("SELECT role FROM system_auth.roles", ())
        .await?
        .into_rows_result()?;
    let found: Vec<String> = found.rows::<(String,)>()?.map(|row| Ok(row?.0)).collect::<Result<_>>()?;
    let in_cassandra: Vec<_> = found.iter().filter(|name| name.starts_with(UNDERSCORED_PREFIX)).collect();
    for role in &in_cassandra {
        session.query_unpaged(format!("DROP ROLE IF EXISTS {role}"), ()).await?;
    }
    Ok(in_postgres.len() + in_cassandra.len())
}
