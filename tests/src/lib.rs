//! The basis of the end-to-end tests: the local cluster, a namespace for each test, clients of every store that are independent of
//! the code under test, faults between the operator and the API server, and faults of everything else.

pub mod broker_certificate;
pub mod capture;
pub mod cluster;
pub mod crash;
pub mod declared;
pub mod eventually;
pub mod exact;
pub mod examples;
pub mod expected;
pub mod guide;
pub mod metrics_adapter;
pub mod operator_pods;
mod pods;
pub mod random;
pub mod services;
pub mod source;
pub mod stores;
pub mod strimzi;
pub mod test_source;
pub mod tls;
pub mod topic_source;
pub mod totals;
pub mod webhook;
pub mod world;

pub use eventually::eventually;
pub use world::World;
