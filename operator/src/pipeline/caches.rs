//! All caches: the pipelines, the connections, and the children.

use userpipeline_api::{UserPipeline, UserPipelineConnection};

use super::{
    cache::{Cache, CacheWriter},
    children::{ChildCaches, ChildWriters},
};

#[derive(Clone)]
pub struct Caches {
    pub pipelines: Cache<UserPipeline>,
    pub connections: Cache<UserPipelineConnection>,
    pub children: ChildCaches,
}

/// The writing ends, for the watches.
#[derive(Default)]
pub struct Writers {
    pub(super) pipelines: CacheWriter<UserPipeline>,
    pub(super) connections: CacheWriter<UserPipelineConnection>,
    pub(super) children: ChildWriters,
}

impl Writers {
    pub fn caches(&self) -> Caches {
        Caches {
            pipelines: self.pipelines.cache(),
            connections: self.connections.cache(),
            children: self.children.caches(),
        }
    }
}

impl Caches {
    /// Waits until every cache was filled once; `false` when a watch ended instead.
    pub async fn are_usable(&self) -> bool {
        self.pipelines.is_usable().await && self.connections.is_usable().await && self.children.are_usable().await
    }
}
