//! What an error of a store means: whether a retry helps, a reason, and a message for users.

use userpipeline_api::report::exit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Worth a retry: unreachable, overloaded, restarting.
    Transient,
    /// A user must change something: a Secret, a right, the spec, a table.
    Configuration,
}

impl Class {
    /// The exit code of a program that ends with such an error.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Transient => exit::RETRY,
            Self::Configuration => exit::CONFIGURATION,
        }
    }
}

/// An error of a store, ready to be shown to a user: in a condition, a termination message, a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    pub class: Class,
    /// One CamelCase word: a condition's reason. Those of one sink alone are in the folder of its client, the others below.
    pub reason: &'static str,
    /// A sentence that names the store, the field or the Secret, and what to do. Never a secret's value.
    pub message: String,
}

/// The pipeline's file, or a certificate that it names, cannot be used.
pub const PIPELINE_INVALID: &str = "PipelineInvalid";
/// A Secret or one of its keys does not exist.
pub const CREDENTIALS_MISSING: &str = "CredentialsMissing";
/// The store does not accept the user name and password.
pub const CREDENTIALS_REFUSED: &str = "CredentialsRefused";
/// A certificate is not accepted: the server's by us, or ours by the server.
pub const CERTIFICATE_REFUSED: &str = "CertificateRefused";
/// A certificate has expired: the server's, or ours.
pub const CERTIFICATE_EXPIRED: &str = "CertificateExpired";
/// One side encrypts, and the other does not.
pub const TLS_MISMATCH: &str = "TlsMismatch";
/// The user may not do what is needed.
pub const PERMISSION_DENIED: &str = "PermissionDenied";
/// PostgreSQL does not answer.
pub const POSTGRES_UNREACHABLE: &str = "PostgresUnreachable";
/// PostgreSQL refuses what was asked.
pub const POSTGRES_FAILED: &str = "PostgresFailed";
/// No broker answers.
pub const KAFKA_UNREACHABLE: &str = "KafkaUnreachable";
/// Kafka refuses what was asked.
pub const KAFKA_FAILED: &str = "KafkaFailed";
/// The topic does not exist.
pub use userpipeline_api::report::TOPIC_MISSING;
/// The topic was deleted, and re-created without its messages.
pub use userpipeline_api::report::TOPIC_REPLACED;
/// The topic differs from the spec, and cannot be changed to match.
pub const TOPIC_MISMATCH: &str = "TopicMismatch";
/// The subject exists, the pipeline did not create it, and its compatibility level would change.
pub const SUBJECT_NOT_CREATED: &str = "SubjectNotCreated";
/// Another pipeline uses the name of a table, topic or consumer group.
pub const CONFLICT: &str = "Conflict";
/// The topic exists, and the pipeline did not create it.
pub const TOPIC_NOT_CREATED: &str = "TopicNotCreated";
/// The topic does not have the next offset.
pub const OFFSET_OUT_OF_RANGE: &str = "OffsetOutOfRange";
/// The consumer group still has members.
pub const GROUP_NOT_EMPTY: &str = "GroupNotEmpty";
/// A dead letter cannot be written to its topic.
pub const DEAD_LETTER_FAILED: &str = "DeadLetterFailed";
/// Most of what is read would be dead letters.
pub const TOO_MANY_DEAD_LETTERS: &str = "TooManyDeadLetters";
/// The schema registry does not answer.
pub const REGISTRY_UNREACHABLE: &str = "RegistryUnreachable";
/// The schema registry refuses what was asked.
pub const REGISTRY_FAILED: &str = "RegistryFailed";
/// The source does not answer.
pub const SOURCE_UNREACHABLE: &str = "SourceUnreachable";
/// The schema registry finds the schema incompatible with the subject's versions.
pub const SCHEMA_INCOMPATIBLE: &str = "SchemaIncompatible";
/// A pipeline of another Kubernetes cluster writes there.
pub const CLAIMED: &str = "ClaimedElsewhere";
/// A table is missing, or differs from what is required.
pub const TABLE_MISMATCH: &str = "TableMismatch";

/// An error and what caused it: most clients' own text stops at "error connecting to server".
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl StoreError {
    pub fn transient(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            class: Class::Transient,
            reason,
            message: message.into(),
        }
    }

    pub fn configuration(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            class: Class::Configuration,
            reason,
            message: message.into(),
        }
    }
}
