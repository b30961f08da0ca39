//! Publishes Events.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};

use crate::{identity::MANAGER, metrics::Metrics};

/// Recorders are replaced after so many different Events. Each remembers its Event for minutes to count repetitions; with many
/// pipelines that would be a third of all memory.
const MAX_RECORDERS: usize = 256;

pub struct EventPublisher {
    client: Client,
    reporter: Reporter,
    metrics: Metrics,
    /// One for each object, reason and text: a recorder counts an Event with another text as a repetition of the first.
    recorders: Mutex<HashMap<u64, Recorder>>,
    hasher: RandomState,
}

impl EventPublisher {
    /// `instance` is the name of the operator's pod.
    pub fn new(client: Client, metrics: Metrics, instance: String) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(instance),
        };
        Self {
            client,
            reporter,
            metrics,
            recorders: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// An Event that cannot be published is logged; it fails nothing.
    pub async fn publish(&self, event: &Event, about: &ObjectReference) {
        let reason = &event.reason;
        match self.recorder(event, about).publish(event, about).await {
            Ok(()) => self.metrics.wrote("Event", "create"),
            Err(error) => tracing::warn!(%error, reason, "cannot publish the Event"),
        }
    }

    fn recorder(&self, event: &Event, about: &ObjectReference) -> Recorder {
        let key = self.hasher.hash_one((&about.uid, &event.reason, &event.note));
        let mut recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        if recorders.len() >= MAX_RECORDERS && !recorders.contains_key(&key) {
            recorders.clear();
        }
        let recorder = recorders
            .entry(key)
            .or_insert_with(|| Recorder::new(self.client.clone(), self.reporter.clone()));
        recorder.clone()
    }
}
