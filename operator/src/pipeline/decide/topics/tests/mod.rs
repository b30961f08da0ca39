//! The decision about KafkaTopics, as tables.

mod planned;
mod readiness;

use serde_json::{Value, json};
use userpipeline_api::{InspectionStatus, Topic, TopicManagement};

use super::*;
use crate::{
    pipeline::{
        example,
        model::{Owner, labels},
        observe::Progress,
    },
    strimzi::{Kind, Objects},
};

const SECOND: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(SECOND + second).unwrap()
}

fn owner() -> Owner {
    example::validate(&example::pipeline()).unwrap().owner
}

fn declared(adopt: bool, config: &[(&str, &str)]) -> StrimziTopics {
    let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    StrimziTopics {
        cluster: ClusterId {
            namespace: "kafka".into(),
            name: "events".into(),
        },
        topic: "demo.users".into(),
        dead_letter_topic: "demo.users.dlq".into(),
        settings: Topic {
            management: TopicManagement::Strimzi,
            partitions: 3,
            replicas: 2,
            adopt,
            config: config.collect(),
            ..Topic::default()
        },
        has_runs: true,
        dead_letter_retention: Duration::from_secs(3600),
        has_default_replicas: false,
    }
}

fn existing(name: &str, config: &[(&str, &str)]) -> ExistingTopic {
    let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    ExistingTopic {
        name: name.into(),
        id: "old".into(),
        partitions: 5,
        replicas: 1,
        message_limit: Some(1_048_588),
        config: config.collect(),
    }
}

/// A KafkaTopic of the pipeline that is Ready as `planned`, with changes.
fn live(planned: &PlannedTopic, id: &str, change: impl FnOnce(&mut Value)) -> KafkaTopic {
    let owner = owner();
    let mut object = json!({
        "metadata": {"name": planned.name, "namespace": "kafka", "uid": format!("uid-{}", planned.name), "generation": 2,
            "labels": {labels::STRIMZI_CLUSTER: "events", labels::PIPELINE: owner.id.name, labels::PIPELINE_NAMESPACE: owner.id.namespace, labels::PIPELINE_UID: owner.uid},
            "annotations": {labels::DESIRED_HASH: planned.hash()}},
        "spec": planned.spec,
        "status": {"observedGeneration": 2, "topicName": planned.spec.topic_name, "topicId": id, "conditions": [{"type": "Ready", "status": "True"}]},
    });
    if let Some(existing) = &planned.existing {
        object["metadata"]["annotations"][labels::EXISTING_TOPIC] = json!(serde_json::to_string(existing).unwrap());
    }
    if planned.is_adopted {
        object["metadata"]["annotations"][labels::ADOPTED] = json!("true");
    }
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

/// What a decision is made from, with defaults.
struct Case {
    declared: StrimziTopics,
    recorded: Option<TopicsStatus>,
    observed: Result<Vec<KafkaTopic>, Unavailable>,
    jobs: Vec<TaskJob<InspectionReport>>,
    created: Vec<StoreObject>,
    kafka_clusters: Vec<String>,
    verified_id: Option<&'static str>,
    accepted: Vec<String>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            declared: declared(false, &[]),
            recorded: None,
            observed: Ok(Vec::new()),
            jobs: Vec::new(),
            created: Vec::new(),
            kafka_clusters: Vec::new(),
            verified_id: None,
            accepted: Vec::new(),
        }
    }
}

impl Case {
    fn decide(&self) -> Decision {
        use kube::{ResourceExt, api::ApiResource, core::GroupVersionKind};
        let observed = self.observed.clone().map(|topics| Objects {
            resource: ApiResource::from_gvk(&GroupVersionKind::gvk("kafka.strimzi.io", "v1", "KafkaTopic")),
            by_name: topics.into_iter().map(|topic| (topic.name_any(), topic.into())).collect(),
        });
        let input = TopicsInput {
            declared: &self.declared,
            owner: &owner(),
            recorded: self.recorded.as_ref(),
            observed: &observed,
            jobs: &self.jobs,
            created: &self.created,
            kafka_clusters: &self.kafka_clusters,
            verified_id: self.verified_id,
            accepted: &self.accepted,
            skip_inspection: false,
        };
        decide(&input, "t", at(10))
    }

    /// After an inspection that found these topics.
    fn inspected(self, existing: Vec<ExistingTopic>) -> Self {
        let first = self.decide();
        let subject = first.inspect.expect("an inspection is due").subject;
        let recorded = TopicsStatus {
            inspection: Some(InspectionStatus {
                subject: Some(subject),
                kafka_cluster: Some("k1".into()),
                existing,
                ..InspectionStatus::default()
            }),
            ..first.status.unwrap()
        };
        Self {
            recorded: Some(recorded),
            ..self
        }
    }

