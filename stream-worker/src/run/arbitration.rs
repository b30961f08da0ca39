//! Which messages of an external producer are written, and with which versions. Pure.
//!
//! Messages are taken one after the other, in the order of their partition, so the versions do not depend on how batches are cut: an
//! attempt that failed after Cassandra was written is repeated with the same versions, and no two messages share one.

use std::collections::BTreeMap;

use userpipeline_record::{Rank, next_version};

use crate::model::{Faults, Stored, Write};

/// What is known of a record while the messages of a batch are taken.
struct State {
    last: Option<Stored>,
    /// The position of the write that wins, and whether it is stored already.
    winner: Option<(usize, bool)>,
}

enum Verdict {
    /// It wins, with this version.
    Newer(i64),
    /// It is stored already.
    Same,
    Older,
}

/// What of a batch is written.
pub struct Arbitrated<'a> {
    /// Sorted by key, with their versions.
    pub winners: Vec<&'a Write>,
    /// Messages of one record with equal values of `orderBy` are on several partitions, so none is later.
    pub is_unordered: bool,
}

/// Decides which writes of a batch win. `stored`: what the sink that decides versions has, by key.
pub fn arbitrate<'a>(writes: &'a mut [Write], faults: &Faults, stored: &BTreeMap<String, Stored>) -> Arbitrated<'a> {
    let mut states: BTreeMap<&str, State> = BTreeMap::new();
    let mut is_unordered = false;
    for (i, write) in writes.iter().enumerate().filter(|(_, w)| !faults.contains_key(&w.origin)) {
        let State { last, winner } = states.entry(&write.key).or_insert_with(|| State {
            last: stored.get(&write.key).copied(),
            winner: None,
        });
        is_unordered |= last.as_ref().is_some_and(|last| have_no_order(last, write));
        match verdict(last.as_ref(), write) {
            Verdict::Newer(version) => {
                *last = Some(Stored {
                    version,
                    message: write.order.map(|order| (order, write.origin)),
                    deleted: write.is_deletion(),
                });
                *winner = Some((i, false));
            }
            Verdict::Same if winner.is_none() => *winner = Some((i, true)),
            Verdict::Same | Verdict::Older => {}
        }
    }
    let winners = states.into_values();
    let winners = winners.filter_map(|state| Some((state.last?.version, state.winner?)));
    let winners: Vec<(i64, (usize, bool))> = winners.collect();
    for (version, (i, is_stored)) in &winners {
        writes[*i].version = *version;
        writes[*i].is_stored = *is_stored;
    }
    Arbitrated {
        winners: winners.into_iter().map(|(_, (i, _))| &writes[i]).collect(),
        is_unordered,
    }
}

/// Whether only the numbers of their partitions decide between two messages.
fn have_no_order(stored: &Stored, write: &Write) -> bool {
    let is_elsewhere = |(order, (partition, _)): (i64, (i32, i64))| write.order == Some(order) && write.origin.0 != partition;
    write.is_deletion() == stored.deleted && stored.message.is_some_and(is_elsewhere)
}

fn verdict(stored: Option<&Stored>, write: &Write) -> Verdict {
    let Some(stored) = stored else {
        return Verdict::Newer(write.order_version);
    };
    let next = || Verdict::Newer(next_version(write.order_version, Some(stored.version)));
    let (Some(rank), Some((order, arrival))) = (write.rank(), stored.message) else {
        // Its message is not known: the value of `orderBy` is the version.
        let is_older = (write.order_version, write.is_deletion()) < (stored.version, stored.deleted);
        return if is_older { Verdict::Older } else { next() };
    };
    let deleted = stored.deleted;
    match rank.cmp(&Rank { order, deleted, arrival }) {
        std::cmp::Ordering::Greater => next(),
        std::cmp::Ordering::Equal => Verdict::Same,
        std::cmp::Ordering::Less => Verdict::Older,
    }
}

#[cfg(test)]
mod tests;
