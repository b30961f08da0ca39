//! Takes assigned partitions over: fences whoever had them, and finds out where to start.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    consumer::Consumer as _,
    error::KafkaError,
    topic_partition_list::{Offset, TopicPartitionList},
};
use userpipeline_stores::{
    StoreError,
    error::{KAFKA_FAILED, POSTGRES_UNREACHABLE},
    kafka::{admin::unreachable_at, errors},
};
use uuid::Uuid;

use super::{
    rebalance::Consumer,
    start_offset::{Known, Start, first, start},
};
use crate::{
    shared::Shared,
    write::{postgres, progress::Rows},
};

/// The brokers' answer is waited for this long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// And PostgreSQL's: longer than a predecessor's idle transaction can hold the rows.
const CLAIMED: Duration = Duration::from_secs(90);

/// Claims partitions for `owner`.
pub async fn claim(
    shared: Arc<Shared>,
    consumer: Arc<Consumer>,
    rows: Rows,
    partitions: Vec<i32>,
    owner: Uuid,
) -> Result<Vec<(i32, Start)>, StoreError> {
    let topic = rows.topic.clone();
    let facts = tokio::task::spawn_blocking(move || facts(&consumer, &topic, &partitions)).await;
    let facts = facts
        .map_err(|e| StoreError::transient(KAFKA_FAILED, format!("asking Kafka for offsets broke off: {e}")))?
        .map_err(|e| unreachable_at(&shared.pipeline.bootstrap_servers, e))?;
    let initial = |made_anew: &std::collections::BTreeSet<i32>| {
        facts
            .iter()
            .map(|(p, known)| {
                (
                    *p,
                    first(&Known {
                        made_anew: made_anew.contains(p),
                        ..*known
                    }),
                )
            })
            .collect()
    };
    let claiming = postgres::claim(&shared.pipeline.postgres, &shared.secrets, &shared.instance, &rows, initial, owner);
    let (claimed, made_anew) = tokio::time::timeout(CLAIMED, claiming).await.map_err(|_| {
        let message = "PostgreSQL (spec.postgres) did not answer while partitions were taken over";
        StoreError::transient(POSTGRES_UNREACHABLE, message)
    })??;
    Ok(facts
        .iter()
        .map(|(partition, known)| {
            // A row that was made just now knows nothing that Kafka does not.
            let recorded = claimed.rows.get(partition).filter(|(_, inserted)| !inserted).map(|(next, _)| *next);
            (
                *partition,
                start(&Known {
                    recorded,
                    made_anew: made_anew.contains(partition),
                    ..*known
                }),
            )
        })
        .collect())
}

/// What Kafka knows of partitions. Blocks.
fn facts(consumer: &Consumer, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, Known>, StoreError> {
    let committed = consumer
        .committed_offsets(list(topic, partitions), TIMEOUT)
        .map_err(|e| errors::explain("asking Kafka for the group's offsets", &e))?;
    let committed = offsets(&committed, "asking Kafka for the group's offsets")?;
    let low = list_offsets(consumer, topic, partitions, Offset::Beginning)?;
    let high = ends(consumer, topic, partitions)?;
    partitions
        .iter()
        .map(|p| {
            let (Some(&low), Some(&high)) = (low.get(p), high.get(p)) else {
                return Err(StoreError::transient(
                    KAFKA_FAILED,
                    format!("Kafka does not list the offsets of partition {p} of topic `{topic}`"),
                ));
            };
            Ok((
                *p,
                Known {
                    committed: committed.get(p).copied(),
                    recorded: None,
                    low,
                    high,
                    made_anew: false,
                },
            ))
        })
        .collect()
}

/// The offsets behind the last messages, listed by the brokers. Blocks.
pub fn ends(consumer: &Consumer, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, StoreError> {
    list_offsets(consumer, topic, partitions, Offset::End)
}

/// The ranges of offsets that partitions have. Blocks.
pub fn ranges(consumer: &Consumer, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, (i64, i64)>, StoreError> {
    let high = ends(consumer, topic, partitions)?;
    let low = list_offsets(consumer, topic, partitions, Offset::Beginning)?;
    Ok(low.into_iter().filter_map(|(p, low)| Some((p, (low, *high.get(&p)?)))).collect())
}

/// Lists offsets in one request per broker: the times −1 and −2 stand for the end and the beginning.
fn list_offsets(consumer: &Consumer, topic: &str, partitions: &[i32], which: Offset) -> Result<BTreeMap<i32, i64>, StoreError> {
    let what = "asking Kafka for the topic's offsets";
    let explain = |e: KafkaError| errors::explain(what, &e);
    let mut wanted = list(topic, partitions);
    wanted.set_all_offsets(which).map_err(explain)?;
    let listed = consumer.offsets_for_times(wanted, TIMEOUT).map_err(explain)?;
    offsets(&listed, what)
}

fn list(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

fn offsets(list: &TopicPartitionList, what: &str) -> Result<BTreeMap<i32, i64>, StoreError> {
    let mut offsets = BTreeMap::new();
    for element in list.elements() {
        element.error().map_err(|e| errors::explain(what, &e))?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(element.partition(), offset);
        }
    }
    Ok(offsets)
}
