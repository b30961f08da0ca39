//! Children that stay different from what is desired: a mutating webhook changes them in every write. Writing them again would
//! change nothing, so the operator does so only when the desired or the live object changes. Not persisted: after a restart of the
//! operator, each is written once more.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use userpipeline_api::{names, names::PipelineId};

/// Fields of the metadata that change without a change of the object.
const VOLATILE: [&str; 3] = ["resourceVersion", "managedFields", "generation"];
/// Set by the Deployment controller after each change of the pod template.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// A child, and the fields in which it stays different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub kind: &'static str,
    pub name: String,
    pub paths: Vec<String>,
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.name, self.paths.join(", "))
    }
}

/// What the apiserver answered to the last write of a child.
#[derive(Debug)]
struct Answer {
    desired: String,
    live: String,
    paths: Vec<String>,
}

type Child = (&'static str, String);
type Answers = HashMap<PipelineId, BTreeMap<Child, Answer>>;

#[derive(Debug, Default)]
pub struct Overrides(Mutex<Answers>);

impl Overrides {
    /// Whether writing `desired` changed `live` to what it is now, so that another write would change nothing.
    pub(super) fn is_known(&self, id: &PipelineId, kind: &'static str, name: &str, live: &Value, desired: &Value) -> bool {
        let answers = self.answers();
        let answer = answers.get(id).and_then(|of_pipeline| of_pipeline.get(&(kind, name.to_owned())));
        answer.is_some_and(|answer| answer.desired == names::hash(&desired.to_string()) && answer.live == hash_of_live(live))
    }

    /// Remembers the answer to a write, and the fields in which it differs from what was desired.
    pub(super) fn answered(&self, id: &PipelineId, kind: &'static str, name: &str, live: &Value, desired: &Value, paths: Vec<String>) {
        if paths.is_empty() {
            return self.settled(id, kind, name);
        }
        let answer = Answer {
            desired: names::hash(&desired.to_string()),
            live: hash_of_live(live),
            paths,
        };
        let mut answers = self.answers();
        answers.entry(id.clone()).or_default().insert((kind, name.to_owned()), answer);
    }

    /// The child is as desired, or gone.
    pub(super) fn settled(&self, id: &PipelineId, kind: &'static str, name: &str) {
        let mut answers = self.answers();
        let Some(of_pipeline) = answers.get_mut(id) else { return };
        of_pipeline.remove(&(kind, name.to_owned()));
        if of_pipeline.is_empty() {
            answers.remove(id);
        }
    }

    /// The children of a pipeline that stay different.
    pub(super) fn of(&self, id: &PipelineId) -> Vec<Override> {
        let answers = self.answers();
        let of_pipeline = answers.get(id).into_iter().flatten();
        of_pipeline
            .map(|((kind, name), answer)| Override {
                kind,
                name: name.clone(),
                paths: answer.paths.clone(),
            })
            .collect()
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, id: &PipelineId) {
        self.answers().remove(id);
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash_of_live(live: &Value) -> String {
    let mut live = live.clone();
    if let Value::Object(object) = &mut live {
        object.remove("status");
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.retain(|key, _| !VOLATILE.contains(&key.as_str()));
            if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
                annotations.remove(REVISION);
            }
        }
    }
    names::hash(&live.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id() -> PipelineId {
        PipelineId {
            namespace: "demo".to_owned(),
            name: "users".to_owned(),
        }
    }

    #[test]
    fn an_answer_is_known_until_the_desired_or_the_live_object_changes() {
        let desired = json!({"spec": {"limit": "1"}});
        let live = json!({"metadata": {"name": "w", "resourceVersion": "5", "generation": 2}, "spec": {"limit": "2"}});
        let overrides = Overrides::default();
        assert!(!overrides.is_known(&id(), "Deployment", "w", &live, &desired));
        overrides.answered(&id(), "Deployment", "w", &live, &desired, vec!["spec.limit".to_owned()]);
        let known = |live: &Value, desired: &Value| overrides.is_known(&id(), "Deployment", "w", live, desired);
        let later = json!({"metadata": {"name": "w", "resourceVersion": "6", "generation": 3, "managedFields": []}, "spec": {"limit": "2"}, "status": {"replicas": 1}});
        assert!(known(&live, &desired) && known(&later, &desired));
        assert!(!known(&live, &json!({"spec": {"limit": "3"}})));
        assert!(!known(&json!({"metadata": {"name": "w"}, "spec": {"limit": "4"}}), &desired));
        assert_eq!(overrides.of(&id())[0].to_string(), "Deployment w: spec.limit");
    }

    #[test]
    fn a_child_that_is_as_desired_again_is_forgotten() {
        let (live, desired) = (json!({"a": 1}), json!({"a": 2}));
        let overrides = Overrides::default();
        for forget in [
            |overrides: &Overrides| overrides.answered(&id(), "CronJob", "c", &json!({}), &json!({}), Vec::new()),
            |overrides: &Overrides| overrides.settled(&id(), "CronJob", "c"),
            |overrides: &Overrides| overrides.forget(&id()),
        ] {
            overrides.answered(&id(), "CronJob", "c", &live, &desired, vec!["a".to_owned()]);
            assert_eq!(overrides.of(&id()).len(), 1);
            forget(&overrides);
            assert_eq!(overrides.of(&id()), []);
        }
    }
}
