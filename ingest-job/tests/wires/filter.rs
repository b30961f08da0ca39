//! A filter at landing: stores have the records whose newest version passes, and nothing is published of a key that never passed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{OUT, Response, Served, expected, filtered},
    pipeline::{Pipeline, Random, Stored},
    server::Server,
};

const KEYS: u64 = 4;
const TRIALS: usize = 24;

fn items(random: &mut Random, serial: &mut u64, orders: [i64; 3]) -> Vec<Served> {
    let count = 1 + random.below(4);
    let item = |_| {
        *serial += 1;
        let key = i64::try_from(random.below(KEYS)).unwrap();
        // The last key never passes.
        let is_out = key == i64::try_from(KEYS).unwrap() - 1 || random.is(40);
        let content = match (is_out, random.is(50)) {
            (true, _) => OUT.to_owned(),
            (false, true) => "same".to_owned(),
            (false, false) => serial.to_string(),
        };
        Served {
            key,
            order: orders[usize::try_from(random.below(3)).unwrap()],
            content,
            deleted: random.is(10),
        }
    };
    (0..count).map(item).collect()
}

/// Without `orderBy`, what landed last is newest.
fn last_landed(responses: &[Response]) -> BTreeMap<i64, Option<String>> {
    let items = responses.iter().flat_map(|response| &response.items);
    items.map(|served| (served.key, served.stored())).collect()
}

/// The contents that stores must have: those that pass.
fn passing(contents: BTreeMap<i64, Option<String>>) -> BTreeMap<i64, String> {
    let contents = contents.into_iter().filter_map(|(key, content)| Some((key, content?)));
    contents.filter(|(_, content)| content != OUT).collect()
}

fn contents(store: &Stored) -> BTreeMap<i64, String> {
    let contents = store.iter().filter_map(|(key, (_, content))| Some((*key, content.clone()?)));
    contents.collect()
}

/// The keys of which a state passed, or which were deleted by the source without having been filtered before.
fn may_be_published(responses: &[Response]) -> BTreeSet<i64> {
    let items = responses.iter().flat_map(|response| &response.items);
    items
        .filter(|served| served.deleted || served.content != OUT)
        .map(|served| served.key)
        .collect()
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn stores_have_the_records_whose_newest_version_passes() {
    let server = Server::from_env();
    server.create_bookkeeping().await;
    let client = server.connect().await;
    let mut random = Random::new();
    let mut serial = 0;
    for trial in 0..TRIALS {
        // Given a pipeline with a filter, with or without orderBy, whose rows expire or not
        let (is_ordered, expires) = (trial % 2 == 0, trial % 4 > 1);
        let mut pipeline = Pipeline::create(&server, filtered(is_ordered)).await;
        pipeline.loses_marks = true;
        let (mut landed, mut store) = (Vec::new(), Stored::new());
        let orders = if expires { [1_000, 2_000, 3_000] } else { [1_000, 1_001, 2_000] };
        let mut runs = vec![pipeline.start().await];
        let mut is_announced = false;

        // When responses land in any order, marks are lost, and rows expire from some time on
        for step in 0..40 {
            let i = usize::try_from(random.below(u64::try_from(runs.len()).unwrap())).unwrap();
            match random.below(10) {
                0 | 3 if is_ordered && runs.len() < 3 => runs.push(pipeline.start().await),
                1 if runs.len() > 1 => drop(runs.remove(i)),
                2 if expires && step > 10 && runs.iter().all(|run| run.waiting.is_none()) => {
                    if !is_announced {
                        pipeline.announce_expiry(&client).await;
                        is_announced = true;
                    }
                    pipeline.expire(&client).await;
                }
                _ if runs[i].waiting.is_none() => runs[i].request(items(&mut random, &mut serial, orders)).await,
                _ => landed.extend(runs[i].land().await),
            }
            if random.is(50) {
                let marks = random.is(70);
                pipeline.publish(&client, &mut store, marks).await;
            }
        }
        pipeline.publish(&client, &mut store, true).await;

        // Then stores have what passes, and nothing was published of keys that never did
        let newest = if is_ordered { expected(&landed) } else { last_landed(&landed) };
        assert_eq!(contents(&store), passing(newest), "trial {trial}: {landed:#?}");
        if !expires {
            let published: BTreeSet<i64> = store.keys().copied().collect();
            assert!(published.is_subset(&may_be_published(&landed)), "trial {trial}: {landed:#?}");
        }
        drop(runs);
        pipeline.drop(&client).await;
    }
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn a_version_that_does_not_pass_is_counted_and_published_only_if_a_store_may_have_an_earlier_one() {
    let server = Server::from_env();
    server.create_bookkeeping().await;
    let client = server.connect().await;
    let pipeline = Pipeline::create(&server, filtered(true)).await;
    let mut run = pipeline.start().await;
    let item = |order, content: &str| Served {
        key: 1,
        order,
        content: content.into(),
        deleted: content == "gone",
    };
    let state = format!(
        "SELECT _published_version IS NOT DISTINCT FROM _version, _filtered FROM \"{}\"",
        pipeline.table
    );
    let mut store = Stored::new();
    for (order, content, (landed, filtered), is_settled, publish) in [
        // It never passed, with an unchanged and a newer state.
        (1_000, OUT, (1, 1), true, true),
        (1_000, OUT, (0, 0), true, true),
        (2_000, OUT, (1, 1), true, true),
        // It passes, and leaves before it is published: a message may be on the topic although its mark is lost.
        (3_000, "a", (1, 0), false, false),
        (4_000, OUT, (1, 1), false, false),
        // The delete is still pending.
        (5_000, OUT, (1, 1), false, true),
        (6_000, OUT, (1, 1), true, true),
        // A deletion of what no store has.
        (7_000, "gone", (1, 0), true, true),
        (8_000, OUT, (1, 1), true, true),
        // It returns, with an older state that changes nothing, and leaves.
        (9_000, "b", (1, 0), false, true),
        (8_500, OUT, (0, 0), true, true),
        (9_500, OUT, (1, 1), false, true),
    ] {
        let before = run.ledger.counts;
        run.request(vec![item(order, content)]).await;
        run.land().await;
        let counts = (
            run.ledger.counts.landed - before.landed,
            run.ledger.counts.filtered - before.filtered,
        );
        assert_eq!(counts, (landed, filtered), "{order} {content}");
        let row = client.query_one(&state, &[]).await.unwrap();
        assert_eq!(row.get::<_, bool>(0), is_settled, "{order} {content}");
        if publish {
            pipeline.publish(&client, &mut store, true).await;
        }
    }
    assert_eq!(contents(&store), BTreeMap::new());

    // Once rows expire, what was landed without a message follows, and each version that does not pass is pending.
    run.request(vec![item(10_000, OUT)]).await;
    run.land().await;
    assert!(client.query_one(&state, &[]).await.unwrap().get::<_, bool>(0));
    pipeline.announce_expiry(&client).await;
    assert!(!client.query_one(&state, &[]).await.unwrap().get::<_, bool>(0));
    pipeline.publish(&client, &mut store, true).await;
    run.request(vec![item(11_000, OUT)]).await;
    run.land().await;
    assert!(!client.query_one(&state, &[]).await.unwrap().get::<_, bool>(0));
    drop(run);
    pipeline.drop(&client).await;
}
