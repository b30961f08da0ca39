//! The worker's life: it listens at once, begins to consume when all stores answer, begins again when that breaks off,
//! and ends on a signal.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use userpipeline_stores::{
    StoreError,
    error::{KAFKA_FAILED, TOPIC_MISSING},
    kafka::admin::{Admin, TopicState},
};

use crate::{
    consume::{self, Event},
    http, lag,
    ownership::Ownership,
    report::Trouble,
    retention,
    retry::Backoff,
    shared::Shared,
    write::{Writer, progress::Rows},
};

/// The worker has ended by then, whatever hangs: Kubernetes' own patience is 30 seconds.
const GRACE: Duration = Duration::from_secs(28);

/// Runs a worker until SIGTERM or SIGINT.
pub async fn run(shared: Arc<Shared>, listen: SocketAddr) -> std::io::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // It goes on answering while the worker drains.
    http::listen(listen, Arc::clone(&shared), CancellationToken::new()).await?;
    tracing::info!(%listen, instance = shared.instance, group = shared.pipeline.group_id, topic = shared.pipeline.topic, "started");
    let mut working = std::pin::pin!(sessions(&shared, &stop));
    tokio::select! {
        () = &mut working => return Ok(()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    if tokio::time::timeout(GRACE, working).await.is_err() {
        tracing::warn!("something hangs: ending without it");
    }
    tracing::info!("ended");
    Ok(())
}

/// One session after the other, until `stop`.
async fn sessions(shared: &Arc<Shared>, stop: &CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let result = Box::pin(session(shared, stop)).await;
        shared.status.consuming(false);
        shared.share_session(None);
        let Err(error) = result else { return };
        shared.status.trouble(Trouble::Session, &error);
        if started.elapsed() > Duration::from_secs(60) {
            backoff.reset();
        }
        let wait = backoff.wait();
        tracing::warn!(reason = error.reason, message = error.message, wait = ?wait, "not consuming");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// From stores that answer to the end of consuming. It ends well only when the worker is to stop.
async fn session(shared: &Arc<Shared>, stop: &CancellationToken) -> Result<(), StoreError> {
    let ownership = Arc::new(Ownership::default());
    let opened = async {
        let topic = topics(shared).await?;
        let rows = Rows {
            group: shared.pipeline.group_id.clone(),
            topic: shared.pipeline.topic.clone(),
            topic_id: topic.id.clone(),
        };
        let writer = Writer::open(Arc::clone(shared), rows.clone(), Arc::clone(&ownership), stop.clone()).await?;
        Ok((topic, rows, writer))
    };
    let (topic, rows, mut writer) = tokio::select! {
        opened = opened => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    shared.status.topic_partitions(topic.partitions);
    let mut consuming = consume::start(shared, &rows, &ownership, stop)?;
    shared.status.clear(Trouble::Session);
    shared.status.consuming(true);

    let (batches, events) = (&mut consuming.batches, &consuming.events);
    let writing = async {
        while let Some(batch) = batches.recv().await {
            // The thread is gone only where the session ends.
            let _ = events.send(Event::Written(writer.write(batch).await));
        }
        std::future::pending::<()>().await;
    };
    let watching = async {
        let error = lag::watch(shared, &consuming.consumer, &topic.id).await;
        let _ = events.send(Event::End(error));
        std::future::pending::<()>().await;
    };
    let keeping = async {
        retention::keep(shared).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = &mut consuming.ended => ended.unwrap_or_else(|_| Err(StoreError::transient(KAFKA_FAILED, "the polling thread broke off"))),
        () = writing => Ok(()),
        () = watching => Ok(()),
        () = keeping => Ok(()),
    }
}

/// Both topics must be there before the group is joined.
async fn topics(shared: &Shared) -> Result<TopicState, StoreError> {
    let pipeline = &shared.pipeline;
    let admin = Admin::new(&pipeline.bootstrap_servers, &shared.instance)?;
    let missing = |topic: &str, field: &str| {
        StoreError::configuration(
            TOPIC_MISSING,
            format!("topic `{topic}` ({field}) is not there; the schema Job makes it"),
        )
    };
    let topic = admin
        .topic(&pipeline.topic)
        .await?
        .ok_or_else(|| missing(&pipeline.topic, "spec.kafka.topic.name"))?;
    admin
        .topic(&pipeline.dead_letter_topic)
        .await?
        .ok_or_else(|| missing(&pipeline.dead_letter_topic, "spec.deadLetter.topic"))?;
    Ok(topic)
}
