//! Which pod configs runs and workers may use now.

use super::pod_config::PodConfigRef;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// The desired schema is applied: all pods use the current spec.
    #[default]
    Open,
    /// The schema is applied, but some workers do not know the current record yet. Runs keep their config so that they do not
    /// publish fields that those workers would drop.
    WorkersFirst { ingest: PodConfigRef },
    /// The schema is not applied: pods keep their configs, and pods without one are not created.
    Held {
        ingest: Option<PodConfigRef>,
        worker: Option<PodConfigRef>,
    },
}

impl Gate {
    pub const fn is_workers_first(&self) -> bool {
        matches!(self, Self::WorkersFirst { .. })
    }
}
