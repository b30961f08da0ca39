//! The stores of the local cluster, from the environment that `local/services/with-servers.sh` sets, with tables of their own.

use std::{collections::BTreeMap, env, fs, path::Path};

use scylla::client::session::Session;
use serde_json::{Value, json};
use stream_worker::{
    context::WorkerContext,
    model::{Faults, Write},
    run::{arbitration::arbitrate, batch::newest},
    sinks::{ALL, SinkWriter, WriteOutcome},
};
use tempfile::TempDir;
use tokio_postgres::Client;
use userpipeline_api::document::WorkerPipeline;
use userpipeline_record::{
    RecordSchema,
    bookkeeping::{self, DDL, exists_query},
    cassandra::keyspace_cql,
};
use userpipeline_stores::{Secrets, cassandra::Connection};
use uuid::Uuid;

/// The content of a record's two columns, by key.
pub type Rows = BTreeMap<i64, (i64, i64)>;

pub struct Stores {
    _files: TempDir,
    table: String,
    client: Client,
    postgres: Box<dyn SinkWriter>,
    cassandra: Option<(Session, Box<dyn SinkWriter>)>,
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with local/services/with-servers.sh"))
}

fn write(folder: &Path, name: &str, content: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), content).unwrap();
}

/// Secrets and ConfigMaps as a pod has them: the logins `postgres` and `cassandra`, and the authority `ca`.
fn mounted(files: &TempDir) -> Secrets {
    let (secrets, config_maps) = (files.path().join("secrets"), files.path().join("config-maps"));
    for store in ["POSTGRES", "CASSANDRA"] {
        for key in ["USERNAME", "PASSWORD"] {
            let value = env::var(format!("WIRES_{store}_{key}")).unwrap_or_default();
            write(&secrets.join(store.to_lowercase()), &key.to_lowercase(), &value);
        }
    }
    let authority = fs::read_to_string(Path::new(&variable("WIRES_CA")).join("tls.crt")).unwrap();
    write(&config_maps.join("ca"), "ca.crt", &authority);
    Secrets::in_dir(secrets).with_config_maps(config_maps)
}

fn pipeline(table: &str, with_cassandra: bool) -> Value {
    let tls = json!({"ca": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}});
    let address = variable("WIRES_POSTGRES");
    let (host, port) = address.rsplit_once(':').unwrap();
    let record = json!({"key": ["id"], "orderBy": "revision", "deleteWhen": "has(item.gone)", "fields": [
        {"name": "id", "type": "long", "from": "/id"},
        {"name": "revision", "type": "long", "from": "/revision"},
        {"name": "rising", "type": "long", "from": "/rising"},
        {"name": "falling", "type": "long", "from": "/falling"},
    ]});
    let mut pipeline = json!({"kind": "UserPipeline", "metadata": {"namespace": "wires", "name": table}, "spec": {
        "source": {"topic": {"format": "JSON"}}, "record": record, "kafka": {"bootstrapServers": "127.0.0.1:9"},
        "postgres": {"host": host, "port": port.parse::<u16>().unwrap(), "database": "userpipeline",
            "credentialsSecretRef": {"name": "postgres"}, "tls": tls},
        "sinks": {"postgres": {"table": table}},
    }});
    if with_cassandra {
        pipeline["spec"]["cassandra"] = json!({
            "contactPoints": [variable("WIRES_CASSANDRA")], "localDatacenter": "datacenter1",
            "credentialsSecretRef": {"name": "cassandra"}, "tls": tls,
        });
        pipeline["spec"]["sinks"]["cassandra"] = json!({"keyspace": table, "table": table});
    }
    pipeline
}

