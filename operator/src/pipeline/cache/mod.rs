//! Caches of objects, filled by watches. Reading them costs no request.

mod compressed;
mod connections;
mod deleted;
mod foreign;
mod nesting;
mod owners;
mod presence;
mod store;
mod watch;

pub use self::{
    compressed::{CachedConnection, CachedPipeline},
    connections::watch_connections,
    presence::{Absence, Presence},
    store::{Cache, CacheWriter},
    watch::{ChildEvent, Scope, watch_children, watch_pipelines},
};
