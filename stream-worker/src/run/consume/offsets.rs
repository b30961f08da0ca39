//! Offsets, as the brokers list them.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    consumer::Consumer as _,
    error::KafkaError,
    topic_partition_list::{Offset, TopicPartitionList},
};
use userpipeline_stores::{StoreError, error::KAFKA_FAILED, kafka::errors};

use super::{rebalance::Consumer, start_offset::Known};

/// Bounds each request to the brokers.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What Kafka has of partitions: the group's offsets and the topic's ranges. Blocks.
pub fn known(consumer: &Consumer, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, Known>, StoreError> {
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
                    recreated: false,
                },
            ))
        })
        .collect()
}

/// The offsets after the last messages, listed by the brokers. Blocks.
pub fn ends(consumer: &Consumer, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, StoreError> {
    list_offsets(consumer, topic, partitions, Offset::End)
}

/// The first offset and the one after the last message of each partition. Blocks.
pub fn ranges(consumer: &Consumer, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, (i64, i64)>, StoreError> {
    let high = ends(consumer, topic, partitions)?;
    let low = list_offsets(consumer, topic, partitions, Offset::Beginning)?;
    Ok(low.into_iter().filter_map(|(p, low)| Some((p, (low, *high.get(&p)?)))).collect())
}

/// Lists offsets in one request per broker: the times −1 and −2 stand for the end and the beginning.
fn list_offsets(consumer: &Consumer, topic: &str, partitions: &[i32], which: Offset) -> Result<BTreeMap<i32, i64>, StoreError> {
    let what = "asking Kafka for the topic's offsets";
    let explain = |e: KafkaError| errors::explain(what, &e);
    let mut request = list(topic, partitions);
    request.set_all_offsets(which).map_err(explain)?;
    let listed = consumer.offsets_for_times(request, TIMEOUT).map_err(explain)?;
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