impl Stores {
    /// Creates the tables, as a schema Job does.
    pub async fn create(with_cassandra: bool) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let files = tempfile::tempdir().unwrap();
        let secrets = mounted(&files);
        let table = format!("e2e_wires_{}", Uuid::new_v4().simple());
        let pipeline = WorkerPipeline::read(&pipeline(&table, with_cassandra).to_string()).unwrap();
        let schema = RecordSchema::read(pipeline.record.as_ref()).unwrap();
        let context = WorkerContext::new(pipeline, schema.clone(), secrets, "wires");
        let mut client = context.postgres.connect("wires").await.unwrap();
        create_bookkeeping(&mut client).await;
        for statement in [schema.sink_ddl(&table), RecordSchema::sink_add_order(&table)] {
            client.batch_execute(&statement).await.unwrap();
        }
        let writer = |name: &str| ALL.iter().find(|sink| sink.name() == name).unwrap().writer(&context);
        let mut postgres = writer("postgres").unwrap();
        postgres.prepare(&client).await.unwrap();
        let cassandra = match (&context.pipeline.cassandra, writer("cassandra")) {
            (Some(target), Some(mut writer)) => {
                let connection = Connection::new(&target.cluster, target.consistency, &context.secrets);
                let session = connection.connect().await.unwrap();
                let replication = BTreeMap::from([("datacenter1".to_owned(), 1)]);
                for statement in [keyspace_cql(&table, &replication), schema.cassandra_table_cql(&table, &table)] {
                    session.query_unpaged(statement, ()).await.unwrap();
                }
                writer.open().await.unwrap();
                Some((session, writer))
            }
            _ => None,
        };
        Self {
            _files: files,
            table,
            client,
            postgres,
            cassandra,
        }
    }

    /// Writes a batch as a worker does. An attempt that does not commit has written Cassandra nevertheless.
    pub async fn attempt(&mut self, batch: &[Write], commits: bool) {
        let mut writes = batch.to_vec();
        let transaction = self.client.transaction().await.unwrap();
        let arbiter = self.postgres.arbiter().expect("the table decides versions");
        let stored = arbiter.stored(&transaction, &newest(&writes, &Faults::new())).await.unwrap();
        let winners = arbitrate(&mut writes, &Faults::new(), &stored).winners;
        if winners.is_empty() {
            return;
        }
        let outcome = self.postgres.write(&transaction, &winners).await.unwrap();
        assert_eq!(outcome, WriteOutcome::InTransaction);
        if let Some((_, cassandra)) = &self.cassandra {
            let outcome = cassandra.write(&transaction, &winners).await.unwrap();
            assert_eq!(outcome, WriteOutcome::Stored { refused: Vec::new() });
        }
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
    }

    pub async fn postgres_rows(&self) -> Rows {
        let select = format!("SELECT id, rising, falling FROM \"{}\"", self.table);
        let rows = self.client.query(&select, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
    }

    /// None without Cassandra.
    pub async fn cassandra_rows(&self) -> Option<Rows> {
        let (session, _) = self.cassandra.as_ref()?;
        let select = format!("SELECT id, rising, falling FROM \"{0}\".\"{0}\"", self.table);
        let rows = session.query_unpaged(select, ()).await.unwrap().into_rows_result().unwrap();
        let rows = rows.rows::<(i64, i64, i64)>().unwrap();
        Some(
            rows.map(Result::unwrap)
                .map(|(id, rising, falling)| (id, (rising, falling)))
                .collect(),
        )
    }

    pub async fn drop(self) {
        let table = &self.table;
        let drop = format!("DROP TABLE \"{table}\"; DELETE FROM userpipeline.tombstones WHERE table_name = '{table}'");
        self.client.batch_execute(&drop).await.unwrap();
        if let Some((session, _)) = &self.cassandra {
            session.query_unpaged(format!("DROP KEYSPACE \"{table}\""), ()).await.unwrap();
        }
    }
}

async fn create_bookkeeping(client: &mut Client) {
    let transaction = client.transaction().await.unwrap();
    transaction
        .query_one("SELECT pg_advisory_xact_lock($1)", &[&bookkeeping::LOCK])
        .await
        .unwrap();
    for statement in DDL {
        let exists = match exists_query(statement) {
            Some(query) => transaction.query_one(&query, &[]).await.unwrap().get(0),
            None => false,
        };
        if !exists {
            transaction.batch_execute(statement).await.unwrap();
        }
    }
    transaction.commit().await.unwrap();
}
