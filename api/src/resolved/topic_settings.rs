//! The settings of the topics that a pipeline creates.

use std::collections::BTreeMap;

use super::kafka::{MAX_MESSAGE_BYTES, Topic};

/// What a dead letter's headers add to the message, in bytes, generously.
const DEAD_LETTER_HEADERS: u64 = 64 << 10;
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const RETENTION: &str = "retention.ms";

impl Topic {
    /// Settings of the topic: as declared, and room for large records where there are runs, which reject what
    /// is larger.
    pub fn settings(&self, runs: bool) -> BTreeMap<String, String> {
        let mut settings = self.config.clone();
        if runs {
            settings
                .entry(MAX_MESSAGE_BYTES.to_owned())
                .or_insert_with(|| self.message_limit().to_string());
        }
        settings
    }

    /// Settings of the dead-letter topic of a topic that takes messages of up to `limit` bytes.
    pub fn dead_letter_settings(&self, limit: u64, retention: std::time::Duration) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::from([
            (MAX_MESSAGE_BYTES.to_owned(), dead_letter_limit(limit).to_string()),
            (RETENTION.to_owned(), retention.as_millis().to_string()),
        ]);
        if let Some(insync) = self.config.get(MIN_INSYNC_REPLICAS) {
            settings.insert(MIN_INSYNC_REPLICAS.to_owned(), insync.clone());
        }
        settings
    }
}

/// The largest message of a dead-letter topic, in bytes: a message of at most `limit` bytes, and some headers.
pub fn dead_letter_limit(limit: u64) -> u64 {
    limit.saturating_add(DEAD_LETTER_HEADERS).min(i32::MAX as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_topics_of_runs_have_an_undeclared_limit_of_messages() {
        let limit = |bytes: &str| BTreeMap::from([(MAX_MESSAGE_BYTES.to_owned(), bytes.to_owned())]);
        let declared = Topic {
            config: limit("5000"),
            ..Topic::default()
        };
        for (topic, runs, expected) in [
            (Topic::default(), true, limit("1179648")),
            (Topic::default(), false, BTreeMap::new()),
            (declared.clone(), true, limit("5000")),
            (declared, false, limit("5000")),
        ] {
            assert_eq!(topic.settings(runs), expected, "{runs}");
        }
    }

    #[test]
    fn a_dead_letter_has_room_for_its_headers() {
        let settings = Topic::default().dead_letter_settings(5_000_000, Duration::from_secs(3600));
        assert_eq!(settings[MAX_MESSAGE_BYTES], "5065536");
        assert_eq!(settings[RETENTION], "3600000");
    }
}
