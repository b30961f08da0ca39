//! What the end-to-end stories are told with: the local cluster, a world of its own for each story, eyes on every
//! store that are independent of the code under test, faults between the operator and the apiserver, and faults of everything else.

pub mod cluster;
pub mod crash;
pub mod declared;
pub mod dice;
pub mod eventually;
pub mod exact;
pub mod expected;
pub mod metrics_adapter;
pub mod own_source;
pub mod source;
pub mod stores;
pub mod tls;
pub mod world;

pub use eventually::eventually;
pub use world::World;
