//! What is checked at each server.

use futures::{FutureExt, future::BoxFuture};
use userpipeline_api::{
    BlockCheck, Brokers, CassandraConnection, Consistency, HttpConnection, KafkaAuth, KafkaConnection, KafkaLogin, Postgres,
    SchemaRegistry, SchemaRegistryConnection, UserPipelineConnectionSpec,
};
use userpipeline_stores::{Secrets, StoreError, cassandra, http, kafka, postgres, schema_registry};

use super::result::{Found, result};

/// As the servers show this client.
const CLIENT: &str = "check-connection";

/// What pipelines need: to create their tables in the current schema, and the bookkeeping in a schema of its own.
const RIGHTS: &str = "
SELECT current_setting('server_version'),
       coalesce(current_schema(), 'public'),
       has_schema_privilege(coalesce(current_schema(), 'public'), 'CREATE'),
       CASE WHEN to_regnamespace('userpipeline') IS NULL
            THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege('userpipeline', 'CREATE') END,
       to_regnamespace('userpipeline') IS NULL";

/// All blocks at the same time, so that a server that is down delays nothing. The results are in the order of the fields.
pub(super) async fn check_all(spec: &UserPipelineConnectionSpec, secrets: &Secrets) -> Vec<BlockCheck> {
    let mut checks: Vec<BoxFuture<'_, BlockCheck>> = Vec::new();
    if let Some(server) = &spec.postgres {
        checks.push(check_postgres(server, secrets).boxed());
    }
    if let Some(cluster) = &spec.kafka {
        checks.push(check_kafka(cluster, secrets).boxed());
    }
    if let Some(registry) = &spec.schema_registry {
        checks.push(check_registry(registry, secrets).boxed());
    }
    if let Some(cluster) = &spec.cassandra {
        checks.push(check_cassandra(cluster, secrets).boxed());
    }
    if let Some(api) = &spec.http {
        checks.push(check_http(api, secrets).boxed());
    }
    futures::future::join_all(checks).await
}

async fn check_postgres(server: &Postgres, secrets: &Secrets) -> BlockCheck {
    let connection = postgres::Connection::new(server, secrets);
    let work = async {
        let client = connection.connect(CLIENT).await?;
        let row = client.query_one(RIGHTS, &[]).await;
        let row = row.map_err(|e| postgres::explain("reading the rights of the user", &e))?;
        let (schema, database): (String, &str) = (row.get(1), &server.database);
        let (tables, bookkeeping, is_new): (bool, bool, bool) = (row.get(2), row.get(3), row.get(4));
        let mut missing_rights = Vec::new();
        if !tables {
            missing_rights.push(format!("CREATE on schema {schema}"));
        }
        if !bookkeeping && is_new {
            missing_rights.push(format!("CREATE on database {database}"));
        } else if !bookkeeping {
            missing_rights.push("CREATE on schema userpipeline".to_owned());
        }
        Ok(Found {
            server_version: Some(row.get(0)),
            missing_rights,
            note: None,
        })
    };
    result("postgres", work, connection.tls_session()).await
}

async fn check_kafka(cluster: &KafkaConnection, secrets: &Secrets) -> BlockCheck {
    let brokers = Brokers {
        bootstrap_servers: cluster.bootstrap_servers.clone().unwrap_or_default(),
        tls: cluster.tls.clone(),
        auth: cluster.auth.clone(),
    };
    let connection = kafka::Connection::new(&brokers, secrets);
    if matches!(cluster.auth.as_ref().and_then(KafkaAuth::login), Some(KafkaLogin::Unresolved)) {
        let work = async {
            connection.reach().await?;
            Ok(Found {
                note: Some("no login was attempted, because each pipeline has its own KafkaUser".to_owned()),
                ..Found::default()
            })
        };
        return result("kafka", work, connection.tls_session()).await;
    }
    let work = async {
        let admin = kafka::admin::Admin::connect(&connection, CLIENT).await?;
        let id = admin.cluster_id().await?;
        Ok(Found {
            note: Some(format!("the cluster's id is {id}")),
            ..Found::default()
        })
    };
    result("kafka", work, connection.tls_session()).await
}

async fn check_registry(registry: &SchemaRegistryConnection, secrets: &Secrets) -> BlockCheck {
    let registry = SchemaRegistry {
        url: registry.url.clone(),
        tls: registry.tls.clone(),
        auth: registry.auth.clone(),
        compatibility: None,
    };
    let connection = schema_registry::Connection::new(&registry, secrets);
    let work = async {
        connection.connect()?.verify().await?;
        Ok(Found::default())
    };
    result("schemaRegistry", work, connection.tls_session()).await
}

async fn check_cassandra(cluster: &CassandraConnection, secrets: &Secrets) -> BlockCheck {
    let connection = cassandra::Connection::new(&cluster.cluster(), Consistency::LocalOne, secrets);
    let work = async {
        let session = connection.connect().await?;
        Ok(Found {
            server_version: release_version(&session).await?,
            ..Found::default()
        })
    };
    Box::pin(result("cassandra", work, connection.tls_session())).await
}

async fn release_version(session: &scylla::client::session::Session) -> Result<Option<String>, StoreError> {
    let failed =
        |e: &dyn std::fmt::Display| StoreError::transient(cassandra::CASSANDRA_FAILED, format!("Cassandra: reading its version: {e}"));
    let rows = session.query_unpaged("SELECT release_version FROM system.local", &[]).await;
    let rows = rows.map_err(|e| failed(&e))?.into_rows_result().map_err(|e| failed(&e))?;
    let row = rows.maybe_first_row::<(String,)>().map_err(|e| failed(&e))?;
    Ok(row.map(|(version,)| version))
}

/// Through a proxy, only the proxy is reached, and only with a request.
async fn check_http(api: &HttpConnection, secrets: &Secrets) -> BlockCheck {
    if api.proxy.is_some() {
        let work = async {
            Ok(Found {
                note: Some("not checked: the API is reached through a proxy".to_owned()),
                ..Found::default()
            })
        };
        let mut check = result("http", work, async { None }).await;
        check.latency_milliseconds = None;
        return check;
    }
    let connection = http::Connection::new(&api.base_url, &api.tls, secrets);
    let work = async {
        connection.verify().await?;
        Ok(Found {
            note: Some("no request was sent".to_owned()),
            ..Found::default()
        })
    };
    result("http", work, connection.tls_session()).await
}
