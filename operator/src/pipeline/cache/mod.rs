//! Caches of objects, filled by watches. Reading them costs no request.

mod compressed;
mod deleted;
mod foreign;
mod nesting;
mod presence;
mod store;
mod watch;

pub use self::{
    compressed::CachedPipeline,
    presence::{Absence, Presence},
    store::{Cache, CacheWriter},
    watch::{ChildEvent, Scope, watch_children, watch_pipelines},
};
