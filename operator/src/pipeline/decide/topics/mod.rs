//! The KafkaTopics of a pipeline whose topics Strimzi manages: which to apply, and how far Strimzi is with them. Pure.
//!
//! While a KafkaTopic is missing, a Job first reads whether its topic exists. The result is recorded before the KafkaTopic is created;
//! the KafkaTopic then carries what must outlive the record.

mod assess;
mod finding;
mod input;
mod inspection;
mod planned;
mod readiness;
mod slot;

use std::time::Duration;

use jiff::Timestamp;
use userpipeline_api::{ExistingTopic, InspectionStatus, StoreObject, StoreObjectKind, TopicsStatus, names, report::InspectionReport};

use self::{
    assess::assess,
    inspection::{failure, refused, subject},
    planned::{Basis, planned},
    slot::Slot,
};
pub use self::{finding::Finding, input::TopicsInput};
use crate::{
    pipeline::{
        model::{PlannedTopic, Problem, StrimziTopics},
        observe::TaskJob,
        task::{Delete, State, TaskRecord, advance},
    },
    strimzi::{ClusterId, KafkaTopic, Unavailable},
};

/// No watch reports that an externally managed KafkaTopic is gone.
const FOREIGN_RETRY: Duration = Duration::from_secs(10);
/// The next inspection follows after its back-off, if no event comes first.
const REFUSED_RETRY: Duration = Duration::from_secs(1);

/// An inspection Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInspection {
    pub subject: String,
    /// How many failed before it.
    pub attempt: i32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// To be written to the status.
    pub status: Option<TopicsStatus>,
    pub inspect: Option<NewInspection>,
    /// Inspection Jobs to delete.
    pub delete: Vec<Delete>,
    pub apply: Vec<PlannedTopic>,
    /// The Kafka cluster of the KafkaTopics.
    pub cluster: Option<ClusterId>,
    /// When to reconcile again, if no event comes first.
    pub requeue: Option<Duration>,
    pub finding: Finding,
}

impl Decision {
    /// Without the inspection Job, which could not log in.
    #[must_use]
    pub fn before_login(self, problem: &Problem) -> Self {
        if self.inspect.is_none() {
            return self;
        }
        Self {
            inspect: None,
            finding: Finding::Waiting(problem.clone()),
            ..self
        }
    }

    /// Why no schema Job may be created now.
    pub const fn blocks(&self) -> Option<&Problem> {
        match &self.finding {
            Finding::Waiting(problem) | Finding::Failed(problem) => Some(problem),
            Finding::NotManaged | Finding::Unknown | Finding::Unverified(_) | Finding::Ready(_) => None,
        }
    }

    /// What a plan says beside the KafkaTopics.
    pub fn plan_note(&self) -> Option<String> {
        if let Finding::Failed((_, message)) = &self.finding {
            return Some(message.clone());
        }
        let resources = self.status.iter().flat_map(|status| &status.resources);
        let is_known = |planned: &PlannedTopic| resources.clone().any(|resource| resource.name == planned.name);
        (!self.apply.iter().all(is_known)).then(|| {
            "A Job would first read whether the topics of new KafkaTopics exist: with spec.kafka.topic.adopt: true, the KafkaTopics get the settings that these \
             topics have as well; otherwise they are not created"
                .to_owned()
        })
    }

    /// Topics that Strimzi does not manage (any more): its KafkaTopics stay.
    pub fn not_managed(recorded: Option<TopicsStatus>, jobs: &[TaskJob<InspectionReport>]) -> Self {
        let obsolete = jobs.iter().filter(|job| !job.deleting);
        Self {
            status: recorded.map(|recorded| TopicsStatus {
                retained: true,
                ..recorded
            }),
            delete: obsolete
                .map(|job| Delete {
                    name: job.name.clone(),
                    running: job.is_running(),
                })
                .collect(),
            ..Self::default()
        }
    }

    /// What was recorded, while nothing may be applied.
    pub fn held(recorded: Option<TopicsStatus>) -> Self {
        Self {
            status: recorded,
            finding: Finding::Unknown,
            ..Self::default()
        }
    }

