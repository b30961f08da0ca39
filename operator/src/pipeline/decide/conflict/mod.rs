//! Conflicts: two pipelines that would write to the same table, topic or consumer group. The newer one must change nothing.
//!
//! The resources of a pipeline follow from its spec and its connections. They are indexed and updated when one of these changes,
//! because comparing every pipeline with every other one would cost too much. While a changed connection has not reached a pipeline,
//! it has both the resources of the earlier version, which its workers use, and those of the new one.

mod by_id;
mod resources;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use kube::ResourceExt;
use userpipeline_api::{ConnectionVersion, Connections, TakenName, UserPipeline, names::PipelineId, resolve};

use self::{
    by_id::ById,
    resources::{Listener, NameUse, Recorded, Resource, Use, Used, resources},
};
use crate::pipeline::{cache::CachedPipeline, connections::ConnectionLookup, validate::default_tls};

/// Most names that a schema Job receives: an argument holds 128 KiB. Beyond them, addresses decide.
const TAKEN_AT_MOST: usize = 500;

/// The age of a pipeline; for two of the same second, the name decides.
type Age = (Timestamp, PipelineId);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The resource that both pipelines write to.
    pub what: String,
    /// The other pipeline. None in another namespace, which the reader of the message may not be allowed to see.
    pub owner: Option<PipelineId>,
}

#[derive(Default)]
struct Index {
    known: ById<Known>,
    users: HashMap<Arc<Resource>, Vec<(Age, Use)>>,
    /// The change of connections up to which all known pipelines follow them.
    follows: Option<u64>,
}

struct Known {
    uid: Option<String>,
    generation: Option<i64>,
    /// The connections that it names, by name, as far as they exist.
    connections: Vec<(String, Option<ConnectionVersion>)>,
    age: Age,
    /// The hash of what schema Jobs have reported.
    recorded: u64,
    /// First those of the current versions of its connections, then those of earlier versions that it may still use, and those
    /// whose names are reserved for it.
    resources: Used,
    /// How many of the resources are of the current versions.
    current: usize,
    /// Until it uses only the current versions: the version of the pipeline, whose status says how far it is.
    changes_at: Option<String>,
}

/// The resources of all pipelines.
#[derive(Default)]
pub struct ResourceIndex(Mutex<Index>);

impl ResourceIndex {
    /// The pipeline to which a resource of `pipeline` belongs, if that is another one: the one from which its name derives, or the
    /// oldest. `all` are the cached pipelines.
    pub fn conflict(&self, pipeline: &UserPipeline, all: &[Arc<CachedPipeline>], connections: &ConnectionLookup) -> Option<Conflict> {
        self.updated(pipeline, all, connections, Index::conflict)
    }

    /// What of `pipeline` must outlive it: what another pipeline of its namespace uses, and what belongs to one of another namespace. A
    /// name alone does not let other namespaces keep its data.
    pub fn shared(&self, pipeline: &UserPipeline, all: &[Arc<CachedPipeline>], connections: &ConnectionLookup) -> Vec<String> {
        self.updated(pipeline, all, connections, Index::shared)
    }

    /// The names of `pipeline` that would belong to another pipeline, if their stores are the same at different addresses. The schema Job
    /// refuses them before it changes anything. Empty once the pipeline's own stores are identified: then the index knows.
    pub fn taken_elsewhere(&self, pipeline: &UserPipeline, all: &[Arc<CachedPipeline>], connections: &ConnectionLookup) -> Vec<TakenName> {
        self.updated(pipeline, all, connections, Index::taken_elsewhere)
    }

