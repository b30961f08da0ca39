//! Takes over assigned partitions: fences their previous owners, and finds out where to start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use userpipeline_stores::{
    StoreError,
    error::{KAFKA_FAILED, POSTGRES_UNREACHABLE},
    postgres,
};
use uuid::Uuid;

use super::{
    offsets,
    rebalance::Consumer,
    start_offset::{Known, Start, first, start},
};
use crate::{
    context::WorkerContext,
    progress::{ProgressTable, TakenOver},
};

/// Longer than a previous owner's idle transaction can hold the rows.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Takes over partitions for `owner`.
pub async fn take_over(
    context: Arc<WorkerContext>,
    consumer: Arc<Consumer>,
    table: ProgressTable,
    partitions: Vec<i32>,
    owner: Uuid,
) -> Result<Vec<(i32, Start)>, StoreError> {
    let topic = table.topic.clone();
    let known = tokio::task::spawn_blocking(move || offsets::known(&consumer, &topic, &partitions)).await;
    let known = known.map_err(|e| StoreError::transient(KAFKA_FAILED, format!("asking Kafka for offsets broke off: {e}")))?;
    let known = match known {
        Ok(known) => known,
        Err(e) => return Err(context.kafka.locate(e).await),
    };
    let recording = record_owner(&context, &table, &known, owner);
    let (taken_over, recreated) = tokio::time::timeout(TIMEOUT, recording).await.map_err(|_| {
        let message = "PostgreSQL (spec.postgres) did not answer while partitions were taken over";
        StoreError::transient(POSTGRES_UNREACHABLE, message)
    })??;
    let starts = known.iter().map(|(partition, known)| {
        // A row that was inserted here has nothing that Kafka does not have.
        let recorded = taken_over
            .rows
            .get(partition)
            .filter(|(_, inserted)| !inserted)
            .map(|(next, _)| *next);
        let known = Known {
            recorded,
            recreated: recreated.contains(partition),
            ..*known
        };
        (*partition, start(&known))
    });
    Ok(starts.collect())
}

/// On a connection of its own: a batch that cannot be written must not block it.
async fn record_owner(
    context: &WorkerContext,
    table: &ProgressTable,
    known: &BTreeMap<i32, Known>,
    owner: Uuid,
) -> Result<(TakenOver, BTreeSet<i32>), StoreError> {
    let client = context.postgres.connect(&context.instance).await?;
    let explain = |e| postgres::explain("taking partitions over in userpipeline.progress", &e);
    let recreated = table.recreated(&client).await.map_err(explain)?;
    let first_offset = |(partition, known): (&i32, &Known)| {
        let known = Known {
            recreated: recreated.contains(partition),
            ..*known
        };
        (*partition, first(&known))
    };
    let first_offsets = known.iter().map(first_offset).collect();
    let taken_over = table.take_over(&client, &first_offsets, owner).await.map_err(explain)?;
    Ok((taken_over, recreated))
}
