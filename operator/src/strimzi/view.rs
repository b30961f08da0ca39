//! The objects of one kind in one namespace, as a watch last observed them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use kube::api::ApiResource;
use tokio::sync::watch;

use super::resources::Kind;

/// Why objects of Strimzi cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The chart value does not list the cluster.
    NotListed { cluster: String },
    /// The operator has just started.
    NotYetKnown { kind: Kind, namespace: String },
    /// The CustomResourceDefinition is not installed.
    NotServed { kind: Kind },
    /// The operator lacks a right.
    NotAllowed { kind: Kind, namespace: String, verb: &'static str },
}

/// The chart value that a message names.
pub const CHART_VALUE: &str = "strimzi.clusters";

impl Unavailable {
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotListed { .. } | Self::NotAllowed { .. } => "NotAllowed",
            Self::NotYetKnown { .. } => "Waiting",
            Self::NotServed { .. } => "StrimziMissing",
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListed { cluster } => write!(
                f,
                "the operator has no right to use Kafka cluster {cluster}: add it to the chart value {CHART_VALUE}"
            ),
            Self::NotYetKnown { kind, namespace } => {
                write!(f, "the operator is listing the {} resources of namespace {namespace}", kind.name())
            }
            Self::NotServed { kind } => write!(
                f,
                "Strimzi is not installed: the API server does not serve {}. The operator looks for it every minute",
                kind.name()
            ),
            Self::NotAllowed { kind, namespace, verb } => write!(
                f,
                "the operator may not {verb} {} in namespace {namespace}: grant it with the chart value {CHART_VALUE}",
                kind.plural()
            ),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Objects<K> {
    /// The served version of the kind.
    pub resource: ApiResource,
    pub by_name: BTreeMap<String, Arc<K>>,
}

type Contents<K> = Result<Objects<K>, Unavailable>;

/// The reading end.
#[derive(Debug)]
pub struct View<K>(watch::Receiver<Contents<K>>);

impl<K> Clone for View<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> View<K> {
    pub fn get(&self, name: &str) -> Result<Option<Arc<K>>, Unavailable> {
        match &*self.0.borrow() {
            Ok(objects) => Ok(objects.by_name.get(name).cloned()),
            Err(why) => Err(why.clone()),
        }
    }

    /// The objects that `wants` selects, and the version in which they are served.
    pub fn select(&self, mut wants: impl FnMut(&str, &K) -> bool) -> Result<Objects<K>, Unavailable> {
        match &*self.0.borrow() {
            Ok(objects) => {
                let selected = objects.by_name.iter().filter(|(name, object)| wants(name, object));
                Ok(Objects {
                    resource: objects.resource.clone(),
                    by_name: selected.map(|(name, object)| (name.clone(), object.clone())).collect(),
                })
            }
            Err(why) => Err(why.clone()),
        }
    }
}

/// The writing end, for a watch.
pub struct ViewWriter<K>(watch::Sender<Contents<K>>);

impl<K> ViewWriter<K> {
    pub fn new(kind: Kind, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self(watch::Sender::new(Err(Unavailable::NotYetKnown { kind, namespace })))
    }

    pub fn view(&self) -> View<K> {
        View(self.0.subscribe())
    }

    /// After a complete list.
    pub fn fill(&self, objects: Objects<K>) {
        drop(self.0.send_replace(Ok(objects)));
    }

    /// Returns whether this is new.
    pub fn mark_unavailable(&self, why: Unavailable) -> bool {
        self.0.send_if_modified(|contents| {
            let is_new = contents.as_ref().err() != Some(&why);
            *contents = Err(why);
            is_new
        })
    }

    pub fn set(&self, name: String, object: Option<Arc<K>>) {
        self.0.send_modify(|contents| {
            if let Ok(objects) = contents {
                match object {
                    Some(object) => objects.by_name.insert(name, object),
                    None => objects.by_name.remove(&name),
                };
            }
        });
    }
}