    /// Asks the index after all changes of pipelines and connections.
    fn updated<T>(
        &self,
        pipeline: &UserPipeline,
        all: &[Arc<CachedPipeline>],
        connections: &ConnectionLookup,
        ask: impl FnOnce(&Index, &PipelineId) -> T,
    ) -> T {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // First, so that a change that comes later is followed the next time.
        let changes = connections.changes();
        if index.follows != Some(changes) {
            index.drop_outdated(connections);
            index.follows = Some(changes);
        }
        // The pipeline that is reconciled may be newer than its cached version.
        let own = PipelineId::of(pipeline);
        let (mut cached, mut is_own_cached) = (0, false);
        for other in all {
            if !index.knows(other.as_ref()) {
                // A pipeline that cannot be read writes nothing.
                let _ = other.read().map(|other| index.insert(&other, connections));
            }
            let (namespace, name) = names_of(other.as_ref());
            cached += usize::from(index.known.get(namespace, name).is_some());
            is_own_cached |= (namespace, name) == (own.namespace.as_str(), own.name.as_str());
        }
        // A schema Job identifies stores, and creates objects, without a change of the spec.
        let recorded = Recorded::of(pipeline.status.as_ref()).hash();
        let is_recorded = index.known.of(&own).is_some_and(|known| known.recorded == recorded);
        if !is_recorded || !index.knows(pipeline) {
            index.insert(pipeline, connections);
        }
        let existing = cached + usize::from(!is_own_cached);
        if index.known.len() > existing {
            index.remove_gone(all, &own);
        }
        ask(&index, &own)
    }
}

impl Index {
    fn knows(&self, pipeline: &impl kube::Resource) -> bool {
        let (namespace, name) = names_of(pipeline);
        let meta = pipeline.meta();
        self.known.get(namespace, name).is_some_and(|known| {
            let is_followed = known.changes_at.is_none() || known.changes_at == meta.resource_version;
            known.uid == meta.uid && known.generation >= meta.generation && is_followed
        })
    }

    /// Forgets the pipelines that are not among `all`, apart from `own`.
    fn remove_gone(&mut self, all: &[Arc<CachedPipeline>], own: &PipelineId) {
        let existing: HashSet<(&str, &str)> = all.iter().map(|other| names_of(other.as_ref())).collect();
        let is_gone = |id: &PipelineId| !existing.contains(&(id.namespace.as_str(), id.name.as_str())) && id != own;
        for id in self.known.ids().filter(is_gone).collect::<Vec<_>>() {
            self.remove(&id);
        }
    }

    /// Forgets the generations of pipelines whose connections have changed, so that they are resolved again.
    fn drop_outdated(&mut self, lookup: &ConnectionLookup) {
        for (namespace, known) in self.known.iter_mut() {
            let is_current = |(name, version): &(String, Option<ConnectionVersion>)| lookup.version(namespace, name) == *version;
            if !known.connections.iter().all(is_current) {
                known.generation = None;
            }
        }
    }

