//! Starts the polling thread.

use std::sync::{
    Arc,
    mpsc::{Sender, channel},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use userpipeline_stores::{StoreError, error::KAFKA_FAILED, wire::Fingerprint};

use super::{
    assignments::Assignments, committer::Committer, event::Event, fetcher::Fetcher, group::Group, hand_over::HandOver, poller::Poller,
    rebalance::Consumer,
};
use crate::{
    context::WorkerContext,
    progress::{OwnerTokens, ProgressTable},
    run::batch::{Batch, WRITERS},
};

/// A running consumer.
pub struct Consuming {
    /// Batches to write, for each writer.
    pub batches: Vec<mpsc::Receiver<Batch>>,
    /// For the outcomes of batches, and the end of the session.
    pub events: Sender<Event>,
    /// How it ended: well where the worker is to stop.
    pub ended: oneshot::Receiver<Result<(), StoreError>>,
    /// For requests to the brokers.
    pub consumer: Arc<Consumer>,
    /// The mounted files that the consumer was opened with.
    pub opened_with: Fingerprint,
}

/// Joins the group and starts to consume.
pub fn start(
    context: &Arc<WorkerContext>,
    table: &ProgressTable,
    tokens: &Arc<OwnerTokens>,
    stop: &CancellationToken,
) -> Result<Consuming, StoreError> {
    let group = Group::join(context)?;
    let (senders, batches) = (0..WRITERS).map(|_| mpsc::channel(1)).unzip();
    let (events, inbox) = channel();
    let (end, ended) = oneshot::channel();
    let poller = Poller {
        assignments: Assignments::new(context, &group, table, tokens, &events),
        fetcher: Fetcher::new(context, &group),
        committer: Committer::new(context, &group, &events),
        hand_over: HandOver::new(senders),
        context: Arc::clone(context),
        group: group.clone(),
        inbox,
        stop: stop.clone(),
    };
    let span = tracing::Span::current();
    std::thread::Builder::new()
        .name("poll".to_owned())
        .spawn(move || {
            let _entered = span.entered();
            // The receiver is gone only where the process ends.
            let _ = end.send(poller.run());
        })
        .map_err(|e| StoreError::transient(KAFKA_FAILED, format!("no thread to poll Kafka with: {e}")))?;
    Ok(Consuming {
        batches,
        events,
        ended,
        consumer: group.consumer,
        opened_with: group.opened_with,
    })
}
