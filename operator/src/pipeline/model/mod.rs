//! The ground layer: what every other module of the pipeline speaks about. It imports none of them.

mod config_digests;
mod default_tls;
mod finalizer;
mod gate;
mod ids;
mod images;
mod kafka_user;
pub mod labels;
mod owner;
mod pod_config;
pub mod quantity;
pub mod reasons;
mod stored_connections;
mod strimzi_topics;
mod time;

pub use self::{
    config_digests::{config_digests, is_recorded},
    default_tls::DefaultTls,
    finalizer::{FINALIZER, has_finalizer},
    gate::Gate,
    ids::{ConnectionId, connection_id, has_name, pipeline_id},
    images::{Images, Installation, PodMetadata},
    kafka_user::{Acl, AclResource, RequestedUser},
    owner::{Owner, owner_reference},
    pod_config::{CONFIG_VOLUME, PodConfig, PodConfigRef},
    reasons::Problem,
    stored_connections::{StoredConnection, connections_data, connections_text, stored_connections},
    strimzi_topics::{PlannedTopic, StrimziTopics},
    time::{elapsed, whole_seconds},
};