    fn found(mut self, finding: Finding) -> Self {
        self.finding = finding;
        self
    }
}

/// Decides what is due so that both topics exist as declared. `task_hash` is that of the next Job.
pub fn decide(input: &TopicsInput<'_>, task_hash: &str, now: Timestamp) -> Decision {
    let TopicsInput { declared, owner, .. } = *input;
    let recorded = recorded(input);
    let mut decision = Decision {
        cluster: Some(declared.cluster.clone()),
        status: Some(recorded.clone()),
        ..Decision::default()
    };
    let observed = match input.observed {
        Ok(observed) => observed,
        Err(Unavailable::NotYetKnown { .. }) => return decision.found(Finding::Unknown),
        Err(why) => return decision.found(Finding::Failed((why.reason().to_owned(), why.to_string()))),
    };
    let slots = declared.names().map(|topic| Slot::of(topic, declared, owner, observed));
    let slots = match slots {
        [Ok(topic), Ok(dead_letters)] => [topic, dead_letters],
        [Err(problem), _] | [_, Err(problem)] => {
            decision.requeue = Some(FOREIGN_RETRY);
            return decision.found(Finding::Failed(problem));
        }
    };
    let inspected = match inspect(input, &mut decision, &recorded, &slots, task_hash, now) {
        Ok(inspected) => inspected,
        Err(finding) => return decision.found(finding),
    };
    let bases = match bases(input, &recorded, &slots, &inspected) {
        Ok(bases) => bases,
        Err(problem) => {
            refuse(&mut decision, declared, &recorded, &slots, &problem);
            return decision.found(Finding::Failed(problem));
        }
    };
    let [topic, dead_letters] = &bases;
    let planned = planned(declared, topic.basis(&slots[0]), dead_letters.basis(&slots[1]));
    let found = assess(input, &recorded, &slots, &planned);
    if let Some(status) = &mut decision.status {
        status.resources = found.resources;
        status.retained = false;
    }
    decision.apply = planned.into();
    decision.found(found.finding)
}

/// The record of this cluster. Topics of another one stay there.
fn recorded(input: &TopicsInput<'_>) -> TopicsStatus {
    let cluster = input.declared.cluster.to_string();
    let recorded = input.recorded.filter(|recorded| recorded.cluster == cluster);
    TopicsStatus {
        cluster,
        ..recorded.cloned().unwrap_or_default()
    }
}

/// The topics that exist in Kafka, as recorded; or what is known while that is not recorded yet. Empty where it does not matter.
fn inspect(
    input: &TopicsInput<'_>,
    decision: &mut Decision,
    recorded: &TopicsStatus,
    slots: &[Slot; 2],
    task_hash: &str,
    now: Timestamp,
) -> Result<Vec<ExistingTopic>, Finding> {
    if input.skip_inspection {
        return Ok(Vec::new());
    }
    let before = recorded.inspection.clone().unwrap_or_default();
    let subject = subject(input.declared, recorded, slots);
    let step = advance(&subject, task_hash, &before, input.jobs, now);
    decision.delete = step.delete;
    if let Some(status) = &mut decision.status {
        status.inspection = Some(step.record.clone()).filter(|record| *record != InspectionStatus::default());
    }
    if !slots.iter().any(Slot::is_missing) {
        if let Some(inspection) = decision.status.as_mut().and_then(|status| status.inspection.as_mut()) {
            inspection.failed_attempts = 0;
        }
        return Ok(Vec::new());
    }
    decision.requeue = step.requeue;
    if before.is_done(&subject) {
        return Ok(before.existing);
    }
    let inspecting = "a Job is reading which topics exist, before their KafkaTopics are created";
    let inspecting = failure(&step.record, &subject).map_or_else(
        || Finding::Waiting(("Inspecting".to_owned(), inspecting.to_owned())),
        Finding::Failed,
    );
    if let State::Due(attempt) = step.state {
        decision.inspect = Some(NewInspection { subject, attempt });
    }
    Err(match step.state {
        State::Running(Some(problem)) => Finding::Waiting(problem),
        _ => inspecting,
    })
}

