//! The operator's record of what the pipeline created. Only what is in it is changed or deleted: `userpipeline.claims` is in a database
//! that the pipeline's author can write to.

use std::{
    path::PathBuf,
    sync::{Mutex, OnceLock, PoisonError},
};

use userpipeline_api::{StoreObject, StoreObjectKind, report::SchemaReport};
use userpipeline_runtime::leave_report;
use userpipeline_stores::schema_registry::same_registry;

/// What a schema Job knows of the objects that its pipeline created, and those that it creates itself.
#[derive(Debug, Default)]
pub struct CreatedObjects {
    /// None in a Job of an older operator, and by hand: then claims decide.
    recorded: Option<Vec<StoreObject>>,
    /// The pipeline is older than the record, so its claims fill it.
    from_claims: bool,
    /// Where a Job that is killed leaves what it was about to create.
    termination_log: Option<PathBuf>,
    new: Mutex<Vec<StoreObject>>,
    database: OnceLock<String>,
}

/// What is known about the creator of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creator {
    /// This pipeline.
    Pipeline,
    /// An earlier pipeline of the same name, or this one; but only claims say so, which an author can forge.
    Claimed,
    /// Somebody else.
    Other,
}

impl CreatedObjects {
    /// `from_claims`: claims count as the record, and are reported.
    pub fn new(recorded: Option<Vec<StoreObject>>, from_claims: bool, termination_log: Option<PathBuf>) -> Self {
        Self {
            recorded,
            from_claims,
            termination_log,
            new: Mutex::default(),
            database: OnceLock::new(),
        }
    }

    /// Who created an object. One that the pipeline creates now is reported before it exists, because a Job can be killed at any
    /// moment. `is_new`: it does not exist, and the pipeline may create it. `is_claimed`: its claim says that the pipeline created
    /// it. `is_derived`: no other pipeline may have its name.
    pub fn creator(&self, object: StoreObject, is_new: bool, is_claimed: bool, is_derived: bool) -> Creator {
        let Some(recorded) = &self.recorded else {
            return if is_new || is_claimed { Creator::Pipeline } else { Creator::Other };
        };
        if recorded.iter().any(|known| is_same(known, &object)) {
            return Creator::Pipeline;
        }
        // Every consumer group was claimed as created, also by a pipeline that found it.
        let fills = self.from_claims && is_claimed && (is_derived || object.kind != StoreObjectKind::ConsumerGroup);
        if is_new || fills {
            self.report(object);
            return Creator::Pipeline;
        }
        if is_claimed { Creator::Claimed } else { Creator::Other }
    }

    fn report(&self, object: StoreObject) {
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        if new.contains(&object) {
            return;
        }
        new.push(object);
        if let Some(path) = &self.termination_log {
            let report = SchemaReport {
                created_objects: new.clone(),
                ..SchemaReport::default()
            };
            leave_report(&report, path);
        }
    }

    /// Reports objects of a kind no longer, because they were not created. `name`: only the one with this name.
    pub fn withdraw(&self, kind: StoreObjectKind, name: Option<&str>) {
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        new.retain(|object| object.kind != kind || name.is_some_and(|name| object.name != name));
    }

    /// The id of the database, once it is known; empty where the server does not report it.
    pub fn set_database(&self, id: Option<&str>) {
        let _ = self.database.set(id.unwrap_or_default().to_owned());
    }

    pub fn database(&self) -> &str {
        self.database.get().map_or("", String::as_str)
    }

    /// Whether the claims that the spec names were read, or will be by the end of the Job.
    pub const fn is_filled(&self) -> bool {
        self.from_claims
    }

