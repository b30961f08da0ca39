//! PostgreSQL of the local cluster, from the environment that `local/services/with-servers.sh` sets, with a table of its own. Only
//! pods reach the nodes of Cassandra, so the stories in `tests/` write to both stores.

use std::{collections::BTreeMap, env, fs, net::SocketAddr, path::Path};

use serde_json::{Value, json};
use stream_worker::{
    context::WorkerContext,
    model::{Faults, Write},
    run::{arbitration::arbitrate, batch::newest},
    sinks::{ALL, SinkWriter, WriteOutcome},
};
use tempfile::TempDir;
use tokio_postgres::{Client, Row};
use userpipeline_api::document::WorkerPipeline;
use userpipeline_record::{
    RecordSchema,
    aggregate::Aggregate,
    bookkeeping::{self, DDL, exists_query},
    postgres::quote,
};
use userpipeline_stores::{Secrets, StoreError, postgres};
use uuid::Uuid;

/// The content of a record's two columns, by key.
pub type Rows = BTreeMap<i64, (i64, i64)>;

pub struct Store {
    files: TempDir,
    table: String,
    aggregate: Aggregate,
    client: Client,
}

/// A connection, and the statements that a worker has prepared on it.
pub struct Writer {
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

/// The address of PostgreSQL.
pub fn address() -> SocketAddr {
    variable("WIRES_POSTGRES").parse().unwrap()
}

fn pipeline(table: &str, address: SocketAddr) -> Value {
    let tls = json!({"ca": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}});
    let record = json!({"key": ["id"], "orderBy": "revision", "deleteWhen": "has(item.gone)", "where": "rising >= 0", "fields": [
        {"name": "id", "type": "long", "from": "/id"},
        {"name": "revision", "type": "long", "from": "/revision"},
        {"name": "rising", "type": "long", "from": "/rising"},
        {"name": "falling", "type": "long", "from": "/falling"},
    ]});
    json!({"kind": "UserPipeline", "metadata": {"namespace": "wires", "name": table}, "spec": {
        "source": {"topic": {"format": "JSON"}}, "record": record, "kafka": {"bootstrapServers": "127.0.0.1:9"},
        "postgres": {"host": address.ip(), "port": address.port(), "database": "userpipeline",
            "credentialsSecretRef": {"name": "postgres"}, "tls": tls},
        "sinks": {"postgres": {"table": table}},
    }})
}

fn context(files: &TempDir, table: &str, address: SocketAddr) -> WorkerContext {
    let pipeline = WorkerPipeline::read(&pipeline(table, address).to_string()).unwrap();
    let schema = RecordSchema::read(pipeline.record.as_ref()).unwrap();
    WorkerContext::new(pipeline, schema, Vec::new(), mounted(files), "wires")
}

/// Totals of records by their revision, so that a record changes its group with each new one.
fn aggregate(schema: &RecordSchema, table: &str) -> Aggregate {
    let declared = json!([{"name": "by_revision", "groupBy": ["revision"], "values": [
        {"name": "records", "count": {}}, {"name": "rising", "sum": "rising"}, {"name": "ids", "countDistinct": "id"},
        {"name": "least", "min": "falling"},
    ]}]);
    let declared: Vec<userpipeline_api::Aggregate> = serde_json::from_value(declared).unwrap();
    Aggregate::read(&declared, schema, (Some(table), None)).unwrap().remove(0)
}

impl Store {
    /// Creates the table with an aggregate, as a schema Job does.
    pub async fn create() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let files = tempfile::tempdir().unwrap();
        let table = format!("e2e_wires_{}", Uuid::new_v4().simple());
        let context = context(&files, &table, address());
        let aggregate = aggregate(&context.schema, &table);
        let mut client = context.postgres.connect("wires").await.unwrap();
        create_bookkeeping(&mut client).await;
        let totals = aggregate.statements();
        let statements = [context.schema.sink_ddl(&table), RecordSchema::sink_add_order(&table)];
        for statement in statements
            .iter()
            .chain(&totals.tables)
            .chain(&totals.triggers)
            .chain([&totals.view])
        {
            client.batch_execute(statement).await.unwrap();
        }
        Self {
            files,
            table,
            aggregate,
            client,
        }
    }

    /// A connection of its own, to PostgreSQL or to what is in front of it.
    pub async fn writer(&self, address: SocketAddr) -> Writer {
        let context = context(&self.files, &self.table, address);
        let client = context.postgres.connect("wires").await.unwrap();
        let sink = ALL.iter().find(|sink| sink.name() == "postgres").unwrap();
        let mut postgres = sink.writer(&context).unwrap();
        postgres.prepare(&client).await.unwrap();
        Writer { client, postgres }
    }

    /// All rows. Fails if the totals are not theirs.
    pub async fn rows(&self) -> Rows {
        let table = quote(&self.table);
        let expected = format!(
            "SELECT revision, count(*) AS records, sum(rising) AS rising, count(DISTINCT id) AS ids, min(falling) AS least FROM {table} GROUP BY revision"
        );
        let found = format!("SELECT revision, records, rising, ids, least FROM {}", quote(&self.aggregate.view));
        let wrong = format!(
            "WITH e AS ({expected}), f AS ({found}), wrong AS ((TABLE e EXCEPT TABLE f) UNION ALL (TABLE f EXCEPT TABLE e)) \
             SELECT said, r.id, r.rising, r.falling FROM (SELECT string_agg(wrong::text, '; ') AS said FROM wrong) AS all_wrong \
             LEFT JOIN {table} AS r ON true"
        );
        let rows = self.client.query(&wrong, &[]).await.unwrap();
        if let Some(wrong) = rows.first().and_then(|row| row.get::<_, Option<String>>(0)) {
            panic!("the totals are not those of the rows: {wrong}");
        }
        let is_row = |row: &&Row| row.get::<_, Option<i64>>(1).is_some();
        let rows = rows.iter().filter(is_row);
        rows.map(|row| (row.get(1), (row.get(2), row.get(3)))).collect()
    }

    pub async fn drop(self) {
        let table = &self.table;
        let drop = format!(
            "DROP VIEW {}; DROP TABLE \"{table}\"; DELETE FROM userpipeline.tombstones WHERE table_name = '{table}'",
            quote(&self.aggregate.view)
        );
        self.client.batch_execute(&drop).await.unwrap();
        for statement in self.aggregate.names().drop() {
            self.client.batch_execute(&statement).await.unwrap();
        }
    }
}

impl Writer {
    /// Writes a batch as a worker does.
    pub async fn attempt(&mut self, batch: &[Write], commits: bool) -> Result<(), StoreError> {
        let failed = |e| postgres::explain("writing a batch", &e);
        let mut writes = batch.to_vec();
        let transaction = self.client.transaction().await.map_err(failed)?;
        let arbiter = self.postgres.arbiter().expect("the table decides versions");
        let stored = arbiter.stored(&transaction, &newest(&writes, &Faults::new())).await?;
        let winners = arbitrate(&mut writes, &Faults::new(), &stored).winners;
        if winners.is_empty() {
            return Ok(());
        }
        let outcome = self.postgres.write(&transaction, &winners).await?;
        assert_eq!(outcome, WriteOutcome::InTransaction);
        let ended = if commits {
            transaction.commit().await
        } else {
            transaction.rollback().await
        };
        ended.map_err(failed)
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
