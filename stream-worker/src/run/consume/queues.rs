//! A queue for each partition, polled in turn: a backlog of one does not block the others.
//!
//! librdkafka forwards all partitions to one queue by default. When that is full, it stops fetching for all of them, and resumes
//! with the same one; the others could wait until it has no backlog.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::Sender},
    time::Duration,
};

use rdkafka::consumer::base_consumer::PartitionQueue;

use super::{
    event::Event,
    rebalance::{Consumer, Context},
};

pub type Queue = Arc<PartitionQueue<Context>>;

#[derive(Default)]
pub struct Queues {
    queues: BTreeMap<i32, Queue>,
    /// The partition that is polled first, if it is assigned.
    first: i32,
}

impl Queues {
    /// Gives a partition its own queue; false where librdkafka does not know the partition. Call it before the assignment: what
    /// was fetched earlier would be on the consumer's queue. A queue that is no longer empty sends an event to the inbox.
    pub fn split(&mut self, consumer: &Arc<Consumer>, topic: &str, partition: i32, inbox: &Sender<Event>) -> bool {
        // Dropped later, the old queue would remove the new callback.
        self.queues.remove(&partition);
        let Some(mut queue) = consumer.split_partition_queue(topic, partition) else {
            return false;
        };
        let inbox = inbox.clone();
        queue.set_nonempty_callback(move || {
            // The receiver is gone only where the thread has ended.
            let _ = inbox.send(Event::Fetched);
        });
        self.queues.insert(partition, Arc::new(queue));
        true
    }

    /// A partition is no longer assigned: discards what was fetched of it.
    pub fn forget(&mut self, partition: i32) {
        if let Some(queue) = self.queues.remove(&partition) {
            while queue.poll(Duration::ZERO).is_some() {}
        }
    }

    pub fn clear(&mut self) {
        self.queues.clear();
    }

    pub fn in_turn(&self) -> Vec<(i32, Queue)> {
        in_turn(&self.queues, self.first)
    }

    /// The next round begins with the partition after this one.
    pub fn begin_after(&mut self, partition: i32) {
        self.first = partition + 1;
    }
}

fn in_turn<T: Clone>(all: &BTreeMap<i32, T>, first: i32) -> Vec<(i32, T)> {
    let pair = |(partition, one): (&i32, &T)| (*partition, one.clone());
    all.range(first..).chain(all.range(..first)).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begins_anywhere_and_has_every_partition() {
        let all: BTreeMap<i32, char> = [(1, 'a'), (4, 'b'), (7, 'c')].into();
        for (first, expected) in [(0, "abc"), (1, "abc"), (2, "bca"), (7, "cab"), (8, "abc")] {
            let order: String = in_turn(&all, first).into_iter().map(|(_, one)| one).collect();
            assert_eq!(order, expected, "from {first}");
        }
    }
}
