//! PostgreSQL of the local cluster, from the environment that `local/services/with-servers.sh` sets, with a table of its own. Only
//! pods reach the nodes of Cassandra, so the stories in `tests/` write to both stores.

use std::{collections::BTreeMap, env, fs, path::Path};

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
};
use userpipeline_stores::Secrets;
use uuid::Uuid;

/// The content of a record's two columns, by key.
pub type Rows = BTreeMap<i64, (i64, i64)>;

pub struct Store {
    _files: TempDir,
    table: String,
    client: Client,
    postgres: Box<dyn SinkWriter>,
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with local/services/with-servers.sh"))
}

fn write(folder: &Path, name: &str, content: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), content).unwrap();
}

/// Secrets and ConfigMaps as a pod has them: the login `postgres`, and the authority `ca`.
fn mounted(files: &TempDir) -> Secrets {
    let (secrets, config_maps) = (files.path().join("secrets"), files.path().join("config-maps"));
    for key in ["USERNAME", "PASSWORD"] {
        write(
            &secrets.join("postgres"),
            &key.to_lowercase(),
            &variable(&format!("WIRES_POSTGRES_{key}")),
        );
    }
    let authority = fs::read_to_string(Path::new(&variable("WIRES_CA")).join("tls.crt")).unwrap();
    write(&config_maps.join("ca"), "ca.crt", &authority);
    Secrets::in_dir(secrets).with_config_maps(config_maps)
}

fn pipeline(table: &str) -> Value {
    let tls = json!({"ca": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}});
    let address = variable("WIRES_POSTGRES");
    let (host, port) = address.rsplit_once(':').unwrap();
    let record = json!({"key": ["id"], "orderBy": "revision", "deleteWhen": "has(item.gone)", "where": "rising >= 0", "fields": [
        {"name": "id", "type": "long", "from": "/id"},
        {"name": "revision", "type": "long", "from": "/revision"},
        {"name": "rising", "type": "long", "from": "/rising"},
        {"name": "falling", "type": "long", "from": "/falling"},
    ]});
    json!({"kind": "UserPipeline", "metadata": {"namespace": "wires", "name": table}, "spec": {
        "source": {"topic": {"format": "JSON"}}, "record": record, "kafka": {"bootstrapServers": "127.0.0.1:9"},
        "postgres": {"host": host, "port": port.parse::<u16>().unwrap(), "database": "userpipeline",
            "credentialsSecretRef": {"name": "postgres"}, "tls": tls},
        "sinks": {"postgres": {"table": table}},
    }})
}

impl Store {
    /// Creates the table, as a schema Job does.
    pub async fn create() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let files = tempfile::tempdir().unwrap();
        let secrets = mounted(&files);
        let table = format!("e2e_wires_{}", Uuid::new_v4().simple());
        let pipeline = WorkerPipeline::read(&pipeline(&table).to_string()).unwrap();
        let schema = RecordSchema::read(pipeline.record.as_ref()).unwrap();
        let context = WorkerContext::new(pipeline, schema.clone(), Vec::new(), secrets, "wires");
        let mut client = context.postgres.connect("wires").await.unwrap();
        create_bookkeeping(&mut client).await;
        for statement in [schema.sink_ddl(&table), RecordSchema::sink_add_order(&table)] {
            client.batch_execute(&statement).await.unwrap();
        }
        let sink = ALL.iter().find(|sink| sink.name() == "postgres").unwrap();
        let mut postgres = sink.writer(&context).unwrap();
        postgres.prepare(&client).await.unwrap();
        Self {
            _files: files,
            table,
            client,
            postgres,
        }
    }

    /// Writes a batch as a worker does.
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
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
    }

    pub async fn rows(&self) -> Rows {
        let select = format!("SELECT id, rising, falling FROM \"{}\"", self.table);
        let rows = self.client.query(&select, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
    }

    pub async fn drop(self) {
        let table = &self.table;
        let drop = format!("DROP TABLE \"{table}\"; DELETE FROM userpipeline.tombstones WHERE table_name = '{table}'");
        self.client.batch_execute(&drop).await.unwrap();
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
