//! The last states of objects that were deleted recently. Otherwise, a policy that deletes Jobs when they end would delete their results.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Resource, ResourceExt,
    runtime::{reflector::Store, watcher::Event},
};
use serde::de::DeserializeOwned;
use userpipeline_api::names::PipelineId;

use super::compressed::Compressed;
use crate::pipeline::model::{elapsed, whole_seconds};

/// Longer than the longest back-off of a reconcile.
const REMEMBERED: Duration = Duration::from_secs(600);
/// More than the intervals that a back-fill or catch-up may run ahead of the oldest unfinished one.
const OF_A_PIPELINE: usize = 256;
/// Compressed bytes of all pipelines together.
const BYTES_IN_TOTAL: usize = 16 << 20;
/// Compressed bytes of one object. A Job or a pod of a pipeline has a few thousand.
const LARGEST: usize = 128 << 10;
/// Deletes by the operator whose events are awaited.
const EXPECTED: usize = 1024;

/// An object that was deleted at this time.
struct Entry<K> {
    at: Timestamp,
    object: Compressed<K>,
}

struct Memory<K> {
    /// The oldest first.
    entries: VecDeque<Entry<K>>,
    /// The compressed bytes of the entries.
    bytes: usize,
    /// The uids of objects that the operator deletes itself, which need not be remembered.
    expected: VecDeque<String>,
}

impl<K> Memory<K> {
    fn forget(&mut self, position: usize) {
        if let Some(entry) = self.entries.remove(position) {
            self.bytes -= entry.object.compressed_size();
        }
    }
}

pub struct Deleted<K>(Arc<Mutex<Memory<K>>>);

impl<K> Clone for Deleted<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Deleted<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Memory {
            entries: VecDeque::new(),
            bytes: 0,
            expected: VecDeque::new(),
        })))
    }
}

impl<K> Deleted<K> {
    fn memory(&self) -> MutexGuard<'_, Memory<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operator is about to delete the object.
    pub fn expect(&self, uid: &str) {
        let mut memory = self.memory();
        if memory.expected.len() >= EXPECTED {
            memory.expected.pop_front();
        }
        memory.expected.push_back(uid.to_owned());
    }

    /// The apiserver refused to delete it.
    pub fn unexpect(&self, uid: &str) {
        self.memory().expected.retain(|expected| expected != uid);
    }
}

impl<K: Resource<DynamicType = ()>> Deleted<K> {
    pub fn remember(&self, object: Compressed<K>, now: Timestamp) {
        let mut memory = self.memory();
        let uid = object.uid().unwrap_or_default();
        if let Some(at) = memory.expected.iter().position(|expected| *expected == uid) {
            memory.expected.remove(at);
            return;
        }
        let size = object.compressed_size();
        if size > LARGEST {
            return;
        }
        memory.bytes += size;
        while memory.bytes > BYTES_IN_TOTAL || memory.entries.front().is_some_and(|entry| elapsed(entry.at, now) >= REMEMBERED) {
            memory.forget(0);
        }
        let is_of_same = |entry: &Entry<K>| (entry.object.namespace(), entry.object.pipeline()) == (object.namespace(), object.pipeline());
        if memory.entries.iter().filter(|entry| is_of_same(entry)).count() >= OF_A_PIPELINE
            && let Some(oldest) = memory.entries.iter().position(is_of_same)
        {
            memory.forget(oldest);
        }
        let at = whole_seconds(now).0;
        memory.entries.push_back(Entry { at, object });
    }

    /// The deleted objects of a pipeline, the oldest first, and when they were deleted.
    pub fn of_pipeline(&self, id: &PipelineId, now: Timestamp) -> Vec<(Timestamp, Arc<K>)>
    where
        K: DeserializeOwned,
    {
        self.of(&id.namespace, Some(&id.name), now)
    }

    /// The same of the objects of a namespace that belong to no pipeline.
    pub fn of_no_pipeline(&self, namespace: &str, now: Timestamp) -> Vec<(Timestamp, Arc<K>)>
    where
        K: DeserializeOwned,
    {
        self.of(namespace, None, now)
    }

    fn of(&self, namespace: &str, pipeline: Option<&str>, now: Timestamp) -> Vec<(Timestamp, Arc<K>)>
    where
        K: DeserializeOwned,
    {
        let memory = self.memory();
        let is_found = |entry: &&Entry<K>| {
            entry.object.meta().namespace.as_deref() == Some(namespace)
                && entry.object.pipeline() == pipeline
                && elapsed(entry.at, now) < REMEMBERED
        };
        let found = memory.entries.iter().filter(is_found);
        found
            .filter_map(|entry| Some((entry.at, Arc::new(entry.object.read().ok()?))))
            .collect()
    }
}

/// Whether a Job or a pod had ended in the state that was received last. Of one that vanished while the watch was interrupted,
/// nothing else is known.
pub fn has_ended<K>(object: &Compressed<K>) -> bool {
    let status = object.status().unwrap_or_default();
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let is_final =
        |condition: &serde_json::Value| condition["status"] == "True" && matches!(condition["type"].as_str(), Some("Complete" | "Failed"));
    matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) || { conditions }.any(is_final)
}

