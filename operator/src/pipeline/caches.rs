//! All caches: the pipelines, the connections, the children, and Strimzi's resources.

use userpipeline_api::{UserPipeline, UserPipelineConnection};

use super::{
    cache::{Cache, CacheWriter},
    children::{ChildCaches, ChildWriters},
};
use crate::strimzi::{ListedCluster, Retry, Strimzi, StrimziWriters};

#[derive(Clone)]
pub struct Caches {
    pub pipelines: Cache<UserPipeline>,
    pub connections: Cache<UserPipelineConnection>,
    pub children: ChildCaches,
    /// Nothing waits until these are filled, because Strimzi may be absent.
    pub strimzi: Strimzi,
}

/// The writing ends, for the watches.
#[derive(Default)]
pub struct Writers {
    pub(super) pipelines: CacheWriter<UserPipeline>,
    pub(super) connections: CacheWriter<UserPipelineConnection>,
    pub(super) children: ChildWriters,
    strimzi: Strimzi,
    pub(super) strimzi_views: StrimziWriters,
}

impl Writers {
    pub fn new(strimzi_clusters: &[ListedCluster]) -> Self {
        let (strimzi, strimzi_views) = Strimzi::new(strimzi_clusters);
        Self {
            strimzi,
            strimzi_views,
            ..Self::default()
        }
    }

    /// With other pauses between attempts to watch Strimzi's resources.
    #[must_use]
    pub const fn with_strimzi_retry(mut self, retry: Retry) -> Self {
        self.strimzi_views.retry = retry;
        self
    }

    pub fn caches(&self) -> Caches {
        Caches {
            pipelines: self.pipelines.cache(),
            connections: self.connections.cache(),
            children: self.children.caches(),
            strimzi: self.strimzi.clone(),
        }
    }
}

impl Caches {
    /// Waits until every cache was filled once; `false` when a watch ended instead.
    pub async fn are_usable(&self) -> bool {
        self.pipelines.is_usable().await && self.connections.is_usable().await && self.children.are_usable().await
    }
}
