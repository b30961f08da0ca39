//! The consumer: a thread of its own that polls, so that the group never takes a worker that waits for a store for dead.
//!
//! It hands one batch at a time to the writer and gathers the next meanwhile; when that is full too, nothing more is taken from the
//! partitions' queues, librdkafka fetches no more than these hold, and polling goes on.

mod assignment;
mod buffer;
mod claim;
mod commit;
mod queues;
mod rebalance;
mod start_offset;
mod thread;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
};

use rdkafka::{ClientConfig, config::FromClientConfigAndContext, consumer::Consumer as _};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use userpipeline_stores::{
    StoreError,
    error::KAFKA_FAILED,
    kafka::{client_config, errors},
};

pub use self::{claim::ends, rebalance::Consumer};
use self::{rebalance::Context, start_offset::Start, thread::Poller};
use crate::{
    batch::Batch,
    ownership::Ownership,
    shared::Shared,
    write::{Written, progress::Rows},
};

/// What the thread is told.
pub enum Event {
    /// Partitions were claimed, or could not be: with the request's number, for an answer may come too late.
    Claimed(u64, Result<Vec<(i32, Start)>, StoreError>),
    /// A batch is done with.
    Written(Written),
    /// Offsets were committed, or could not be.
    Committed(BTreeMap<i32, i64>, bool),
    /// Something was fetched for a partition of which nothing was there.
    Fetched,
    /// The session is over: leave the group.
    End(StoreError),
}

/// A consumer at work.
pub struct Consuming {
    /// Batches to write.
    pub batches: mpsc::Receiver<Batch>,
    /// Where to say what came of them.
    pub events: Sender<Event>,
    /// How it ended: well where the worker is to stop.
    pub ended: oneshot::Receiver<Result<(), StoreError>>,
    /// For questions to the brokers.
    pub consumer: Arc<Consumer>,
}

/// Joins the group and begins to consume.
pub fn start(shared: &Arc<Shared>, rows: &Rows, ownership: &Arc<Ownership>, stop: &CancellationToken) -> Result<Consuming, StoreError> {
    let pipeline = &shared.pipeline;
    let refused = |e| errors::explain("no consumer for spec.kafka.bootstrapServers", &e);
    let consumer = Consumer::from_config_and_context(
        &config(&pipeline.bootstrap_servers, &pipeline.group_id, &shared.instance),
        Context::default(),
    )
    .map_err(refused)?;
    consumer.subscribe(&[&pipeline.topic]).map_err(refused)?;
    let consumer = Arc::new(consumer);
    let (batch_sender, batches) = mpsc::channel(1);
    let (events, inbox) = channel();
    let (end, ended) = oneshot::channel();
    let poller = Poller::new(
        Arc::clone(shared),
        Arc::clone(&consumer),
        rows.clone(),
        Arc::clone(ownership),
        stop.clone(),
        batch_sender,
        inbox,
        events.clone(),
    );
    let span = tracing::Span::current();
    std::thread::Builder::new()
        .name("poll".to_owned())
        .spawn(move || {
            let _entered = span.entered();
            // Nobody listens any more only where the process ends.
            let _ = end.send(poller.run());
        })
        .map_err(|e| StoreError::transient(KAFKA_FAILED, format!("no thread to poll Kafka with: {e}")))?;
    Ok(Consuming {
        batches,
        events,
        ended,
        consumer,
    })
}

fn config(brokers: &str, group: &str, instance: &str) -> ClientConfig {
    let mut config = client_config(brokers, instance);
    config
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        // Each partition is assigned with its offset; one that is gone is an error, never a silent leap.
        .set("auto.offset.reset", "error")
        // A worker that was killed is replaced after this long.
        .set("session.timeout.ms", "20000")
        .set("enable.partition.eof", "true")
        // New partitions are found soon.
        .set("topic.metadata.refresh.interval.ms", "30000")
        // What is fetched ahead bounds the memory; each partition has a queue of its own. By number too, for the client's own structures
        // are many times as large as small messages.
        .set("queued.max.messages.kbytes", "512")
        .set("queued.min.messages", "1000")
        .set("fetch.message.max.bytes", "65536")
        .set("fetch.max.bytes", "1048576")
        // A full queue is looked at again this soon; the default is a second, in which a small one runs dry.
        .set("fetch.queue.backoff.ms", "10");
    config
}
