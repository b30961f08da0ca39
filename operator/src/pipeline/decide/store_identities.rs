//! Which stores does the pipeline use? Pure. Its schema Jobs report the ids of those that they reached, also the Jobs that failed.

use userpipeline_api::{StoreIdentity, report::SchemaReport};

use crate::pipeline::observe::{Progress, TaskJob};

/// A pipeline uses three, and six while a connection changes.
const AT_MOST: usize = 6;

/// To be written to the status.
pub fn store_identities(recorded: &[StoreIdentity], jobs: &[TaskJob<SchemaReport>]) -> Vec<StoreIdentity> {
    let mut stores = recorded.to_vec();
    let mut ended: Vec<_> = jobs.iter().collect();
    ended.sort_by_key(|job| job.created_at);
    for job in ended {
        let (Progress::Succeeded { report, .. } | Progress::Failed { report, .. }) = &job.progress else {
            continue;
        };
        for store in report.store_identities.iter().filter(|store| !store.ids.is_empty()) {
            let same = stores
                .iter_mut()
                .find(|known| (known.kind, &known.address) == (store.kind, &store.address));
            match same {
                Some(known) => known.clone_from(store),
                None => stores.push(store.clone()),
            }
        }
    }
    stores.drain(..stores.len().saturating_sub(AT_MOST));
    stores
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use userpipeline_api::StoreAddress;

    use super::*;

    fn kafka(servers: &str, id: &str) -> StoreIdentity {
        StoreAddress::kafka(servers).identified([id.to_owned()])
    }

    fn job(second: i64, has_succeeded: bool, stores: Vec<StoreIdentity>) -> TaskJob<SchemaReport> {
        let at = Timestamp::from_second(second).unwrap();
        let report = SchemaReport {
            store_identities: stores,
            ..SchemaReport::default()
        };
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
    fn a_store_has_the_ids_that_the_last_schema_job_reported_at_its_address() {
        let no_id = StoreIdentity {
            ids: Vec::new(),
            ..kafka("a", "")
        };
        for (case, recorded, jobs, expected) in [
            ("nothing is known", vec![], vec![], vec![]),
            (
                "a Job that was refused",
                vec![],
                vec![job(1, false, vec![kafka("a", "1")])],
                vec![kafka("a", "1")],
            ),
            (
                "another cluster at the same address",
                vec![kafka("a", "1")],
                vec![job(2, true, vec![kafka("a", "2")]), job(1, false, vec![kafka("a", "1")])],
                vec![kafka("a", "2")],
            ),
            (
                "another address",
                vec![kafka("a", "1")],
                vec![job(1, true, vec![kafka("b", "1")])],
                vec![kafka("a", "1"), kafka("b", "1")],
            ),
            (
                "no id",
                vec![kafka("a", "1")],
                vec![job(1, true, vec![no_id])],
                vec![kafka("a", "1")],
            ),
        ] {
            assert_eq!(store_identities(&recorded, &jobs), expected, "{case}");
        }
    }

    #[test]
    fn the_stores_of_the_latest_addresses_stay() {
        let recorded: Vec<_> = (0..AT_MOST).map(|n| kafka(&n.to_string(), "k")).collect();
        let stores = store_identities(&recorded, &[job(1, true, vec![kafka("new", "k")])]);
        assert_eq!((stores.len(), &stores[0]), (AT_MOST, &recorded[1]));
        assert_eq!(stores[AT_MOST - 1], kafka("new", "k"));
    }
}
