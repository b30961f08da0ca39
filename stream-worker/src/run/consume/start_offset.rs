//! The offset at which a partition resumes. Pure.

/// The offsets of an assigned partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The group's offset in Kafka.
    pub committed: Option<i64>,
    /// The offset in PostgreSQL's progress row.
    pub recorded: Option<i64>,
    /// The first offset that the topic still has.
    pub low: i64,
    /// The offset after the topic's last message.
    pub high: i64,
    /// Whether the topic was deleted and re-created since the group last read it: then Kafka's offset is the old topic's.
    pub recreated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    At(i64),
    /// The topic does not have the offset: messages would be skipped, or never existed.
    OutOfRange {
        desired: i64,
        low: i64,
        high: i64,
    },
}

/// The offset to record where there is no row yet: the group's own, or the topic's first at the first start.
pub fn first(known: &Known) -> i64 {
    known.committed.filter(|_| !known.recreated).unwrap_or(known.low)
}

/// The lower of Kafka's and PostgreSQL's offset: nothing is missed, and redelivery changes nothing. Where the messages at
/// Kafka's lower offset were deleted, PostgreSQL's applies: everything before it is stored.
pub fn start(known: &Known) -> Start {
    let committed = known.committed.filter(|_| !(known.recreated && known.recorded.is_none()));
    let desired = match (committed, known.recorded) {
        (Some(committed), Some(recorded)) if committed < known.low && recorded >= known.low => recorded,
        (Some(committed), Some(recorded)) => committed.min(recorded),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => known.low,
    };
    if (known.low..=known.high).contains(&desired) {
        Start::At(desired)
    } else {
        Start::OutOfRange {
            desired,
            low: known.low,
            high: known.high,
        }
    }
}

/// The status message: what is missing, and how to resume.
pub fn out_of_range(topic: &str, partition: i32, desired: i64, low: i64, high: i64) -> String {
    let what = if desired < low {
        format!(
            "the messages {desired} to {} of partition {partition} of topic `{topic}` were deleted before they were stored",
            low - 1
        )
    } else {
        format!("partition {partition} of topic `{topic}` ends at offset {high}, before offset {desired} where the workers are")
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
            recreated: false,
        }
    }

    #[test]
    fn a_partition_is_resumed_at_the_lower_offset_and_never_past_a_gap() {
        let gone = |desired| Start::OutOfRange {
            desired,
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
                    recreated: true,
                    ..known(Some(101), None)
                },
                Start::At(10),
            ),
            (
                Known {
                    recreated: true,
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
    fn the_first_row_has_the_offset_at_which_the_partition_begins() {
        assert_eq!(first(&known(None, None)), 10);
        assert_eq!(first(&known(Some(50), None)), 50);
        assert_eq!(
            first(&Known {
                recreated: true,
                ..known(Some(50), None)
            }),
            10
        );
    }

    #[test]
    fn an_offset_out_of_range_is_reported_with_what_is_missing_and_what_to_do() {
        let gone = out_of_range("users", 2, 3, 10, 100);
        assert!(
            gone.starts_with("the messages 3 to 9 of partition 2 of topic `users` were deleted"),
            "{gone}"
        );
        let beyond = out_of_range("users", 2, 101, 10, 100);
        assert!(beyond.contains("ends at offset 100, before offset 101"), "{beyond}");
    }
}
