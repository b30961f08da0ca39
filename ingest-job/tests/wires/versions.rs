//! Landing decides versions: whatever the order in which responses land, the stores end with the state that the rule names.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::{
    model::{Served, expected, schema},
    pipeline::{Pipeline, Random},
    server::Server,
};

const KEYS: u64 = 2;
const TRIALS: usize = 24;

/// Some items with few values of `orderBy`.
fn items(random: &mut Random, serial: &mut u64, orders: [i64; 3]) -> Vec<Served> {
    let count = 1 + random.below(4);
    let item = |_| {
        *serial += 1;
        let content = if random.is(60) { "same".to_owned() } else { serial.to_string() };
        Served {
            key: i64::try_from(random.below(KEYS)).unwrap(),
            order: orders[usize::try_from(random.below(3)).unwrap()],
            content,
            deleted: random.is(10),
        }
    };
    (0..count).map(item).collect()
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn stores_end_with_the_state_that_the_rule_names_whatever_the_order_in_which_responses_land() {
    let server = Server::from_env();
    server.create_bookkeeping().await;
    let client = server.connect().await;
    let mut random = Random::new();
    let mut serial = 0;
    for trial in 0..TRIALS {
        let pipeline = Pipeline::create(&server, schema()).await;
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
                _ if runs[i].waiting.is_none() => runs[i].request(items(&mut random, &mut serial, orders)).await,
                _ => landed.extend(runs[i].land().await),
            }
            if random.is(50) {
                pipeline.publish(&client, &mut store, true).await;
            }
        }
        pipeline.publish(&client, &mut store, true).await;
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
    let pipeline = Pipeline::create(&server, schema()).await;
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
    let pipeline = Pipeline::create(&server, schema()).await;
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