/// Finds what was deleted in the events of a watch, before they reach the store.
pub struct Departures<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<Compressed<K>>,
    /// The uids in the list that is being received.
    listed: HashSet<String>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Departures<K> {
    pub fn new(store: Store<Compressed<K>>) -> Self {
        Self {
            store,
            listed: HashSet::new(),
        }
    }

    pub fn find(&mut self, event: &Event<Compressed<K>>) -> Vec<Compressed<K>> {
        match event {
            Event::Delete(object) => return vec![object.clone()],
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => self.listed.extend(object.uid()),
            Event::InitDone => {
                // What was deleted while the watch was interrupted; its last state is the last one that was received.
                let listed = std::mem::take(&mut self.listed);
                let is_gone = |object: &Compressed<K>| object.uid().is_some_and(|uid| !listed.contains(&uid));
                let gone = self.store.state_filter(is_gone);
                return gone.iter().map(|object| object.as_ref().clone()).collect();
            }
            Event::Apply(_) => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector::store::Writer;
    use serde_json::json;

    use super::*;
    use crate::pipeline::model::labels;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn object(pipeline: &str, uid: &str) -> Compressed<ConfigMap> {
        let object =
            json!({"metadata": {"name": uid, "namespace": "demo", "uid": uid, "labels": {labels::PIPELINE: pipeline}}, "data": {"k": "v"}});
        serde_json::from_value(object).unwrap()
    }

    fn id(name: &str) -> PipelineId {
        PipelineId {
            namespace: "demo".into(),
            name: name.into(),
        }
    }

    fn names(deleted: &Deleted<ConfigMap>, pipeline: &str, now: Timestamp) -> Vec<String> {
        let found = deleted.of_pipeline(&id(pipeline), now);
        found.iter().map(|(_, object)| object.name_any()).collect()
    }

    #[test]
    fn deleted_objects_are_remembered_for_a_while_up_to_a_number_per_pipeline() {
        let deleted = Deleted::default();
        deleted.remember(object("other", "x"), at(0));
        for n in 0..300 {
            deleted.remember(object("users", &format!("{n:03}")), at(n / 10));
        }
        let found = names(&deleted, "users", at(50));
        assert_eq!((found.len(), found[0].as_str(), found[255].as_str()), (256, "044", "299"));
        assert_eq!(names(&deleted, "other", at(50)), ["x"], "of another pipeline");
        assert_eq!(names(&deleted, "users", at(620)).len(), 90, "those of the last ten minutes");
        assert_eq!(deleted.of_pipeline(&id("users"), at(50))[0].1.data.as_ref().unwrap()["k"], "v");
    }

    #[test]
    fn deleted_objects_take_a_bounded_number_of_bytes() {
        let mut noise = 1_u64;
        let mut large = |bytes: usize, uid: &str| {
            // Text that does not compress.
            let text: String = std::iter::repeat_with(|| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'!' + u8::try_from((noise >> 33) % 90).unwrap())
            })
            .filter(|c| *c != '"' && *c != '\\')
            .take(bytes)
            .collect();
            let labels = json!({labels::PIPELINE: uid});
            let object = json!({"metadata": {"name": uid, "namespace": "demo", "uid": uid, "labels": labels}, "data": {"k": text}});
            serde_json::from_value::<Compressed<ConfigMap>>(object).unwrap()
        };
        let deleted = Deleted::default();
        deleted.remember(large(300 << 10, "too-large"), at(0));
        assert!(names(&deleted, "too-large", at(1)).is_empty());
        for n in 0..250 {
            deleted.remember(large(100 << 10, &format!("p{n}")), at(0));
        }
        let memory = deleted.memory();
        assert!(memory.bytes <= BYTES_IN_TOTAL && memory.entries.len() < 250, "{}", memory.bytes);
        assert_eq!(
            memory.bytes,
            memory.entries.iter().map(|entry| entry.object.compressed_size()).sum::<usize>()
        );
    }

    #[test]
    fn an_end_is_known_from_the_last_state() {
        for (status, expected) in [
            (json!({}), false),
            (json!({"phase": "Running"}), false),
            (json!({"phase": "Succeeded"}), true),
            (json!({"conditions": [{"type": "Complete", "status": "True"}]}), true),
            (
                json!({"conditions": [{"type": "Failed", "status": "False"}, {"type": "Suspended", "status": "True"}]}),
                false,
            ),
        ] {
            let object: Compressed<ConfigMap> = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap();
            assert_eq!(has_ended(&object), expected, "{status}");
        }
    }

    #[test]
    fn what_the_operator_deletes_itself_is_not_remembered() {
        let deleted = Deleted::default();
        for uid in ["own", "refused"] {
            deleted.expect(uid);
        }
        deleted.unexpect("refused");
        for uid in ["own", "refused", "foreign"] {
            deleted.remember(object("users", uid), at(0));
        }
        assert_eq!(names(&deleted, "users", at(1)), ["refused", "foreign"]);
    }

    #[test]
    fn objects_that_a_new_list_lacks_are_found_as_those_of_delete_events() {
        let mut writer = Writer::<Compressed<ConfigMap>>::default();
        let mut departures = Departures::new(writer.as_reader());
        let mut find = |event: Event<Compressed<ConfigMap>>| {
            let found = departures.find(&event);
            writer.apply_watcher_event(&event);
            found.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
        };
        let listed = |uid: &str| Event::InitApply(object("users", uid));
        for event in [
            Event::Init,
            listed("a"),
            listed("b"),
            listed("c"),
            Event::InitDone,
            Event::Apply(object("users", "d")),
        ] {
            assert!(find(event).is_empty());
        }
        assert_eq!(find(Event::Delete(object("users", "a"))), ["a"]);
        for event in [Event::Init, listed("c"), listed("e")] {
            assert!(find(event).is_empty());
        }
        let mut gone = find(Event::InitDone);
        gone.sort();
        assert_eq!(gone, ["b", "d"]);
    }
}
