//! The resources of pipelines, and what operator and pods exchange.
//!
//! Everything here is pure: types, defaults, CEL rules, printer columns, derived names, documents and reports. There is
//! no client and no I/O.

#![warn(missing_docs)]

pub mod condition;
pub mod document;
pub mod names;
pub mod placeholder;
pub mod report;
pub mod text;

mod aggregates;
mod auth;
mod backfill;
mod connection;
mod connection_check;
mod error_rule;
mod kafka;
mod lists;
mod mask;
mod omitted;
mod pagination;
mod pipeline;
mod pods;
mod policies;
mod record;
mod request;
mod resolved;
mod retention;
mod run_status;
mod schedule;
mod secret_keys;
mod sinks;
mod source;
mod status;
mod store_identity;
mod store_object;
mod stores;
mod strimzi;
mod tls;
mod topics_status;
mod units;
mod workers;

pub use aggregates::{Aggregate, AggregateSinks, AggregateTable, AggregateValue, AggregateView, AggregateWindow, CountRecords};
pub use auth::{Basic, KafkaAuth, KafkaLogin, RegistryAuth, SaslMechanism};
pub use backfill::{Order, PipelineRef, Reprocess, Settled, UserPipelineBackfill, UserPipelineBackfillSpec, UserPipelineBackfillStatus};
pub use connection::{
    CassandraConnection, ConnectionRef, HttpConnection, KafkaConnection, SchemaRegistryConnection, TopicDefaults, UserPipelineConnection,
    UserPipelineConnectionSpec, UserPipelineConnectionStatus,
};
pub use connection_check::{BlockCheck, ConnectionCheck};
pub use error_rule::{ErrorAction, ErrorRule};
pub use kafka::{Compatibility, DeadLetter, KafkaSpec, SchemaRegistrySpec, TopicManagement, TopicSpec};
pub use mask::{BucketPeriod, MaskKind, MaskSpec};
pub use pagination::{EmptyPage, Pagination, PaginationType};
pub use pipeline::{UserPipeline, UserPipelineSpec};
pub use pods::{Image, PodSettings, Pods, Proxy};
pub use policies::{DeletionPolicy, SuspendPolicy};
pub use record::{Changes, Epoch, FieldSpec, FieldType, RecordSpec};
pub use request::{Auth, Format, Method, OAuth2, StoredCursor};
pub use resolved::{
    Brokers, Connections, Kafka, MAX_MESSAGE_BYTES, PipelineUser, ResolveError, ResolvedPipeline, ResolvedSpec, SchemaRegistry, Topic,
    dead_letter_limit, resolve,
};
pub use retention::Retention;
pub use run_status::{LastSuccess, Run, RunNowStatus, RunOutcome};
pub use schedule::{CatchUp, ConcurrencyPolicy, Cron, DataInterval, Interval, RunKind, RunNow, Schedule, Ticks, first_after_start, zone};
pub use secret_keys::{HeaderSource, SecretKeyRef, SecretRef};
pub use sinks::{CassandraSink, Compaction, CompactionClass, Consistency, PostgresSink, Sinks};
pub use source::{Header, HttpSource, QueryParameter, RateLimit, Source, TopicFormat, TopicSource};
pub use status::{
    ConnectionRollout, ConnectionVersion, DeletionStatus, DrainStatus, Names, ScheduleStatus, SchemaStatus, Totals, UserPipelineStatus,
    VersionStatus, WorkersStatus,
};
pub use store_identity::{StoreAddress, StoreIdentity, StoreKind, TakenName};
pub use store_object::{StoreObject, StoreObjectKind};
pub use stores::{Cassandra, Landing, Postgres, RawItems, TableManagement};
pub use strimzi::{KafkaListenerStatus, StrimziListener, StrimziUser, UserAuthentication};
pub use tls::{CaSource, CassandraTls, Certificates, ConfigMapKeyRef, KafkaTls, PostgresTls, PostgresTlsMode, TlsMode};
pub use topics_status::{ACCEPT_TOPIC, ExistingTopic, InspectionStatus, TopicResource, TopicsStatus, topic_id};
pub use units::{Duration, Quantity, bytes};
pub use workers::{Batch, Workers};

/// The API group of every resource of ours.
pub const GROUP: &str = "userpipeline.dev";
