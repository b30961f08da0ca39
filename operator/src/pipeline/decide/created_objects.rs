//! What did the pipeline create in its stores? Pure. Its schema Jobs report it, and nothing else is changed or deleted.

use userpipeline_api::{Names, StoreObject, UserPipelineStatus, report::SchemaReport};

use crate::pipeline::observe::{Progress, TaskJob};

/// A pipeline uses about seven at a time, and two for each of up to eight aggregates.
const AT_MOST: usize = 32;

/// The record, to be written to the status. None while a pipeline that is older than the record has not reported what it created.
/// `names`: those that its spec names.
pub fn created_objects(recorded: &UserPipelineStatus, jobs: &[TaskJob<SchemaReport>], names: &Names) -> Option<Vec<StoreObject>> {
    let reports = || jobs.iter().filter_map(report);
    let is_new = recorded.schema.is_none();
    let mut objects = match &recorded.created_objects {
        Some(objects) => objects.clone(),
        None if is_new || reports().any(|report| report.has_all_claimed) => Vec::new(),
        None => return None,
    };
    // Also those of failed and interrupted Jobs, and of earlier specs.
    for object in reports().flat_map(|report| &report.created_objects) {
        if !objects.contains(object) {
            objects.push(object.clone());
        }
    }
    while objects.len() > AT_MOST {
        let oldest = objects.iter().position(|object| !is_named(object, names)).unwrap_or(0);
        objects.remove(oldest);
    }
    Some(objects)
}

const fn report(job: &TaskJob<SchemaReport>) -> Option<&SchemaReport> {
    match &job.progress {
        Progress::Running { .. } => None,
        Progress::Succeeded { report, .. } | Progress::Failed { report, .. } => Some(report),
    }
}

fn is_named(object: &StoreObject, names: &Names) -> bool {
    let all = [
        &names.topic,
        &names.dead_letter_topic,
        &names.subject,
        &names.consumer_group,
        &names.landing_table,
        &names.postgres_table,
        &names.cassandra_table,
    ];
    let of_aggregates = names.aggregate_views.iter().chain(&names.aggregate_tables);
    all.into_iter().flatten().chain(of_aggregates).any(|name| *name == object.name)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use userpipeline_api::{SchemaStatus, StoreObjectKind};

    use super::*;

    fn topic(name: &str) -> StoreObject {
        StoreObject::new(StoreObjectKind::Topic, "k", name)
    }

    fn status(is_new: bool, objects: Option<&[&str]>) -> UserPipelineStatus {
        UserPipelineStatus {
            schema: (!is_new).then(SchemaStatus::default),
            created_objects: objects.map(|names| names.iter().map(|name| topic(name)).collect()),
            ..UserPipelineStatus::default()
        }
    }

    fn job(has_succeeded: bool, names: &[&str], has_all_claimed: bool) -> TaskJob<SchemaReport> {
        let (at, report) = (
            Timestamp::UNIX_EPOCH,
            SchemaReport {
                created_objects: names.iter().map(|name| topic(name)).collect(),
                has_all_claimed,
                ..SchemaReport::default()
            },
        );
        TaskJob {
            name: "j".into(),
            subject: "s".into(),
            task_hash: String::new(),
            attempt: 0,
            created_at: at,
            deleting: false,
            gone: false,
            progress: if has_succeeded {
                Progress::Succeeded { at, report }
            } else {
                Progress::Failed { at, report }
            },
        }
    }

    #[test]
    fn the_record_is_what_schema_jobs_reported_since_the_pipeline_is_new() {
        for (case, recorded, jobs, expected) in [
            ("a new pipeline", status(true, None), vec![], Some(vec![])),
            ("its first Job", status(true, None), vec![job(true, &["t"], false)], Some(vec!["t"])),
            (
                "a failed Job, and again",
                status(false, Some(&["t"])),
                vec![job(false, &["u"], false), job(true, &["t", "u"], false)],
                Some(vec!["t", "u"]),
            ),
            ("an older pipeline", status(false, None), vec![], None),
            (
                "an older pipeline whose Job failed before it read all claims",
                status(false, None),
                vec![job(false, &["t"], false)],
                None,
            ),
            (
                "an older pipeline that reported its claims",
                status(false, None),
                vec![job(true, &["t"], true)],
                Some(vec!["t"]),
            ),
        ] {
            let found = created_objects(&recorded, &jobs, &Names::default());
            let expected = expected.map(|names| names.into_iter().map(topic).collect::<Vec<_>>());
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn a_full_record_forgets_the_oldest_objects_that_the_spec_does_not_name() {
        let names: Vec<String> = (0..AT_MOST).map(|n| format!("t{n}")).collect();
        let recorded = status(false, Some(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        let in_spec = Names {
            topic: Some("t0".into()),
            ..Names::default()
        };
        let found = created_objects(&recorded, &[job(true, &["new"], false)], &in_spec).unwrap();
        let found: Vec<&str> = found.iter().map(|object| object.name.as_str()).collect();
        assert_eq!((found.len(), found[0], found[1], found[AT_MOST - 1]), (AT_MOST, "t0", "t2", "new"));
    }
}