    /// For the report of the Job.
    pub fn created(&self) -> Vec<StoreObject> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A registry has another URL after a change from http to https.
pub fn is_same(one: &StoreObject, other: &StoreObject) -> bool {
    let is_same_store = one.store == other.store || one.kind == StoreObjectKind::Subject && same_registry(&one.store, &other.store);
    one.kind == other.kind && one.name == other.name && is_same_store
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> StoreObject {
        StoreObject::new(StoreObjectKind::Topic, "k", name)
    }

    #[test]
    fn only_the_record_of_the_operator_and_missing_objects_make_a_pipeline_the_creator() {
        use Creator::{Claimed, Other, Pipeline};
        let known = || CreatedObjects::new(Some(vec![topic("own")]), false, None);
        let older = || CreatedObjects::new(Some(vec![]), true, None);
        // Whether it is new, claimed, and derived.
        for (case, created, name, [is_new, is_claimed, is_derived], expected) in [
            ("recorded", known(), "own", [false, false, false], Pipeline),
            ("missing", known(), "new", [true, false, false], Pipeline),
            ("existing", known(), "foreign", [false, false, true], Other),
            ("only claimed", known(), "foreign", [false, true, false], Claimed),
            ("a claim of the derived name", known(), "demo.users", [false, true, true], Claimed),
            ("of an older pipeline", older(), "payments", [false, true, false], Pipeline),
            ("found by an older pipeline", older(), "payments", [false, false, true], Other),
            ("an older operator", CreatedObjects::default(), "t", [false, true, false], Pipeline),
        ] {
            assert_eq!(created.creator(topic(name), is_new, is_claimed, is_derived), expected, "{case}");
            let is_reported = expected == Pipeline && name != "own" && created.recorded.is_some();
            assert_eq!(created.created(), if is_reported { vec![topic(name)] } else { vec![] }, "{case}");
        }
    }

    #[test]
    fn the_record_of_another_store_does_not_count() {
        let created = CreatedObjects::new(Some(vec![topic("own")]), false, None);
        let elsewhere = StoreObject::new(StoreObjectKind::Topic, "another cluster", "own");
        assert_eq!(created.creator(elsewhere, false, false, false), Creator::Other);
        let group = StoreObject::new(StoreObjectKind::ConsumerGroup, "k", "own");
        assert_eq!(created.creator(group, false, false, false), Creator::Other);
        let subject = |url: &str| StoreObject::new(StoreObjectKind::Subject, url, "own-value");
        let created = CreatedObjects::new(Some(vec![subject("http://registry:8080/v7")]), false, None);
        let over_https = subject("https://registry:8443/v7");
        assert_eq!(created.creator(over_https, false, false, false), Creator::Pipeline);
    }

    #[test]
    fn a_consumer_group_of_an_older_pipeline_is_its_own_only_with_the_derived_name() {
        let group = |name: &str| StoreObject::new(StoreObjectKind::ConsumerGroup, "k", name);
        let created = CreatedObjects::new(Some(vec![]), true, None);
        assert_eq!(created.creator(group("payments"), false, true, false), Creator::Claimed);
        assert_eq!(created.creator(group("demo.users"), false, true, true), Creator::Pipeline);
        assert_eq!(created.created(), [group("demo.users")]);
    }

    #[test]
    fn what_was_not_created_after_all_is_not_reported() {
        let created = CreatedObjects::new(Some(vec![]), false, None);
        let table = StoreObject::new(StoreObjectKind::Table, "1/d", "payments");
        for object in [table, topic("t")] {
            created.creator(object, true, false, false);
        }
        created.withdraw(StoreObjectKind::Table, None);
        assert_eq!(created.created(), [topic("t")]);
    }

    #[test]
    fn what_is_about_to_be_created_is_reported_although_the_job_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("termination-log");
        let created = CreatedObjects::new(Some(vec![]), false, Some(log.clone()));
        assert_eq!(created.creator(topic("t"), true, false, false), Creator::Pipeline);
        assert_eq!(created.creator(topic("t.dlq"), true, false, false), Creator::Pipeline);
        let left: SchemaReport = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
        assert_eq!(left.created_objects, [topic("t"), topic("t.dlq")]);
        assert_eq!(left.reason, "", "how the pod ended explains the failure");
    }
}
