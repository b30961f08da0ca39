//! A worker that loses PostgreSQL at any message of a batch leaves all of the batch or nothing, and the totals of what is left.

use stream_worker::model::Write;

use crate::{
    proxy::{Cut, Proxy},
    store::{Store, address},
    versions::{Random, expected},
};

/// Before the cuts, and of each batch.
const BEFORE: i64 = 40;
const BATCH: i64 = 6;
/// More than what a worker sends for a batch.
const MOST: usize = 100;

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn a_batch_that_is_cut_off_at_any_message_to_postgresql_is_stored_whole_or_not_at_all() {
    let mut random = Random::new();
    let store = Store::create().await;
    let mut writer = store.writer(address()).await;
    let mut messages: Vec<Write> = (0..BEFORE).map(|offset| random.message(offset)).collect();
    writer.attempt(&messages, true).await.unwrap();
    let mut cuts = 0;
    for cut in (0..MOST).flat_map(|number| [Cut::Before(number), Cut::After(number)]) {
        // Given the next batch, and a connection that ends at one of its messages
        let (old, from) = (store.rows().await, messages.len());
        let next = i64::try_from(from).unwrap();
        messages.extend((next..next + BATCH).map(|offset| random.message(offset)));
        // Without a message that wins, nothing would be written.
        messages.push(random.newest(next + BATCH));
        let new = expected(&messages);
        let proxy = Proxy::start(address()).await;
        let mut interrupted = store.writer(proxy.address()).await;
        proxy.set(cut);

        // When the batch is written
        let outcome = interrupted.attempt(&messages[from..], true).await;

        // Then it is stored whole or not at all, and certainly whole if the worker saw no error
        let rows = store.rows().await;
        assert!(rows == old || rows == new, "{cut:?}: {rows:?} is neither {old:?} nor {new:?}");
        assert!(outcome.is_err() || rows == new, "{cut:?}: {rows:?}, and not {new:?}");
        if !proxy.has_cut() {
            break;
        }
        cuts += 1;

        // When the next worker repeats it, Then it is stored once
        writer.attempt(&messages[from..], true).await.unwrap();
        assert_eq!(store.rows().await, new, "{cut:?}");
    }
    println!("{cuts} cuts");
    assert!((8..2 * MOST).contains(&cuts), "{cuts} cuts");
    store.drop().await;
}
