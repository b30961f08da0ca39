//! What an error of Kafka means.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

use crate::{
    StoreError,
    error::{KAFKA_FAILED, KAFKA_UNREACHABLE, PERMISSION_DENIED, TOPIC_MISSING},
};

/// What an error of Kafka means. `detail` is the broker's message, which may be empty.
pub fn explain_code(what: &str, code: Code, detail: &str) -> StoreError {
    let message = if detail.is_empty() {
        format!("{what}: {code}")
    } else {
        format!("{what}: {code}: {detail}")
    };
    match code {
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => StoreError::configuration(PERMISSION_DENIED, message),
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => StoreError::configuration(TOPIC_MISSING, message),
        Code::InvalidConfig
        | Code::InvalidReplicationFactor
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidArgument
        | Code::PolicyViolation
        | Code::MessageSizeTooLarge => StoreError::configuration(KAFKA_FAILED, message),
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::MessageTimedOut
        | Code::RequestTimedOut
        | Code::Resolve
        | Code::Authentication => StoreError::transient(KAFKA_UNREACHABLE, message),
        _ => StoreError::transient(KAFKA_FAILED, message),
    }
}

/// What an error of a Kafka client means.
pub fn explain(what: &str, error: &KafkaError) -> StoreError {
    match error {
        KafkaError::ClientConfig(_, description, key, _) => {
            StoreError::configuration(KAFKA_FAILED, format!("{what}: {description}: {key}"))
        }
        KafkaError::ClientCreation(text) | KafkaError::AdminOpCreation(text) => {
            StoreError::configuration(KAFKA_FAILED, format!("{what}: {text}"))
        }
        other => match other.rdkafka_error_code() {
            Some(code) => explain_code(what, code, ""),
            None => StoreError::transient(KAFKA_FAILED, format!("{what}: {other}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    #[test]
    fn an_error_is_classed_by_who_can_fix_it() {
        for (code, reason, class) in [
            (Code::AllBrokersDown, KAFKA_UNREACHABLE, Class::Transient),
            (Code::OperationTimedOut, KAFKA_UNREACHABLE, Class::Transient),
            (Code::NotCoordinator, KAFKA_FAILED, Class::Transient),
            (Code::UnknownTopicOrPartition, TOPIC_MISSING, Class::Configuration),
            (Code::TopicAuthorizationFailed, PERMISSION_DENIED, Class::Configuration),
            (Code::InvalidConfig, KAFKA_FAILED, Class::Configuration),
        ] {
            let error = explain_code("topic `t`", code, "as the broker said");
            assert_eq!((error.reason, error.class), (reason, class), "{code:?}");
            assert!(error.message.starts_with("topic `t`: ") && error.message.ends_with("as the broker said"));
        }
    }
}
