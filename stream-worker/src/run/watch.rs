//! Watches what no batch reveals: the lag of the partitions, whether the stores answer, and whether the topic is still the
//! same.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use rdkafka::consumer::Consumer as _;
use tokio_postgres::Client;
use userpipeline_stores::{
    StoreError,
    error::{KAFKA_FAILED, POSTGRES_UNREACHABLE, TOPIC_MISSING},
    kafka::{admin, errors},
    postgres,
    wire::Fingerprint,
};

use super::consume::{Consumer, ends};
use crate::{context::WorkerContext, progress, sinks::HealthCheck, status::Trouble};

/// Offsets are listed this often.
const LIST: Duration = Duration::from_secs(3);
/// The other checks run after this many listings.
const TOTALS: u32 = 2;
const SINKS: u32 = 4;
const TOPIC: u32 = 10;
/// Bounds each check.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Watches until the worker must rejoin the group; returns why. `checks` are those of the sinks, with their names.
pub async fn watch(
    context: &Arc<WorkerContext>,
    consumer: &Arc<Consumer>,
    topic_id: &str,
    checks: &[(&'static str, Box<dyn HealthCheck>)],
) -> StoreError {
    let mut ticks = tokio::time::interval(LIST);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut client = None;
    let mut failures = 0;
    for tick in 0_u32.. {
        ticks.tick().await;
        match list(context, consumer).await {
            Ok(()) => {
                failures = 0;
                context.status.clear(Trouble::Kafka);
            }
            // One failure may be a move of a partition's leader.
            Err(error) => {
                failures += 1;
                if failures > 1 {
                    context.status.trouble(Trouble::Kafka, &error);
                }
            }
        }
        if let Some(partition) = context.status.stalled(Instant::now()) {
            return StoreError::transient(
                KAFKA_FAILED,
                format!("partition {partition} has messages and delivers none: rejoining the group"),
            );
        }
        if tick % TOTALS == 0 {
            report(context, Trouble::Bookkeeping, totals(context, &mut client).await);
        }
        if tick % SINKS == 0 {
            for (sink, check) in checks {
                report(context, Trouble::Sink(sink), check.check().await);
            }
        }
        if tick % TOPIC == TOPIC - 1
            && let Err(error) = topic(context, consumer, topic_id).await
        {
            return error;
        }
    }
    unreachable!("there are more ticks than time")
}

fn report(context: &WorkerContext, trouble: Trouble, result: Result<(), StoreError>) {
    match result {
        Ok(()) => context.status.clear(trouble),
        Err(error) => context.status.trouble(trouble, &error),
    }
}

async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|e| StoreError::transient(KAFKA_FAILED, format!("a question to Kafka broke off: {e}")))?
}

async fn list(context: &Arc<WorkerContext>, consumer: &Arc<Consumer>) -> Result<(), StoreError> {
    let asked_at = Timestamp::now();
    let (consumer, topic, partitions) = (Arc::clone(consumer), context.pipeline.topic.clone(), context.status.partitions());
    let listed = blocking(move || {
        if partitions.is_empty() {
            // A worker without partitions has nothing to list, but must know whether brokers are there.
            let asked = consumer.fetch_metadata(Some(&topic), Duration::from_secs(5));
            return asked
                .map(|_| BTreeMap::new())
                .map_err(|e| errors::explain("asking for the topic", &e));
        }
        ends(&consumer, &topic, &partitions)
    })
    .await;
    let listed = match listed {
        Ok(listed) => listed,
        Err(e) => return Err(context.kafka.locate(e).await),
    };
    context.status.ends(&listed, asked_at, Instant::now());
    Ok(())
}

async fn totals(context: &WorkerContext, client: &mut Option<(Client, Fingerprint)>) -> Result<(), StoreError> {
    let pipeline = &context.pipeline;
    let wire = context.postgres.wire();
    if client
        .as_ref()
        .is_none_or(|(client, opened_with)| client.is_closed() || wire.is_rotated(opened_with))
    {
        *client = Some(context.postgres.open(&context.instance).await?);
    }
    let Some((connected, _)) = client else { return Ok(()) };
    let id = pipeline.id.to_string();
    let asking = progress::totals(connected, &pipeline.group_id, &id, pipeline.postgres_table.as_deref());
    let asked = tokio::time::timeout(TIMEOUT, asking).await;
    let answer = match asked {
        Ok(answer) => answer.map_err(|e| postgres::explain("reading userpipeline.progress", &e)),
        Err(_) => Err(StoreError::transient(POSTGRES_UNREACHABLE, "PostgreSQL does not answer")),
    };
    if answer.is_err() {
        *client = None;
    }
    answer.map(|totals| context.status.totals(totals))
}

/// Whether the topic still exists with the same id. That no broker answers is reported elsewhere.
async fn topic(context: &Arc<WorkerContext>, consumer: &Arc<Consumer>, id: &str) -> Result<(), StoreError> {
    let (consumer, name) = (Arc::clone(consumer), context.pipeline.topic.clone());
    let Ok(found) = blocking(move || admin::describe_topic(consumer.client(), &name)).await else {
        return Ok(());
    };
    let name = &context.pipeline.topic;
    match found {
        None => Err(StoreError::configuration(
            TOPIC_MISSING,
            format!("topic `{name}` (spec.kafka.topic.name) is no longer there"),
        )),
        Some(found) if found.id != id => Err(StoreError::transient(
            TOPIC_MISSING,
            format!("topic `{name}` (spec.kafka.topic.name) was deleted and re-created"),
        )),
        Some(found) => {
            context.status.topic_partitions(found.partitions);
            Ok(())
        }
    }
}
