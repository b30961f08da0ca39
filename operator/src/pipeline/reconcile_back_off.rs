//! The back-off after failed reconciles: per pipeline, doubled with each failure, with jitter.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use userpipeline_api::names::PipelineId;
use userpipeline_runtime::{doubled, random_between};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Counts the failures in a row of each pipeline.
#[derive(Default)]
pub struct ReconcileBackOff(Mutex<HashMap<PipelineId, u32>>);

impl ReconcileBackOff {
    /// Counts a failed reconcile, and returns the time to the next one.
    pub fn after_failure(&self, id: PipelineId) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = failures.entry(id).or_default();
        *failures = failures.saturating_add(1);
        jitter(doubled(FIRST, LONGEST, *failures))
    }

    /// After a success, or once the pipeline is gone.
    pub fn forget(&self, id: &PipelineId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// `wait`, up to a fifth shorter or longer.
pub fn jitter(wait: Duration) -> Duration {
    random_between(wait * 4 / 5, wait * 6 / 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_five_minutes_and_start_over_after_a_success() {
        let back_off = ReconcileBackOff::default();
        let id = PipelineId {
            namespace: "demo".into(),
            name: "users".into(),
        };
        let near = |wait: Duration, seconds: f64| (0.8 * seconds..=1.2 * seconds).contains(&wait.as_secs_f64());
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0] {
            assert!(near(back_off.after_failure(id.clone()), seconds));
        }
        back_off.forget(&id);
        assert!(near(back_off.after_failure(id), 1.0));
    }
}
