//! Where a partition is resumed. Pure.

/// What is known of a partition when it is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The group's offset in Kafka.
    pub committed: Option<i64>,
    /// The offset in PostgreSQL's progress row.
    pub recorded: Option<i64>,
    /// The first offset that the topic still has.
    pub low: i64,
    /// The offset behind the topic's last message.
    pub high: i64,
    /// Whether the topic was deleted and made anew since the group last read it: Kafka's offset is of the old one then.
    pub made_anew: bool,
}

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this offset.
    At(i64),
    /// At one that the topic does not have: messages would be skipped, or never were there.
    OutOfRange {
        /// The offset.
        wanted: i64,
        /// The first that the topic has.
        low: i64,
        /// The one behind its last.
        high: i64,
    },
}

/// The offset to record where there is no row yet: the group's own, or the topic's first at the first start.
pub fn first(known: &Known) -> i64 {
    known.committed.filter(|_| !known.made_anew).unwrap_or(known.low)
}

/// The lower of Kafka's and PostgreSQL's offset: whichever is behind, nothing is missed, and what comes again changes
/// nothing. Where Kafka's is behind and its messages are deleted, PostgreSQL's counts: all before that is stored.
pub fn start(known: &Known) -> Start {
    let committed = known.committed.filter(|_| !(known.made_anew && known.recorded.is_none()));
    let wanted = match (committed, known.recorded) {
        (Some(committed), Some(recorded)) if committed < known.low && recorded >= known.low => recorded,
        (Some(committed), Some(recorded)) => committed.min(recorded),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => known.low,
    };
    if (known.low..=known.high).contains(&wanted) {
        Start::At(wanted)
    } else {
        Start::OutOfRange {
            wanted,
            low: known.low,
            high: known.high,
        }
    }
}

/// What to tell whoever must decide.
pub fn out_of_range(topic: &str, partition: i32, wanted: i64, low: i64, high: i64) -> String {
    let what = if wanted < low {
        format!(
            "the messages {wanted} to {} of partition {partition} of topic `{topic}` were deleted before they were stored",
            low - 1
        )
    } else {
        format!("partition {partition} of topic `{topic}` ends at offset {high}, before offset {wanted} where the workers are")
    };
    format!(
        "{what}; nothing is skipped unasked: to go on at offset {low}, set this partition's next_offset in userpipeline.progress to {low}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn known(committed: Option<i64>, recorded: Option<i64>) -> Known {
        Known {
            committed,
            recorded,
            low: 10,
            high: 100,
            made_anew: false,
        }
    }

    #[test]
    fn a_partition_is_resumed_at_the_lower_offset_and_never_past_a_gap() {
        let gone = |wanted| Start::OutOfRange {
            wanted,
            low: 10,
            high: 100,
        };
        let cases = [
            (known(None, None), Start::At(10)),
            (known(Some(50), None), Start::At(50)),
            (known(None, Some(60)), Start::At(60)),
            (known(Some(50), Some(60)), Start::At(50)),
            (known(Some(70), Some(60)), Start::At(60)),
            (known(Some(100), Some(100)), Start::At(100)),
            (known(Some(10), Some(10)), Start::At(10)),
            (known(Some(9), Some(60)), Start::At(60)),
            (known(Some(9), Some(8)), gone(8)),
            (known(Some(9), Some(101)), gone(101)),
            (known(Some(9), None), gone(9)),
            (known(Some(200), Some(60)), Start::At(60)),
            (known(Some(50), Some(3)), gone(3)),
            (known(Some(101), None), gone(101)),
            (
                Known {
                    made_anew: true,
                    ..known(Some(101), None)
                },
                Start::At(10),
            ),
            (
                Known {
                    made_anew: true,
                    ..known(Some(50), Some(60))
                },
                Start::At(50),
            ),
        ];
        for (known, expected) in cases {
            assert_eq!(start(&known), expected, "{known:?}");
        }
    }

    #[test]
    fn the_first_row_says_where_the_partition_begins() {
        assert_eq!(first(&known(None, None)), 10);
        assert_eq!(first(&known(Some(50), None)), 50);
        assert_eq!(
            first(&Known {
                made_anew: true,
                ..known(Some(50), None)
            }),
            10
        );
    }

    #[test]
    fn out_of_range_says_what_is_missing_and_what_to_do() {
        let gone = out_of_range("users", 2, 3, 10, 100);
        assert!(
            gone.starts_with("the messages 3 to 9 of partition 2 of topic `users` were deleted"),
            "{gone}"
        );
        let beyond = out_of_range("users", 2, 101, 10, 100);
        assert!(beyond.contains("ends at offset 100, before offset 101"), "{beyond}");
    }
}