    fn insert(&mut self, pipeline: &UserPipeline, lookup: &ConnectionLookup) {
        let id = PipelineId::of(pipeline);
        let before = self.remove(&id).filter(|before| before.uid == pipeline.uid());
        let connections = pipeline.spec.connections.iter().map(|connection| {
            let version = lookup.version(&id.namespace, &connection.name);
            (connection.name.clone(), version)
        });
        let named = lookup.named_by(pipeline);
        let earlier = lookup.earlier_versions(pipeline, &named);
        // One that cannot be resolved is not applied: what an earlier spec created keeps running.
        let recorded = Recorded::of(pipeline.status.as_ref());
        let (mut resources, current) = match (resources_of(pipeline, &named.connections, recorded), before) {
            (Some([mut resources, reserved]), _) => {
                let current = resources.len();
                resources.extend(reserved);
                (resources, current)
            }
            (None, Some(before)) => (before.resources, before.current),
            (None, None) => (Vec::new(), 0),
        };
        for versions in earlier.iter().flatten() {
            let used = resources_of(pipeline, versions, recorded).unwrap_or_default();
            let new: Vec<_> = used.into_iter().flatten().filter(|used| !resources.contains(used)).collect();
            resources.extend(new);
        }
        let created = pipeline.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |at| at.0);
        let known = Known {
            uid: pipeline.uid(),
            generation: pipeline.metadata.generation,
            connections: connections.collect(),
            age: (created, id.clone()),
            recorded: recorded.hash(),
            resources,
            current,
            changes_at: earlier.is_some().then(|| pipeline.resource_version()).flatten(),
        };
        for (resource, used) in &known.resources {
            // Nearly all have one user at all times.
            let users = self.users.entry(resource.clone()).or_insert_with(|| Vec::with_capacity(1));
            users.push((known.age.clone(), *used));
        }
        self.known.insert(id, known);
    }

    fn remove(&mut self, id: &PipelineId) -> Option<Known> {
        let known = self.known.remove(id)?;
        for (resource, _) in &known.resources {
            if let Some(users) = self.users.get_mut(resource) {
                users.retain(|((_, other), _)| other != id);
                if users.is_empty() {
                    self.users.remove(resource);
                }
            }
        }
        Some(known)
    }

    fn shared(&self, id: &PipelineId) -> Vec<String> {
        let Some(own) = self.known.of(id) else {
            return Vec::new();
        };
        let is_shared = |(resource, used): &&(Arc<Resource>, Use)| {
            let mut others = self.users.get(resource).into_iter().flatten();
            others.any(|(age, other)| {
                let is_foreign = age.1.namespace != id.namespace;
                let shares = other.name != NameUse::Reserved && used.listener.may_share(other.listener);
                age.1 != *id && shares && (!is_foreign || precedes((age, *other), (&own.age, *used)))
            })
        };
        let mut shared: Vec<String> = Vec::new();
        for (resource, _) in own.resources.iter().filter(is_shared) {
            // At each address and id of its store.
            if !shared.contains(&resource.what) {
                shared.push(resource.what.clone());
            }
        }
        shared
    }

    fn taken_elsewhere(&self, id: &PipelineId) -> Vec<TakenName> {
        let Some(own) = self.known.of(id) else {
            return Vec::new();
        };
        let current = &own.resources[..own.current];
        let mut unidentified: HashMap<&str, NameUse> = current.iter().map(|(resource, used)| (resource.what.as_str(), used.name)).collect();
        for (resource, _) in current.iter().filter(|(resource, _)| resource.store_id().is_some()) {
            unidentified.remove(resource.what.as_str());
        }
        if unidentified.is_empty() {
            return Vec::new();
        }
        let taken = self.users.iter().filter_map(|(resource, users)| {
            let (name, store) = (*unidentified.get(resource.what.as_str())?, resource.store_id()?);
            let listener = Listener::default();
            let own_use = (&own.age, Use { listener, name });
            let mut owners = users.iter().filter(|(age, other)| precedes((age, *other), own_use));
            owners.next().map(|_| TakenName {
                store: store.to_owned(),
                what: resource.what.clone(),
            })
        });
        let mut taken: Vec<TakenName> = taken.collect();
        taken.sort();
        taken.truncate(TAKEN_AT_MOST);
        taken
    }

    fn conflict(&self, id: &PipelineId) -> Option<Conflict> {
        let own = self.known.of(id)?;
        // Not those that it is leaving: the change may be what ends the conflict.
        let taken = own.resources[..own.current].iter().filter_map(|(resource, used)| {
            let users = self.users.get(resource)?.iter();
            let owners = users.filter(|(age, other)| precedes((age, *other), (&own.age, *used)));
            Some((resource, owners.map(|(age, _)| age).min()?))
        });
        let (resource, (_, owner)) = taken.min_by_key(|(_, age)| (*age).clone())?;
        Some(Conflict {
            what: resource.what.clone(),
            owner: Some(owner.clone()).filter(|owner| owner.namespace == id.namespace),
        })
    }
}

/// Whether a resource of `own` belongs to the other pipeline. Within a namespace, the older one has it. Between namespaces, a derived
/// name belongs to the pipeline that it derives from, and another one to the pipeline that created the object; a name that is only
/// reserved is not taken from an older pipeline.
fn precedes((other_age, other): (&Age, Use), (own_age, own): (&Age, Use)) -> bool {
    if !own.listener.may_share(other.listener) {
        return false;
    }
    if other_age.1.namespace == own_age.1.namespace {
        return other.name != NameUse::Reserved && other_age < own_age;
    }
    let rank = |used: Use| match used.name {
        NameUse::Derived => 0,
        NameUse::Created => 1,
        NameUse::Set | NameUse::Reserved => 2,
    };
    (rank(other), other_age) < (rank(own), own_age)
}

/// Namespace and name.
fn names_of(pipeline: &impl kube::Resource) -> (&str, &str) {
    let meta = pipeline.meta();
    (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

/// None where the pipeline cannot be resolved with these connections.
fn resources_of(pipeline: &UserPipeline, connections: &Connections, recorded: Recorded<'_>) -> Option<[Used; 2]> {
    let resolved = resolve(pipeline, connections).ok()?;
    Some(resources(&resolved, default_tls(pipeline, &resolved).mode, recorded))
}

#[cfg(test)]
mod tests;
