//! Landing decides versions: whatever the order in which responses land, the stores end with the state that the rule names.

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
use uuid::Uuid;

use crate::{
    model::{Response, Served, expected, schema},
    server::Server,
};

const KEYS: u64 = 2;
const TRIALS: usize = 24;

/// A pipeline of its own, with its landing table. The names begin as those that the sweep of test data deletes.
struct Pipeline<'a> {
    server: &'a Server,
    name: String,
    table: String,
}

/// An active run, and the response that it has not landed yet.
struct Run {
    landing: Landing,
    ledger: Ledger,
    waiting: Option<Response>,
}

impl<'a> Pipeline<'a> {
    async fn create(server: &'a Server) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let (name, table) = (format!("e2e-wires/{id}"), format!("e2e_wires_{id}"));
        server.connect().await.batch_execute(&schema().landing_ddl(&table)).await.unwrap();
        Self { server, name, table }
    }

    async fn start(&self) -> Run {
        let run = run_id::Run::of(&RunArguments::default(), None, Timestamp::now());
        let opened = ledger::open(self.server.connection(), &self.name, &run, "wires").await.unwrap();
        let Opened::Run(ledger) = opened else {
            panic!("{} has the run {} already", self.name, run.id)
        };
        Run {
            landing: Landing::prepare(&ledger.client, &self.name, &self.table, &schema()).await.unwrap(),
            ledger: *ledger,
            waiting: None,
        }
    }

    /// Publishes what is pending to a model of a store, in which a greater version wins.
    async fn publish(&self, client: &Client, store: &mut BTreeMap<i64, (i64, Option<String>)>) {
        let pending = format!(
            "UPDATE \"{}\" SET _published_version = _version WHERE _published_version IS DISTINCT FROM _version \
             RETURNING id, _version, _deleted, content",
            self.table
        );
        for row in client.query(&pending, &[]).await.unwrap() {
            let (key, version, deleted): (i64, i64, bool) = (row.get(0), row.get(1), row.get(2));
            let content: Option<String> = row.get::<_, Option<String>>(3).filter(|_| !deleted);
            let before = store.get(&key).map_or(0, |(version, _)| *version);
            assert_ne!(before, version, "two states of record {key} have the version {version}");
            if version > before {
                store.insert(key, (version, content));
            }
        }
    }

    async fn expire(&self, client: &Client) {
        client
            .query_one(&schema().landing_expire(&self.table), &[&-1_f64, &1000_i64])
            .await
            .unwrap();
    }

    async fn drop(self, client: &Client) {
        client.batch_execute(&format!("DROP TABLE \"{}\"", self.table)).await.unwrap();
        for (table, column, value) in [("runs", "pipeline", &self.name), ("expired_versions", "table_name", &self.table)] {
            let statement = format!("DELETE FROM userpipeline.{table} WHERE {column} = $1");
            client.execute(&statement, &[value]).await.unwrap();
        }
    }
}

impl Run {
    /// Sends a request: its number is decided now, its response lands later.
    async fn request(&mut self, items: Vec<Served>) {
        let request = self.landing.number_request(&self.ledger.client).await.unwrap();
        self.waiting = Some(Response { request, items });
    }

    /// Ends at once: dropping a connection takes time.
    async fn end(self) {
        let unlock = "SELECT pg_advisory_unlock_all()";
        self.ledger.client.query_one(unlock, &[]).await.unwrap();
    }

    async fn land(&mut self) -> Option<Response> {
        let response = self.waiting.take()?;
        self.landing
            .land(&mut self.ledger, &response.page(), response.request, None)
            .await
            .unwrap();
        Some(response)
    }
}

