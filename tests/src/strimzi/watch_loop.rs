//! What the Topic Operator and the User Operator have in common: they watch, and look at everything again after a while.

use std::{collections::BTreeSet, fmt::Debug, pin::pin, time::Duration};

use anyhow::Result;
use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    api::ListParams,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::time::{MissedTickBehavior, interval};

/// Strimzi's own is two minutes. A story should not have to wait so long for what nobody reports, such as a topic deleted in Kafka.
const RESYNC: Duration = Duration::from_secs(2);

pub(super) trait Reconciler: Send + 'static {
    /// Makes Kafka agree with the resource of this name, which may no longer exist. It is called again after an error.
    fn reconcile(&mut self, name: &str) -> impl Future<Output = Result<()>> + Send;
}

/// Runs until it is dropped.
pub(super) async fn run<K>(api: Api<K>, mut reconciler: impl Reconciler)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut changes = pin!(watcher(api.clone(), watcher::Config::default()).default_backoff());
    let mut resync = interval(RESYNC);
    resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = BTreeSet::new();
    loop {
        let names: BTreeSet<String> = tokio::select! {
            change = changes.next() => match change {
                Some(Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object))) => [object.name_any()].into(),
                Some(Ok(Event::Init | Event::InitDone)) => continue,
                Some(Err(error)) => {
                    println!("stand-in for Strimzi: {error}");
                    continue;
                }
                None => return,
            },
            _ = resync.tick() => match api.list_metadata(&ListParams::default()).await {
                Ok(list) => list.items.iter().map(ResourceExt::name_any).chain(known.iter().cloned()).collect(),
                Err(error) => {
                    println!("stand-in for Strimzi: {error}");
                    continue;
                }
            },
        };
        for name in names {
            if let Err(error) = reconciler.reconcile(&name).await {
                println!("stand-in for Strimzi: {name}: {error:#}");
            }
            known.insert(name);
        }
    }
}
