//! Which pipelines use which connections.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::channel::mpsc;
use userpipeline_api::{UserPipeline, names::PipelineId};

use crate::pipeline::model::ConnectionId;

#[derive(Default)]
struct State {
    of_pipeline: HashMap<PipelineId, BTreeSet<ConnectionId>>,
    users: HashMap<ConnectionId, HashSet<PipelineId>>,
    /// Receives each connection whose number of pipelines changes.
    counted: Option<mpsc::UnboundedSender<ConnectionId>>,
}

/// Filled by reconciles. Each records its pipeline before it reads connections, so a change of a connection that it does not see
/// queues it again.
#[derive(Default)]
pub struct ConnectionUses(Mutex<State>);

impl ConnectionUses {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections whose status is to be written. The only receiver is the latest one.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<ConnectionId> {
        let (sender, receiver) = mpsc::unbounded();
        self.state().counted = Some(sender);
        receiver
    }

    /// The status of this connection is to be written.
    pub fn announce(&self, connection: ConnectionId) {
        self.state().announce(connection);
    }

    /// The pipeline names these connections of its namespace, and no others.
    pub fn record<'a>(&self, pipeline: &PipelineId, names: impl Iterator<Item = &'a str>) {
        self.state().set(pipeline, named(pipeline, names));
    }

    /// Records a cached pipeline that was not reconciled yet.
    pub fn seed(&self, pipeline: &UserPipeline) {
        let id = PipelineId::of(pipeline);
        let named = named(&id, pipeline.spec.connections.iter().map(|connection| connection.name.as_str()));
        let mut state = self.state();
        if !state.of_pipeline.contains_key(&id) {
            state.set(&id, named);
        }
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &PipelineId) {
        self.state().set(pipeline, BTreeSet::new());
    }

    pub fn pipelines(&self, connection: &ConnectionId) -> Vec<PipelineId> {
        self.state().users.get(connection).into_iter().flatten().cloned().collect()
    }

    pub fn count(&self, connection: &ConnectionId) -> usize {
        self.state().users.get(connection).map_or(0, HashSet::len)
    }
}

fn named<'a>(pipeline: &PipelineId, names: impl Iterator<Item = &'a str>) -> BTreeSet<ConnectionId> {
    let ids = names.map(|name| ConnectionId {
        namespace: pipeline.namespace.clone(),
        name: name.to_owned(),
    });
    ids.collect()
}

impl State {
    fn announce(&self, connection: ConnectionId) {
        if let Some(counted) = &self.counted {
            // The receiver is closed only when the operator stops.
            let _ = counted.unbounded_send(connection);
        }
    }

    fn set(&mut self, pipeline: &PipelineId, named: BTreeSet<ConnectionId>) {
        let before = self.of_pipeline.get(pipeline).cloned().unwrap_or_default();
        if before == named {
            return;
        }
        for connection in before.difference(&named) {
            if let Some(users) = self.users.get_mut(connection) {
                users.remove(pipeline);
                if users.is_empty() {
                    self.users.remove(connection);
                }
            }
            self.announce(connection.clone());
        }
        for connection in named.difference(&before) {
            self.users.entry(connection.clone()).or_default().insert(pipeline.clone());
            self.announce(connection.clone());
        }
        if named.is_empty() {
            self.of_pipeline.remove(pipeline);
        } else {
            self.of_pipeline.insert(pipeline.clone(), named);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(name: &str) -> PipelineId {
        PipelineId {
            namespace: "demo".into(),
            name: name.into(),
        }
    }

    fn connection(name: &str) -> ConnectionId {
        ConnectionId {
            namespace: "demo".into(),
            name: name.into(),
        }
    }

    fn announced(receiver: &mut mpsc::UnboundedReceiver<ConnectionId>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|connection| connection.name)
            .collect()
    }

    #[test]
    fn each_change_of_a_count_is_announced_once() {
        let uses = ConnectionUses::default();
        let mut receiver = uses.subscribe();
        uses.record(&pipeline("a"), ["stores", "crm"].into_iter());
        assert_eq!(announced(&mut receiver), ["crm", "stores"]);
        uses.record(&pipeline("a"), ["crm", "stores"].into_iter());
        assert_eq!(announced(&mut receiver), [""; 0], "the same");
        uses.record(&pipeline("b"), ["stores"].into_iter());
        assert_eq!((uses.count(&connection("stores")), uses.count(&connection("crm"))), (2, 1));
        uses.record(&pipeline("a"), ["stores"].into_iter());
        assert_eq!(uses.count(&connection("crm")), 0);
        assert_eq!(announced(&mut receiver), ["stores", "crm"]);
        uses.forget(&pipeline("a"));
        assert_eq!(uses.pipelines(&connection("stores")), [pipeline("b")]);
        uses.forget(&pipeline("never"));
        assert_eq!(announced(&mut receiver), ["stores"]);

        let mut cached = crate::pipeline::example();
        cached.spec.connections = serde_json::from_value(serde_json::json!([{"name": "old"}])).unwrap();
        uses.record(&PipelineId::of(&cached), ["new"].into_iter());
        uses.seed(&cached);
        assert_eq!(
            (uses.count(&connection("new")), uses.count(&connection("old"))),
            (1, 0),
            "the reconcile knows better"
        );
    }
}
