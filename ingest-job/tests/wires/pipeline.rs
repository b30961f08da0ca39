//! A pipeline's runs and its landing table in a real PostgreSQL, and a model of a store.

use std::collections::BTreeMap;

use ingest_job::{
    land::Landing,
    ledger::{self, Ledger, Opened},
    run_id::{self, RunArguments},
};
use jiff::Timestamp;
use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};
use tokio_postgres::Client;
use userpipeline_record::{
    RecordSchema,
    postgres::{DELETED, VERSION},
};
use uuid::Uuid;

use crate::{
    model::{Response, Served},
    server::Server,
};

/// Version and content of each record; none of a deleted one.
pub type Stored = BTreeMap<i64, (i64, Option<String>)>;

/// A pipeline of its own, with its landing table. The names begin as those that the sweep of test data deletes.
pub struct Pipeline<'a> {
    server: &'a Server,
    name: String,
    pub table: String,
    pub schema: RecordSchema,
    /// Whether a version may be published twice.
    pub loses_marks: bool,
}

/// An active run, and the response that it has not landed yet.
pub struct Run {
    landing: Landing,
    pub ledger: Ledger,
    pub waiting: Option<Response>,
    schema: RecordSchema,
}

impl<'a> Pipeline<'a> {
    pub async fn create(server: &'a Server, schema: RecordSchema) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let (name, table) = (format!("e2e-wires/{id}"), format!("e2e_wires_{id}"));
        server.connect().await.batch_execute(&schema.landing_ddl(&table)).await.unwrap();
        Self {
            server,
            name,
            table,
            schema,
            loses_marks: false,
        }
    }

    pub async fn start(&self) -> Run {
        let run = run_id::Run::of(&RunArguments::default(), None, Timestamp::now());
        let opened = ledger::open(self.server.connection(), &self.name, &run, "wires").await.unwrap();
        let Opened::Run(ledger) = opened else {
            panic!("{} has the run {} already", self.name, run.id)
        };
        Run {
            landing: Landing::prepare(&ledger.client, &self.name, &self.table, &self.schema)
                .await
                .unwrap(),
            ledger: *ledger,
            waiting: None,
            schema: self.schema.clone(),
        }
    }

    /// Publishes what is pending to a model of a store, in which a greater version wins. Without `marks`, PostgreSQL loses them.
    pub async fn publish(&self, client: &Client, store: &mut Stored, marks: bool) {
        let pending = self.schema.pending_select(&self.table);
        for row in client.query(&pending, &[&i64::MAX]).await.unwrap() {
            let (key, version, deleted): (i64, i64, bool) = (row.get("id"), row.get(VERSION), row.get(DELETED));
            let content: Option<String> = row.get::<_, Option<String>>("content").filter(|_| !deleted);
            if let Some((before, known)) = store.get(&key) {
                let is_repeated = self.loses_marks && *before == version && *known == content;
                assert!(
                    is_repeated || *before != version,
                    "two states of record {key} have the version {version}"
                );
            }
            if store.get(&key).is_none_or(|(before, _)| version > *before) {
                store.insert(key, (version, content));
            }
        }
        if marks {
            let mark = format!(
                "UPDATE \"{}\" SET _published_version = _version WHERE _published_version IS DISTINCT FROM _version",
                self.table
            );
            client.batch_execute(&mark).await.unwrap();
        }
    }

    /// Announces that rows expire, as a worker does before the first one.
    pub async fn announce_expiry(&self, client: &Client) {
        for statement in self.schema.landing_announce_expiry(&self.table) {
            client.batch_execute(&statement).await.unwrap();
        }
    }

    pub async fn expire(&self, client: &Client) {
        client
            .query_one(&self.schema.landing_expire(&self.table), &[&-1_f64, &1000_i64])
            .await
            .unwrap();
    }

    pub async fn drop(self, client: &Client) {
        client.batch_execute(&format!("DROP TABLE \"{}\"", self.table)).await.unwrap();
        for (table, column, value) in [("runs", "pipeline", &self.name), ("expired_versions", "table_name", &self.table)] {
            let statement = format!("DELETE FROM userpipeline.{table} WHERE {column} = $1");
            client.execute(&statement, &[value]).await.unwrap();
        }
    }
}

impl Run {
    /// Sends a request: its number is decided now, its response lands later.
    pub async fn request(&mut self, items: Vec<Served>) {
        let request = self.landing.number_request(&self.ledger.client).await.unwrap();
        self.waiting = Some(Response { request, items });
    }

    /// Ends at once: dropping a connection takes time.
    pub async fn end(self) {
        let unlock = "SELECT pg_advisory_unlock_all()";
        self.ledger.client.query_one(unlock, &[]).await.unwrap();
    }

    pub async fn land(&mut self) -> Option<Response> {
        let response = self.waiting.take()?;
        self.landing
            .land(&mut self.ledger, &response.page(&self.schema), response.request, None)
            .await
            .unwrap();
        Some(response)
    }
}

pub struct Random(TestRng);

impl Random {
    pub fn new() -> Self {
        let seed = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
        println!("seed {seed:?}");
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    pub fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