/// Lets the topics be inspected again.
fn refuse(decision: &mut Decision, declared: &StrimziTopics, recorded: &TopicsStatus, slots: &[Slot; 2], problem: &Problem) {
    let (Some(status), Some(inspection)) = (&mut decision.status, &recorded.inspection) else {
        return;
    };
    status.inspection = Some(refused(inspection, &subject(declared, recorded, slots), problem));
    decision.requeue = Some(REFUSED_RETRY);
}

/// What a KafkaTopic is planned from.
struct Found {
    existing: Option<ExistingTopic>,
    is_adopted: bool,
}

impl Found {
    fn basis<'a>(&'a self, slot: &'a Slot) -> Basis<'a> {
        Basis {
            existing: self.existing.as_ref(),
            is_adopted: self.is_adopted,
            live: slot.live().map(AsRef::as_ref),
        }
    }
}

/// Neither KafkaTopic is created where one of the topics must not be touched.
fn bases(input: &TopicsInput<'_>, recorded: &TopicsStatus, slots: &[Slot; 2], inspected: &[ExistingTopic]) -> Result<[Found; 2], Problem> {
    let declared = input.declared;
    let kafka_cluster = recorded
        .inspection
        .as_ref()
        .and_then(|inspection| inspection.kafka_cluster.as_deref());
    let is_missing = slots.iter().any(Slot::is_missing);
    if let Some(found) =
        kafka_cluster.filter(|found| is_missing && !input.kafka_clusters.is_empty() && !input.kafka_clusters.iter().any(|one| one == found))
    {
        let message = format!(
            "the Kafka cluster {} has the id {found}, and the pipeline's data is in {}: no KafkaTopic is created. If the pipeline may start from scratch, annotate \
             the connection or the pipeline with userpipeline.dev/accept-store={found}; otherwise correct the connection",
            declared.cluster, input.kafka_clusters[0]
        );
        return Err(("StoreChanged".to_owned(), message));
    }
    let found = |topic: &str, field: &str, slot: &Slot| {
        if !slot.is_missing() {
            return Ok(Found {
                existing: slot.existing(),
                is_adopted: slot.is_adopted(),
            });
        }
        let existing = inspected.iter().find(|existing| existing.name == topic).cloned();
        let is_created = existing.is_none() || is_recorded(input.created, kafka_cluster, topic);
        if !is_created && !declared.settings.adopt {
            return Err(not_created(topic, field));
        }
        Ok(Found {
            existing,
            is_adopted: !is_created,
        })
    };
    Ok([
        found(&declared.topic, "spec.kafka.topic.name", &slots[0])?,
        found(&declared.dead_letter_topic, "spec.deadLetter.topic", &slots[1])?,
    ])
}

fn is_recorded(created: &[StoreObject], kafka_cluster: Option<&str>, topic: &str) -> bool {
    kafka_cluster.is_some_and(|cluster| created.contains(&StoreObject::new(StoreObjectKind::Topic, cluster, topic)))
}

fn not_created(topic: &str, field: &str) -> Problem {
    let message = format!(
        "topic `{topic}` ({field}) exists in Kafka without a KafkaTopic, and status.createdObjects does not say that this pipeline created it: choose \
         another name, set spec.kafka.topic.management to None to use it as it is, or take the topic over with spec.kafka.topic.adopt: true"
    );
    ("TopicNotCreated".to_owned(), message)
}

/// Whether a KafkaTopic concerns a pipeline with these topics: it has the name of one of theirs, or declares one of them.
pub fn concerns(declared: &StrimziTopics, name: &str, object: &KafkaTopic) -> bool {
    let of_object = object.spec.topic(name);
    declared
        .names()
        .into_iter()
        .any(|topic| topic == of_object || names::kafka_topic(topic) == name)
}

#[cfg(test)]
mod tests;