    /// Both KafkaTopics exist, with these changes to the first; `id` is recorded.
    fn running(planned: &[PlannedTopic], id: Option<&str>, change: impl FnOnce(&mut Value)) -> Self {
        let mut case = Self {
            observed: Ok(vec![live(&planned[0], "id-1", change), live(&planned[1], "id-2", |_| {})]),
            ..Self::default()
        };
        let resource = |topic: &str, id: Option<&str>| userpipeline_api::TopicResource {
            topic: topic.into(),
            name: topic.into(),
            uid: format!("uid-{topic}"),
            id: id.map(str::to_owned),
            adopted: false,
        };
        case.recorded = Some(TopicsStatus {
            cluster: "kafka/events".into(),
            resources: vec![resource("demo.users", id), resource("demo.users.dlq", Some("id-2"))],
            ..TopicsStatus::default()
        });
        case
    }
}

fn planned_new() -> Vec<PlannedTopic> {
    Case::default().inspected(Vec::new()).decide().apply
}

fn reason(decision: &Decision) -> (&'static str, &str) {
    match &decision.finding {
        Finding::NotManaged => ("NotManaged", ""),
        Finding::Unknown => ("Unknown", ""),
        Finding::Waiting((reason, _)) => ("Waiting", reason),
        Finding::Failed((reason, _)) => ("Failed", reason),
        Finding::Unverified((reason, _)) => ("Unverified", reason),
        Finding::Ready(_) => ("Ready", ""),
    }
}

#[test]
fn topics_are_inspected_and_the_result_recorded_before_anything_is_created() {
    // Given neither KafkaTopic exists, then a Job is due and nothing else
    let first = Case::default().decide();
    assert_eq!((reason(&first), first.apply.len()), (("Waiting", "Inspecting"), 0));
    let inspection = first.inspect.clone().unwrap();
    assert_eq!(inspection.attempt, 0);

    // When the Job has ended, then its result is recorded first
    let job = |progress| TaskJob {
        name: "users-inspection".into(),
        subject: inspection.subject.clone(),
        task_hash: "t".into(),
        attempt: 0,
        created_at: at(0),
        deleting: false,
        gone: false,
        progress,
    };
    let report = InspectionReport {
        kafka_cluster: Some("k1".into()),
        ..InspectionReport::default()
    };
    let ended = Case {
        jobs: vec![job(Progress::Succeeded { at: at(5), report })],
        ..Case::default()
    };
    let second = ended.decide();
    assert_eq!((second.apply.len(), second.delete.len()), (0, 0));

    // Then the KafkaTopics are applied, and the Job is deleted
    let third = Case {
        recorded: second.status,
        ..ended
    }
    .decide();
    let names: Vec<&str> = third.apply.iter().map(|planned| planned.name.as_str()).collect();
    assert_eq!((names, third.delete.len()), (vec!["demo.users", "demo.users.dlq"], 1));
    assert_eq!(reason(&third), ("Waiting", "WaitingForTopicOperator"));

    // A failed Job is reported with its reason, and repeated
    let report = InspectionReport {
        reason: "KafkaUnreachable".into(),
        ..InspectionReport::default()
    };
    let failed = Case {
        jobs: vec![job(Progress::Failed { at: at(5), report })],
        ..Case::default()
    }
    .decide();
    assert_eq!(reason(&failed), ("Failed", "KafkaUnreachable"));
    let next = Case {
        recorded: failed.status,
        ..Case::default()
    };
    assert_eq!(next.decide().inspect.map(|inspection| inspection.attempt), Some(1));
}

