//! How far the topics are.

use crate::pipeline::model::Problem;

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Finding {
    /// Strimzi does not manage the topics.
    #[default]
    NotManaged,
    /// The KafkaTopics are not cached yet.
    Unknown,
    Waiting(Problem),
    Failed(Problem),
    /// A topic that the Topic Operator does not touch: the schema Job verifies it.
    Unverified(Problem),
    Ready(String),
}
