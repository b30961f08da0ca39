//! Looks after what nobody else notices while nothing is written: how far behind the partitions are, whether the stores
//! answer, and whether the topic is still the same.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use rdkafka::consumer::Consumer as _;
use userpipeline_stores::{
    StoreError,
    error::{CASSANDRA_UNREACHABLE, KAFKA_FAILED, TOPIC_MISSING},
    kafka::{admin, admin::unreachable_at, errors},
    postgres,
};

use crate::{
    consume::{Consumer, ends},
    report::Trouble,
    shared::Shared,
    write::{postgres as sink, progress},
};

/// Offsets are listed this often.
const LIST: Duration = Duration::from_secs(3);
/// The other questions are asked each time after so many listings.
const TOTALS: u32 = 2;
const CASSANDRA: u32 = 4;
const TOPIC: u32 = 10;
/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Watches until the group must be joined anew; the result says why.
pub async fn watch(shared: &Arc<Shared>, consumer: &Arc<Consumer>, topic_id: &str) -> StoreError {
    let mut ticks = tokio::time::interval(LIST);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut client = None;
    let mut failures = 0;
    for tick in 0_u32.. {
        ticks.tick().await;
        match list(shared, consumer).await {
            Ok(()) => {
                failures = 0;
                shared.status.clear(Trouble::Kafka);
            }
            // A broker that moves a partition's leadership is no trouble yet.
            Err(error) => {
                failures += 1;
                if failures > 1 {
                    shared.status.trouble(Trouble::Kafka, &error);
                }
            }
        }
        if let Some(partition) = shared.status.stalled(Instant::now()) {
            return StoreError::transient(
                KAFKA_FAILED,
                format!("partition {partition} has messages and delivers none: joining the group anew"),
            );
        }
        if tick % TOTALS == 0 {
            tell(shared, Trouble::Postgres, totals(shared, &mut client).await);
        }
        if tick % CASSANDRA == 0 {
            tell(shared, Trouble::Cassandra, cassandra(shared).await);
        }
        if tick % TOPIC == TOPIC - 1
            && let Err(error) = topic(shared, consumer, topic_id).await
        {
            return error;
        }
    }
    unreachable!("there are more ticks than time")
}

fn tell(shared: &Shared, trouble: Trouble, result: Result<(), StoreError>) {
    match result {
        Ok(()) => shared.status.clear(trouble),
        Err(error) => shared.status.trouble(trouble, &error),
    }
}

async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|e| StoreError::transient(KAFKA_FAILED, format!("a question to Kafka broke off: {e}")))?
}

async fn list(shared: &Arc<Shared>, consumer: &Arc<Consumer>) -> Result<(), StoreError> {
    let asked_at = Timestamp::now();
    let (consumer, topic, partitions) = (Arc::clone(consumer), shared.pipeline.topic.clone(), shared.status.partitions());
    let listed = blocking(move || {
        if partitions.is_empty() {
            // A worker without partitions has nothing to list, but must know whether brokers are there.
            let asked = consumer.fetch_metadata(Some(&topic), Duration::from_secs(5));
            return asked
                .map(|_| std::collections::BTreeMap::new())
                .map_err(|e| errors::explain("asking for the topic", &e));
        }
        ends(&consumer, &topic, &partitions)
    })
    .await
    .map_err(|e| unreachable_at(&shared.pipeline.bootstrap_servers, e))?;
    shared.status.ends(&listed, asked_at, Instant::now());
    Ok(())
}

async fn totals(
    shared: &Shared,
    client: &mut Option<(tokio_postgres::Client, userpipeline_stores::Credentials)>,
) -> Result<(), StoreError> {
    let pipeline = &shared.pipeline;
    let credentials = sink::credentials(&pipeline.postgres, &shared.secrets)?;
    if client
        .as_ref()
        .is_none_or(|(client, with)| client.is_closed() || *with != credentials)
    {
        *client = Some((
            postgres::connect(&pipeline.postgres, &shared.secrets, &shared.instance).await?,
            credentials,
        ));
    }
    let Some((connected, _)) = client else { return Ok(()) };
    let asked = tokio::time::timeout(TIMEOUT, progress::totals(connected, &pipeline.group_id, &pipeline.id.to_string())).await;
    let answer = match asked {
        Ok(answer) => answer.map_err(|e| postgres::explain("reading userpipeline.progress", &e)),
        Err(_) => Err(StoreError::transient(
            userpipeline_stores::error::POSTGRES_UNREACHABLE,
            "PostgreSQL does not answer",
        )),
    };
    if answer.is_err() {
        *client = None;
    }
    answer.map(|totals| shared.status.totals(totals))
}

async fn cassandra(shared: &Shared) -> Result<(), StoreError> {
    // While there is no session the writer is about to open one, and says how that goes.
    let Some(session) = shared.session() else { return Ok(()) };
    let asked = tokio::time::timeout(TIMEOUT, session.query_unpaged("SELECT key FROM system.local", ())).await;
    match asked {
        Ok(answer) => answer
            .map(drop)
            .map_err(|e| userpipeline_stores::cassandra::explain("asking Cassandra", &e)),
        Err(_) => Err(StoreError::transient(CASSANDRA_UNREACHABLE, "Cassandra does not answer")),
    }
}

/// Whether the topic is there and the same. Where nobody answers, that is for others to say.
async fn topic(shared: &Arc<Shared>, consumer: &Arc<Consumer>, id: &str) -> Result<(), StoreError> {
    let (consumer, name) = (Arc::clone(consumer), shared.pipeline.topic.clone());
    let Ok(found) = blocking(move || admin::describe_topic(consumer.client(), &name)).await else {
        return Ok(());
    };
    let name = &shared.pipeline.topic;
    match found {
        None => Err(StoreError::configuration(
            TOPIC_MISSING,
            format!("topic `{name}` (spec.kafka.topic.name) is no longer there"),
        )),
        Some(found) if found.id != id => Err(StoreError::transient(
            TOPIC_MISSING,
            format!("topic `{name}` (spec.kafka.topic.name) was deleted and made anew"),
        )),
        Some(found) => {
            shared.status.topic_partitions(found.partitions);
            Ok(())
        }
    }
}