#[test]
fn an_existing_topic_is_only_touched_if_it_was_created_by_the_pipeline_or_is_adopted() {
    let stored = |cluster: &str| vec![StoreObject::new(StoreObjectKind::Topic, cluster, "demo.users")];
    for (case, adopt, created, expected) in [
        ("of somebody else", false, vec![], None),
        ("adopted", true, vec![], Some(true)),
        ("created by the pipeline, without Strimzi", false, stored("k1"), Some(false)),
        ("created in another cluster", false, stored("k2"), None),
    ] {
        let decision = Case {
            declared: declared(adopt, &[]),
            created,
            ..Case::default()
        }
        .inspected(vec![existing("demo.users", &[])])
        .decide();
        match expected {
            None => {
                assert_eq!(reason(&decision), ("Failed", "TopicNotCreated"), "{case}");
                assert_eq!(decision.apply, [], "{case}: not even the other topic");
                // It may be gone later, so it is inspected again.
                let again = Case {
                    recorded: decision.status,
                    ..Case::default()
                }
                .decide();
                assert_eq!(reason(&again), ("Failed", "TopicNotCreated"), "{case}");
                assert_eq!(again.inspect.map(|inspection| inspection.attempt), Some(1), "{case}");
            }
            Some(is_adopted) => {
                assert_eq!(decision.apply.len(), 2, "{case}");
                assert_eq!(
                    (decision.apply[0].is_adopted, decision.apply[1].is_adopted),
                    (is_adopted, false),
                    "{case}"
                );
                assert!(decision.apply[0].existing.is_some(), "{case}");
            }
        }
    }
}

#[test]
fn a_kafka_topic_of_somebody_else_is_never_touched() {
    type Change = fn(&mut Value);
    let planned = planned_new();
    for (case, change, expected) in [
        (
            "another pipeline",
            (|topic| topic["metadata"]["labels"][labels::PIPELINE] = json!("other")) as Change,
            "NotOurs",
        ),
        (
            "another namespace",
            |topic| topic["metadata"]["labels"][labels::PIPELINE_NAMESPACE] = json!("other"),
            "NotOurs",
        ),
        (
            "without labels",
            |topic| topic["metadata"]["labels"] = json!({labels::STRIMZI_CLUSTER: "events"}),
            "NotOurs",
        ),
        (
            "another cluster",
            |topic| topic["metadata"]["labels"][labels::STRIMZI_CLUSTER] = json!("audit"),
            "NotOurs",
        ),
        (
            "another name for the same topic",
            |topic| {
                topic["metadata"]["name"] = json!("theirs");
                topic["metadata"]["labels"] = json!({labels::STRIMZI_CLUSTER: "events"});
            },
            "NotOurs",
        ),
    ] {
        let decision = Case {
            observed: Ok(vec![live(&planned[0], "id-1", change)]),
            ..Case::default()
        }
        .decide();
        assert_eq!(reason(&decision), ("Failed", expected), "{case}");
        assert!(decision.apply.is_empty() && decision.inspect.is_none(), "{case}");
        assert_eq!(decision.requeue, Some(FOREIGN_RETRY), "{case}");
    }
}

#[test]
fn what_cannot_be_known_is_not_guessed() {
    let (kind, namespace) = (Kind::KafkaTopic, "kafka".to_owned());
    for (why, expected) in [
        (
            Unavailable::NotYetKnown {
                kind,
                namespace: namespace.clone(),
            },
            ("Unknown", ""),
        ),
        (Unavailable::NotServed { kind }, ("Failed", "StrimziMissing")),
        (
            Unavailable::NotListed {
                cluster: "kafka/events".into(),
            },
            ("Failed", "NotAllowed"),
        ),
        (
            Unavailable::NotAllowed {
                kind,
                namespace,
                verb: "list",
            },
            ("Failed", "NotAllowed"),
        ),
    ] {
        let decision = Case {
            observed: Err(why),
            ..Case::default()
        }
        .decide();
        assert_eq!(reason(&decision), expected);
        assert!(decision.inspect.is_none() && decision.apply.is_empty());
    }
}

#[test]
fn no_kafka_topic_is_created_in_another_kafka_cluster_than_before_unless_it_is_accepted() {
    for (known, expected) in [(vec![], 2), (vec!["k1"], 2), (vec!["k0"], 0), (vec!["k0", "k1"], 2)] {
        let decision = Case {
            kafka_clusters: known.iter().map(|id| (*id).to_owned()).collect(),
            ..Case::default()
        }
        .inspected(Vec::new())
        .decide();
        assert_eq!(decision.apply.len(), expected, "{known:?} {:?}", decision.finding);
    }
}

#[test]
fn the_kafka_topics_stay_where_the_spec_no_longer_manages_topics_through_strimzi() {
    let recorded = Case::running(&planned_new(), Some("id-1"), |_| {}).recorded;
    let decision = Decision::not_managed(recorded.clone(), &[]);
    assert_eq!((reason(&decision), decision.apply.len()), (("NotManaged", ""), 0));
    assert_eq!(
        decision.status,
        recorded.map(|recorded| TopicsStatus {
            retained: true,
            ..recorded
        })
    );
    assert_eq!(Decision::not_managed(None, &[]), Decision::default());
}
