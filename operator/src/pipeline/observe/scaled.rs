//! Who else sets the number of workers. The operator sets it back at once, so that it is visible for a moment only; it is remembered
//! for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use userpipeline_api::names::PipelineId;

use super::observed::Observed;

/// An autoscaler writes every 15 seconds while it wants another number.
const REMEMBERED: Duration = Duration::from_secs(300);

/// The managers that scaled the Deployments of pipelines, and when.
#[derive(Debug, Default)]
pub struct Scalers(Mutex<HashMap<PipelineId, (String, Instant)>>);

impl Scalers {
    /// The manager that has recently scaled the workers of a pipeline: `kubectl`, `kube-controller-manager` for an autoscaler.
    pub fn of(&self, id: &PipelineId, observed: &Observed, now: Instant) -> Option<String> {
        let mut scalers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(manager) = scaler(observed) {
            scalers.insert(id.clone(), (manager, now));
        }
        let (manager, at) = scalers.get(id)?;
        if now.duration_since(*at) < REMEMBERED {
            return Some(manager.clone());
        }
        scalers.remove(id);
        None
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, id: &PipelineId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// The cache keeps of `managedFields` of the subresource only those of others.
fn scaler(observed: &Observed) -> Option<String> {
    let deployments = observed.children.deployments.iter();
    let mut managers = deployments.flat_map(|deployment| deployment.metadata.managed_fields.iter().flatten());
    managers
        .find(|entry| entry.subresource.as_deref() == Some("scale"))?
        .manager
        .clone()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::pipeline::children::Children;

    #[test]
    fn who_scaled_the_workers_is_remembered_for_five_minutes() {
        let scaled = json!({"metadata": {"managedFields": [{"manager": "kube-controller-manager", "subresource": "scale"}]}});
        let observed = Observed {
            children: Children {
                deployments: vec![Arc::new(serde_json::from_value(scaled).unwrap())],
                ..Children::default()
            },
            ..Observed::default()
        };
        let id = |name: &str| PipelineId {
            namespace: "demo".to_owned(),
            name: name.to_owned(),
        };
        let (scalers, start) = (Scalers::default(), Instant::now());
        let at = |observed: &Observed, name: &str, second: u64| scalers.of(&id(name), observed, start + Duration::from_secs(second));
        let none = Observed::default();
        assert_eq!(at(&none, "users", 0), None);
        for (observed, second, expected) in [
            (&observed, 10, true),
            (&none, 309, true),
            (&observed, 309, true),
            (&none, 608, true),
            (&none, 609, false),
        ] {
            let manager = at(observed, "users", second);
            assert_eq!(manager.as_deref(), expected.then_some("kube-controller-manager"), "{second}");
        }
        assert!(at(&observed, "users", 700).is_some() && at(&none, "others", 700).is_none());
        scalers.forget(&id("users"));
        assert_eq!(at(&none, "users", 701), None);
    }
}
