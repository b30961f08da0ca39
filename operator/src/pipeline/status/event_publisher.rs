//! Publishes Events.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};

use crate::{identity::MANAGER, metrics::Metrics};

/// A recorder is replaced after so many Events. It remembers each one for minutes to count repetitions; with many pipelines that
/// would be a third of all memory.
const EVENTS_PER_RECORDER: u32 = 256;

pub struct EventPublisher {
    client: Client,
    reporter: Reporter,
    metrics: Metrics,
    recorder: Mutex<(Recorder, u32)>,
}

impl EventPublisher {
    /// `instance` is the name of the operator's pod.
    pub fn new(client: Client, metrics: Metrics, instance: String) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(instance),
        };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self {
            client,
            reporter,
            metrics,
            recorder: Mutex::new((recorder, 0)),
        }
    }

    /// An Event that cannot be published is logged; it fails nothing.
    pub async fn publish(&self, event: &Event, about: &ObjectReference) {
        let reason = &event.reason;
        match self.recorder().publish(event, about).await {
            Ok(()) => self.metrics.wrote("Event", "create"),
            Err(error) => tracing::warn!(%error, reason, "cannot publish the Event"),
        }
    }

    fn recorder(&self) -> Recorder {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if recorder.1 >= EVENTS_PER_RECORDER {
            *recorder = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        recorder.1 += 1;
        recorder.0.clone()
    }
}
