//! Messages at a steady rate.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use tokio::time::interval;
use userpipeline_tests::stores;
use uuid::Uuid;

use super::{messages::Reading, subject::Subject};

pub const PER_TICK: u64 = 20;
/// 2,000 messages a second.
const TICK: Duration = Duration::from_millis(10);
/// Bounds the wait for the last acknowledgements.
const ACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A message that was produced.
pub struct Produced {
    pub id: Uuid,
    pub begun: Instant,
    /// Since the first message.
    pub elapsed: Duration,
    pub tick: u64,
    /// Its number in the tick.
    pub of_tick: u64,
}

/// Produces new messages, beginning with the number `first`, for so long. `each` is called with each of them
/// and its acknowledgement.
pub async fn steadily(
    subject: &Subject,
    first: &AtomicU64,
    lasting: Duration,
    mut each: impl FnMut(&Produced, DeliveryFuture) -> Result<()>,
) -> Result<()> {
    let producer: FutureProducer = stores::kafka_config().await?.set("acks", "all").create()?;
    let topic = subject.topic();
    let mut ticks = interval(TICK);
    let started = Instant::now();
    for tick in 0.. {
        ticks.tick().await;
        let elapsed = started.elapsed();
        if elapsed > lasting {
            break;
        }
        for of_tick in 0..PER_TICK {
            let reading = Reading::new(first.fetch_add(1, Ordering::Relaxed));
            let (key, value) = (reading.id.to_string(), reading.json());
            let begun = Instant::now();
            let delivery = producer
                .send_result(FutureRecord::to(&topic).key(&key).payload(&value))
                .map_err(|(e, _)| e)?;
            let message = Produced {
                id: reading.id,
                begun,
                elapsed,
                tick,
                of_tick,
            };
            each(&message, delivery)?;
        }
    }
    tokio::task::block_in_place(|| producer.flush(ACKNOWLEDGED))?;
    Ok(())
}
