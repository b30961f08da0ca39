//! Every kind of child of a pipeline, listed once. A new kind is a line in the list at the end and a file in `desired/`.
//!
//! The order of the list is the order in which the children of one step are applied, and in which a plan lists them.

use std::{collections::BTreeSet, fmt::Debug, future::Future, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, Pod, ServiceAccount},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use userpipeline_api::names::PipelineId;

use super::{
    cache::{Cache, CacheWriter, Presence},
    model::labels,
};

pub trait ChildKind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The kind, also as the label `kind` of the metric of writes.
    const KIND: &'static str;
    const PRESENCE: Presence;

    /// Whether its last state is remembered after it was deleted.
    fn outlives_deletion(&self) -> bool;
}

/// Does something with the writing end of each kind's cache.
pub trait VisitWriters {
    fn visit<K: ChildKind>(&mut self, writer: CacheWriter<K>);
}

/// Applies or deletes one child.
pub trait VisitChildren {
    type Error;

    /// Applies `desired`; `observed` are the cached objects of its kind. `None` if its optional kind turns out to be absent.
    fn apply<K: ChildKind>(&self, observed: &[Arc<K>], desired: K) -> impl Future<Output = Result<Option<Arc<K>>, Self::Error>> + Send;

    fn delete<K: ChildKind>(&self, observed: &K) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

macro_rules! children {
    ($($field:ident: $kind:ident, $presence:ident, $outlives_deletion:expr;)*) => {
        $(
            impl ChildKind for $kind {
                const KIND: &'static str = stringify!($kind);
                const PRESENCE: Presence = Presence::$presence;

                fn outlives_deletion(&self) -> bool {
                    let decides: fn(&Self) -> bool = $outlives_deletion;
                    decides(self)
                }
            }
        )*

        /// The children of one pipeline as observed.
        #[derive(Clone, Debug, Default)]
        pub struct Children {
            $(pub $field: Vec<Arc<$kind>>,)*
            /// Optional kinds that are absent.
            pub absent: BTreeSet<&'static str>,
        }

        /// Children that one step applies.
        #[derive(Clone, Debug, Default)]
        pub struct DesiredChildren {
            $(pub $field: Vec<$kind>,)*
        }

        #[derive(Clone)]
        pub struct ChildCaches {
            $(pub $field: Cache<$kind>,)*
        }

        #[derive(Default)]
        pub struct ChildWriters {
            $($field: CacheWriter<$kind>,)*
        }

        impl ChildWriters {
            pub fn caches(&self) -> ChildCaches {
                ChildCaches {
                    $($field: self.$field.cache(),)*
                }
            }

            pub fn each(self, visitor: &mut impl VisitWriters) {
                $(visitor.visit(self.$field);)*
            }
        }

        impl ChildCaches {
            /// Waits until each was filled once, or its kind is absent; `false` when a watch ended instead.
            pub async fn are_usable(&self) -> bool {
                $(self.$field.is_usable().await &&)* true
            }

            pub fn of_pipeline(&self, id: &PipelineId) -> Children {
                let mut absent = BTreeSet::new();
                $(
                    if self.$field.is_absent() {
                        absent.insert(<$kind>::KIND);
                    }
                )*
                Children {
                    $($field: self.$field.of_pipeline(id),)*
                    absent,
                }
            }
        }

        impl Children {
            /// Children of optional kinds that no step desires any more.
            pub fn no_longer_desired(&self, desired: &[&DesiredChildren]) -> Self {
                let mut leftover = Self::default();
                $(
                    if <$kind>::PRESENCE == Presence::Optional {
                        let is_desired = |live: &$kind| desired.iter().flat_map(|step| &step.$field).any(|object| object.name_any() == live.name_any());
                        leftover.$field.extend(self.$field.iter().filter(|live| !is_desired(live)).cloned());
                    }
                )*
                leftover
            }

            pub async fn delete_all<V: VisitChildren>(&self, visitor: &V) -> Vec<V::Error> {
                let mut errors = Vec::new();
                $(
                    for object in &self.$field {
                        errors.extend(visitor.delete(object.as_ref()).await.err());
                    }
                )*
                errors
            }
        }

        impl DesiredChildren {
            /// Applies them in the order of the list, up to the first error. Absent kinds are skipped.
            pub async fn apply_all<V: VisitChildren>(self, observed: &Children, visitor: &V) -> Result<Children, V::Error> {
                let mut applied = Children::default();
                $(
                    if !observed.absent.contains(<$kind>::KIND) {
                        for object in self.$field {
                            applied.$field.extend(Box::pin(visitor.apply(&observed.$field, object)).await?);
                        }
                    }
                )*
                Ok(applied)
            }
        }
    };
}

children! {
    accounts: ServiceAccount, Required, |_| false;
    config_maps: ConfigMap, Required, |_| false;
    jobs: Job, Required, |_| true;
    cron_jobs: CronJob, Required, |_| false;
    deployments: Deployment, Required, |_| false;
    budgets: PodDisruptionBudget, Required, |_| false;
    pods: Pod, Required, |pod| pod.labels().contains_key(labels::JOB_UID);
}

#[cfg(test)]
mod rbac;
#[cfg(test)]
mod tests;
