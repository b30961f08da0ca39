//! Which writes are one request: upserts of the same replica, in an unlogged batch. Pure.
//!
//! Such a batch is no transaction, and need not be one: each statement has its own write time, so a part that was written before an
//! error is written again without effect. A batch stays below the limits at which Cassandra warns of one by default: 10 partitions, and
//! 5 KiB.

use std::collections::BTreeMap;

use userpipeline_record::Value;

use crate::model::Write;

/// Statements of a batch.
pub const MAX_STATEMENTS: usize = 10;
/// Requests that are sent at once.
pub const IN_FLIGHT: usize = 64;
/// Bytes of a batch, as Cassandra counts them.
const MAX_BYTES: usize = 5000;
/// Bytes that Cassandra counts of each cell besides its value: timestamp, time to live, and time of deletion.
const CELL: usize = 16;

/// Positions in the writes of the sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub positions: Vec<usize>,
    bytes: usize,
}

/// The requests that write all, in the order of their first writes. `replica`: the node that a write goes to first. Deletes are
/// requests of their own.
pub fn requests<R: Ord>(writes: &[&Write], replica: impl Fn(&Write) -> R) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::with_capacity(writes.len().min(IN_FLIGHT));
    // The last batch of each replica.
    let mut open: BTreeMap<R, usize> = BTreeMap::new();
    for (position, write) in writes.iter().enumerate() {
        let bytes = size(write);
        let alone = || Request {
            positions: vec![position],
            bytes,
        };
        if write.deleted {
            requests.push(alone());
            continue;
        }
        let replica = replica(write);
        let batch = open.get(&replica).map(|at| &mut requests[*at]);
        let has_room = |batch: &&mut Request| batch.positions.len() < MAX_STATEMENTS && batch.bytes + bytes <= MAX_BYTES;
        if let Some(batch) = batch.filter(has_room) {
            batch.positions.push(position);
            batch.bytes += bytes;
        } else {
            open.insert(replica, requests.len());
            requests.push(alone());
        }
    }
    requests
}

fn size(write: &Write) -> usize {
    let value = |value: &Value| match value {
        Value::Null => 0,
        Value::String(text) | Value::Json(text) => text.len(),
        Value::Boolean(_) => 1,
        Value::Date(_) => 4,
        Value::Long(_) | Value::Double(_) | Value::Timestamp(_) => 8,
        Value::Uuid(_) => 16,
        Value::Bytes(bytes) => bytes.len(),
    };
    write.record.0.iter().map(|v| CELL + value(v)).sum()
}

#[cfg(test)]
mod tests {
    use userpipeline_record::Record;

    use super::*;
    use crate::model::VersionedRecord;

    fn write(number: i64, text: usize) -> Write {
        Write::upsert(VersionedRecord {
            origin: (0, number),
            key: number.to_string(),
            version: 1,
            order: None,
            record: Record(vec![Value::String("x".repeat(text))]),
        })
    }

    fn positions(writes: &[Write], replica: impl Fn(&Write) -> i64) -> Vec<Vec<usize>> {
        let writes: Vec<&Write> = writes.iter().collect();
        requests(&writes, replica).into_iter().map(|request| request.positions).collect()
    }

    fn writes(count: i64) -> Vec<Write> {
        (0..count).map(|number| write(number, 1)).collect()
    }

    #[test]
    fn a_request_has_up_to_ten_writes() {
        for (count, requests, largest) in [(1, 1, 1), (10, 1, 10), (11, 2, 10), (1000, 100, 10)] {
            let sizes: Vec<usize> = positions(&writes(count), |_| 0).iter().map(Vec::len).collect();
            assert_eq!((sizes.len(), sizes.iter().max()), (requests, Some(&largest)), "{count}");
        }
    }

    #[test]
    fn a_batch_has_the_upserts_of_one_replica() {
        let requests = positions(&writes(640), |write| write.origin.1 % 2);
        assert_eq!(requests.len(), 64);
        for request in requests {
            assert!(request.iter().all(|position| position % 2 == request[0] % 2), "{request:?}");
        }
    }

    #[test]
    fn a_batch_ends_before_cassandra_would_warn_of_its_size() {
        let mut writes = writes(640);
        for write in &mut writes[1..4] {
            write.record.0[0] = Value::String("x".repeat(2400));
        }
        let requests = positions(&writes, |_| 0);
        assert_eq!(requests[..2], [vec![0, 1, 2], vec![3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]);
    }

    #[test]
    fn a_delete_is_a_request_of_its_own() {
        let mut writes = writes(640);
        writes[1].deleted = true;
        assert_eq!(positions(&writes, |_| 0)[..2], [vec![0, 2, 3, 4, 5, 6, 7, 8, 9, 10], vec![1]]);
    }
}
