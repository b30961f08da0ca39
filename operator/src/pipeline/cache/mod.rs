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
    presence::Presence,
    store::{Cache, CacheWriter},
    watch::{Scope, watch_children, watch_pipelines},
};
