//! A queue of what was fetched for each partition, looked at in turn: one with a backlog does not keep the others waiting.
//!
//! librdkafka forwards all partitions to one queue by default. When that is full, it stops fetching for all of them, and begins with
//! the same one afterwards; so the others could wait until that has no backlog any more.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::Sender},
    time::Duration,
};

use rdkafka::consumer::base_consumer::PartitionQueue;

use super::{
    Event,
    rebalance::{Consumer, Context},
};

/// A partition's queue.
pub(super) type Queue = Arc<PartitionQueue<Context>>;

/// The queues of the partitions that are ours.
#[derive(Default)]
pub(super) struct Queues {
    queues: BTreeMap<i32, Queue>,
    /// The partition that is looked at first, if it is there.
    first: i32,
}

impl Queues {
    /// Gives a partition a queue of its own; false where librdkafka does not know it. To be called before it is assigned: what was
    /// fetched earlier would be on the consumer's queue. Whenever the queue is no longer empty, it says so to the inbox.
    pub(super) fn split(&mut self, consumer: &Arc<Consumer>, topic: &str, partition: i32, inbox: &Sender<Event>) -> bool {
        // An older one would take the callback along when it goes.
        self.queues.remove(&partition);
        let Some(mut queue) = consumer.split_partition_queue(topic, partition) else {
            return false;
        };
        let inbox = inbox.clone();
        queue.set_nonempty_callback(move || {
            // The thread is gone only where nobody takes anything any more.
            let _ = inbox.send(Event::Fetched);
        });
        self.queues.insert(partition, Arc::new(queue));
        true
    }

    /// A partition is no longer assigned. What was fetched of it would stay where it is, as nobody looks there any more.
    pub(super) fn forget(&mut self, partition: i32) {
        if let Some(queue) = self.queues.remove(&partition) {
            while queue.poll(Duration::ZERO).is_some() {}
        }
    }

    /// No partition is ours. Each queue holds on to the consumer, which cannot be closed before.
    pub(super) fn clear(&mut self) {
        self.queues.clear();
    }

    /// All queues, in their turn.
    pub(super) fn in_turn(&self) -> Vec<(i32, Queue)> {
        in_turn(&self.queues, self.first)
    }

    /// The next round begins with the one behind this one.
    pub(super) fn begin_behind(&mut self, partition: i32) {
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
    fn a_round_begins_anywhere_and_has_everyone_in_it() {
        let all: BTreeMap<i32, char> = [(1, 'a'), (4, 'b'), (7, 'c')].into();
        for (first, expected) in [(0, "abc"), (1, "abc"), (2, "bca"), (7, "cab"), (8, "abc")] {
            let order: String = in_turn(&all, first).into_iter().map(|(_, one)| one).collect();
            assert_eq!(order, expected, "from {first}");
        }
    }
}
