//! All decisions about a pipeline that is not being deleted.

use jiff::Timestamp;
use userpipeline_api::{StoreIdentity, StoreObject, TakenName, UserPipeline, UserPipelineStatus, names};

use super::{
    connection_rollout,
    created_objects::created_objects,
    drain,
    drain::DrainInput,
    kafka_user, roll_out, schedule,
    schedule::{History, ScheduleInput},
    schema,
    store_identities::store_identities,
    topics,
    upgrade::Turn,
};
use crate::pipeline::{
    model::{DefaultTls, Gate, reasons::WAITING_FOR_TOPICS},
    observe::{Observed, RunJob, drain_jobs, schema_jobs, unfinished_runs, workers_left},
    validate::ValidatedPipeline,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    /// The KafkaTopics, where Strimzi manages the topics.
    pub topics: topics::Decision,
    pub schema: schema::Decision,
    pub runs: schedule::Decision,
    pub drain: drain::Decision,
    pub default_tls: DefaultTls,
    /// Which pod configs runs and workers may use.
    pub gate: Gate,
    /// Whether the workers may roll out now.
    pub turn: Turn,
    /// Whether the pipeline may change to the current versions of its connections.
    pub connections: connection_rollout::Decision,
    /// The user in Kafka.
    pub kafka_user: kafka_user::Decision,
    /// Of the ConfigMaps that are read back; to be written to the status before these are applied.
    pub config_digests: Vec<String>,
    /// What the pipeline created in stores. None until a pipeline that is older than this record has reported it.
    pub created_objects: Option<Vec<StoreObject>>,
    /// The stores of the pipeline, as schema Jobs identified them.
    pub store_identities: Vec<StoreIdentity>,
    /// Names that the schema Job refuses where its stores are those of other pipelines. Of a Job that is created now.
    pub taken_names: Vec<TakenName>,
}

impl Decisions {
    /// No schema Job is created before the topics are ready.
    pub fn use_topics(&mut self, topics: topics::Decision) {
        if let Some((_, message)) = topics.blocks().filter(|_| self.schema.create.is_some()) {
            let message = format!("the schema Job waits for the topics: {message}");
            self.schema.create = None;
            self.schema.finding = schema::Finding::Applying(Some((WAITING_FOR_TOPICS.to_owned(), message)));
        }
        if matches!(topics.finding, topics::Finding::Unknown) {
            self.schema.create = None;
        }
        self.topics = topics;
    }

    /// Whether Jobs wait for what is not known yet of Strimzi's resources: an operator that has just started has not listed them.
    pub const fn is_strimzi_pending(&self) -> bool {
        matches!(self.topics.finding, topics::Finding::Unknown) || matches!(self.kafka_user.state, kafka_user::State::Pending(_))
    }

    /// No schema Job starts before it can log in.
    pub fn use_kafka_user(&mut self, user: kafka_user::Decision) {
        if let Some(problem) = user.problem()
            && !self.schema.is_applied()
        {
            self.schema.create = None;
            self.schema.finding = schema::Finding::Applying(Some(problem.clone()));
        }
        self.kafka_user = user;
    }
}

/// Decides everything but topics and user of Strimzi. `ignore_rollout_order` opens the gate at once: a plan shows the end of a rollout, not its first step.
pub fn decide(
    pipeline: &UserPipeline,
    valid: &ValidatedPipeline,
    observed: &Observed,
    runs: &[RunJob],
    connections: connection_rollout::Decision,
    ignore_rollout_order: bool,
    now: Timestamp,
) -> Decisions {
    let recorded = pipeline.status.clone().unwrap_or_default();
    let task_hash = valid.owner.task_hash();
    let recorded_schema = recorded.schema.clone().unwrap_or_default();
    let is_held = connections.turn == Turn::Waiting;
    let jobs = schema_jobs(observed);
    let created_objects = created_objects(&recorded, &jobs, &names::in_stores(&pipeline.spec, &valid.owner.id));
    let schema = if is_held {
        schema::held(recorded_schema)
    } else {
        let recorded = if valid.compares_stores() {
            schema::until_stores_are_known(recorded_schema, &valid.schema_hash)
        } else {
            recorded_schema
        };
        let recorded = if created_objects.is_none() && !valid.is_pinned() {
            schema::once_more(recorded, &valid.schema_hash)
        } else {
            recorded
        };
        schema::decide(&valid.schema_hash, &task_hash, &recorded, &jobs, now)
    };
    let drain_input = DrainInput {
        suspended: valid.spec.suspend,
        runs: unfinished_runs(observed),
        workers: workers_left(observed, observed.worker_deployment(&valid.owner.id)),
        recorded: recorded.drain.as_ref(),
        jobs: &drain_jobs(observed),
        task_hash: &task_hash,
    };
    Decisions {
        topics: topics::Decision::default(),
        gate: if ignore_rollout_order {
            Gate::Open
        } else {
            roll_out::gate(valid, observed, schema.is_applied() && !is_held)
        },
        runs: decide_runs(pipeline, valid, observed, runs, &recorded, now),
        drain: drain::decide(&drain_input, now),
        default_tls: valid.default_tls.clone(),
        schema,
        turn: Turn::Now,
        connections,
        kafka_user: kafka_user::Decision::default(),
        config_digests: recorded.config_digests,
        created_objects,
        store_identities: store_identities(&recorded.store_identities, &jobs),
        taken_names: Vec::new(),
    }
}

fn decide_runs(
    pipeline: &UserPipeline,
    valid: &ValidatedPipeline,
    observed: &Observed,
    runs: &[RunJob],
    recorded: &UserPipelineStatus,
    now: Timestamp,
) -> schedule::Decision {
    let Some(ingest) = &valid.ingest else {
        return schedule::Decision::default();
    };
    let cron_job = names::cron_job(&valid.owner.id.name);
    let input = ScheduleInput {
        schedule: &ingest.schedule,
        ticks: &ingest.ticks,
        run_now: valid.spec.run_now.as_ref(),
        suspended: valid.spec.suspend,
        created_at: pipeline.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0),
        generation: pipeline.metadata.generation,
        cron_job: &cron_job,
        last_tick_of_cron_job: observed.last_tick_of_cron_job(&cron_job),
        recorded,
        history: &History::of(recorded, runs, Some(&ingest.config.config_map)),
        runs,
    };
    schedule::decide(&input, now)
}
