//! Statements outside of the hot path.

use scylla::client::session::Session;
use userpipeline_api::{StoreAddress, StoreIdentity, document::CassandraTarget};
use userpipeline_stores::{
    Secrets, StoreError,
    cassandra::{self, CASSANDRA_FAILED, Connection},
};

pub fn connection(target: &CassandraTarget, secrets: &Secrets) -> Connection {
    Connection::new(&target.cluster, target.consistency, secrets)
}

pub async fn await_agreement(session: &Session, keyspace: &str, table: &str) -> Result<(), StoreError> {
    let disagree = |e| {
        StoreError::transient(
            CASSANDRA_FAILED,
            format!("the nodes do not agree on table `{keyspace}.{table}` yet: {e}"),
        )
    };
    session.await_schema_agreement().await.map(drop).map_err(disagree)
}

/// Runs a statement; `what` names the step in an error.
pub async fn execute(session: &Session, statement: &str, what: &str) -> Result<(), StoreError> {
    session
        .query_unpaged(statement, ())
        .await
        .map(drop)
        .map_err(|e| cassandra::explain(what, &e))
}

/// Identifies the cluster in claims.
pub async fn cluster_name(session: &Session) -> Result<String, StoreError> {
    let found = rows::<(String,)>(session, "SELECT cluster_name FROM system.local", &[]).await?;
    Ok(found.into_iter().next().map(|(name,)| name).unwrap_or_default())
}

/// The cluster, by the host ids of its nodes: many clusters have Cassandra's default name.
pub fn identity(target: &CassandraTarget, session: &Session) -> StoreIdentity {
    let state = session.get_cluster_state();
    let hosts = state.get_nodes_info().iter().map(|node| node.host_id.to_string());
    StoreAddress::cassandra(&target.cluster).identified(hosts)
}

/// The rows of a small result.
pub async fn rows<T>(session: &Session, statement: &str, values: &[&str]) -> Result<Vec<T>, StoreError>
where
    T: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
{
    let what = "reading Cassandra's schema";
    let unexpected = |e: &dyn std::fmt::Display| StoreError::configuration(CASSANDRA_FAILED, format!("{what}: {e}"));
    let answer = session
        .query_unpaged(statement, values)
        .await
        .map_err(|e| cassandra::explain(what, &e))?;
    let answer = answer.into_rows_result().map_err(|e| unexpected(&e))?;
    answer
        .rows::<T>()
        .map_err(|e| unexpected(&e))?
        .collect::<Result<_, _>>()
        .map_err(|e| unexpected(&e))
}