struct Random(TestRng);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Some items with few values of `orderBy`.
    fn items(&mut self, serial: &mut u64, orders: [i64; 3]) -> Vec<Served> {
        let count = 1 + self.below(4);
        let item = |_| {
            *serial += 1;
            let content = if self.is(60) { "same".to_owned() } else { serial.to_string() };
            Served {
                key: i64::try_from(self.below(KEYS)).unwrap(),
                order: orders[usize::try_from(self.below(3)).unwrap()],
                content,
                deleted: self.is(10),
            }
        };
        (0..count).map(item).collect()
    }
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn stores_end_with_the_state_that_the_rule_names_whatever_the_order_in_which_responses_land() {
    let server = Server::from_env();
    server.create_bookkeeping().await;
    let client = server.connect().await;
    let seed = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
    println!("seed {seed:?}");
    let mut random = Random(TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let mut serial = 0;
    for trial in 0..TRIALS {
        let pipeline = Pipeline::create(&server).await;
        let (mut landed, mut store) = (Vec::new(), BTreeMap::new());
        // Of a row that expired, only the version is known, which has milliseconds.
        let expires = trial % 2 == 1;
        let orders = if expires { [1_000, 2_000, 3_000] } else { [1_000, 1_001, 2_000] };
        let mut runs = vec![pipeline.start().await];
        for _ in 0..30 {
            let i = usize::try_from(random.below(u64::try_from(runs.len()).unwrap())).unwrap();
            match random.below(10) {
                0 | 3 if runs.len() < 3 => runs.push(pipeline.start().await),
                // A run that ends, or fails before it has landed its page.
                1 if runs.len() > 1 => drop(runs.remove(i)),
                2 if expires && runs.iter().all(|run| run.waiting.is_none()) => pipeline.expire(&client).await,
                _ if runs[i].waiting.is_none() => runs[i].request(random.items(&mut serial, orders)).await,
                _ => landed.extend(runs[i].land().await),
            }
            if random.is(50) {
                pipeline.publish(&client, &mut store).await;
            }
        }
        pipeline.publish(&client, &mut store).await;
        let found: BTreeMap<i64, Option<String>> = store.into_iter().map(|(key, (_, content))| (key, content)).collect();
        assert_eq!(found, expected(&landed), "trial {trial}: {landed:#?}");
        drop(runs);
        pipeline.drop(&client).await;
    }
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn a_response_does_not_replace_one_that_was_requested_later_and_changed_nothing() {
    let server = Server::from_env();
    server.create_bookkeeping().await;
    let client = server.connect().await;
    let pipeline = Pipeline::create(&server).await;
    let item = |content: &str| Served {
        key: 1,
        order: 1_000,
        content: content.into(),
        deleted: false,
    };
    let (mut early, mut late) = (pipeline.start().await, pipeline.start().await);
    late.request(vec![item("a")]).await;
    late.land().await;
    early.request(vec![item("b")]).await;
    late.request(vec![item("a")]).await;
    late.land().await;
    late.end().await;
    early.land().await;
    let select = format!("SELECT content FROM \"{}\"", pipeline.table);
    let row = client.query_one(&select, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "a");
    // Alone, an unchanged record is not written.
    early.request(vec![item("a")]).await;
    let before = row_id(&client, &pipeline).await;
    early.land().await;
    assert_eq!(row_id(&client, &pipeline).await, before);
    drop(early);
    pipeline.drop(&client).await;
}

/// Changes with each write of the row.
async fn row_id(client: &Client, pipeline: &Pipeline<'_>) -> String {
    let select = format!("SELECT ctid::text FROM \"{}\"", pipeline.table);
    client.query_one(&select, &[]).await.unwrap().get(0)
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn a_row_of_an_earlier_version_and_an_unchanged_record_cost_no_version() {
    let server = Server::from_env();
    server.create_bookkeeping().await;
    let client = server.connect().await;
    let pipeline = Pipeline::create(&server).await;
    // As an earlier version of this program landed it: the version is the value of orderBy.
    let old = format!(
        "INSERT INTO \"{}\" (id, at, content, _raw, _version, _published_version, _run_id) \
         VALUES (1, '2024-01-02T10:11:12.001Z', 'a', '{{}}', 1704190272001000, 1704190272001000, 'old')",
        pipeline.table
    );
    client.batch_execute(&old).await.unwrap();
    let item = |order, content: &str| Served {
        key: 1,
        order,
        content: content.into(),
        deleted: false,
    };
    let mut run = pipeline.start().await;
    let select = format!("SELECT _version, content FROM \"{}\"", pipeline.table);
    for (order, content, landed, version) in [
        // The same, and the same with digits that an earlier version did not compare.
        (1_000, "a", 0, 1_704_190_272_001_000_i64),
        (1_456, "a", 0, 1_704_190_272_001_000),
        (1_456, "b", 1, 1_704_190_272_001_001),
        (1_456, "b", 0, 1_704_190_272_001_001),
        (1_455, "c", 0, 1_704_190_272_001_001),
        (1_457, "b", 0, 1_704_190_272_001_001),
        (1_456, "c", 0, 1_704_190_272_001_001),
        (1_457, "d", 1, 1_704_190_272_001_002),
        (3_000, "d", 1, 1_704_190_272_003_000),
    ] {
        let before = run.ledger.counts.landed;
        run.request(vec![item(order, content)]).await;
        run.land().await;
        let row = client.query_one(&select, &[]).await.unwrap();
        assert_eq!(run.ledger.counts.landed - before, landed, "{order} {content}");
        assert_eq!(row.get::<_, i64>(0), version, "{order} {content}");
    }
    drop(run);
    pipeline.drop(&client).await;
}
