//! Which of two states of a record is newer, and its version. Pure: landing does the same in SQL.

/// The rank of a state among those of its record: the greatest one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank<A> {
    /// The value of `orderBy` at the precision served.
    pub order: i64,
    /// Of equal values, a deletion wins over an upsert.
    pub deleted: bool,
    /// Otherwise, what came later wins: the number of the request, or partition and offset of the message.
    pub arrival: A,
}

/// The version of a state that wins. `from_order`: the version that follows from `orderBy` alone. It never depends on the clock:
/// stores may have versions ahead of it.
pub fn next_version(from_order: i64, last: Option<i64>) -> i64 {
    last.map_or(from_order, |last| from_order.max(last.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_decides_before_deletion_and_deletion_before_arrival() {
        let rank = |order, deleted, arrival| Rank { order, deleted, arrival };
        for (newer, older) in [
            (rank(2, false, 1), rank(1, true, 9)),
            (rank(1, true, 1), rank(1, false, 9)),
            (rank(1, false, 2), rank(1, false, 1)),
            (rank(1, true, 2), rank(1, true, 1)),
        ] {
            assert!(newer > older, "{newer:?} {older:?}");
        }
    }

    #[test]
    fn a_version_follows_order_and_is_always_greater_than_the_last_one() {
        for (from_order, last, version) in [
            (100, None, 100),
            (100, Some(90), 100),
            (100, Some(99), 100),
            (100, Some(100), 101),
            (100, Some(150), 151),
            (100, Some(i64::MAX), i64::MAX),
        ] {
            assert_eq!(next_version(from_order, last), version, "{from_order} {last:?}");
        }
    }
}
