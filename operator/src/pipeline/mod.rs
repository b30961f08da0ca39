//! A pipeline is reconciled in five steps: what is there is read, the spec is checked, the children are built, they are
//! applied, and what came of it is told.

mod apply;
mod back_off;
pub(crate) mod build;
pub(crate) mod caches;
mod conflict;
mod contain;
mod deletion;
pub(crate) mod dereference;
mod drain;
mod event;
#[cfg(test)]
mod example;
mod kept;
mod nesting;
pub mod plan;
mod pods;
mod quantity;
mod roll_out;
mod run;
pub(crate) mod runs;
pub(crate) mod schedule;
mod schema;
pub(crate) mod status;
#[cfg(test)]
mod tests;
mod unreadable;
mod validate;
mod write;

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use kube::{
    Client,
    runtime::{controller::Action, events::Reporter},
};
use userpipeline_api::{UserPipeline, condition, names, names::PipelineId};

#[cfg(test)]
pub(crate) use self::example::pipeline as example;
use self::{
    apply::{Applied, ApplyError},
    build::{Decisions, Gate},
    dereference::Observed,
    kept::Kept,
    runs::SeenRun,
    schedule::History,
    validate::ValidateError,
};
pub use self::{
    build::{Images, Installation},
    caches::{Caches, Writers},
    run::run,
};
use crate::{
    MANAGER,
    metrics::{Metrics, Outcome, Seen, Waiting},
};

/// What every reconciliation needs.
pub struct Context {
    client: Client,
    caches: Caches,
    http: reqwest::Client,
    teller: write::Teller,
    metrics: Metrics,
    installation: Installation,
    /// What is wanted is told at once, and not in the steps in which it is applied: for a plan.
    at_once: bool,
    waiting: Waiting<PipelineId>,
    back_off: back_off::BackOff,
    written: write::Written,
    claims: conflict::Claims,
}

impl Context {
    /// What every reconciliation needs; `identity` is told in Events.
    pub fn new(
        client: Client,
        caches: Caches,
        metrics: Metrics,
        installation: Installation,
        identity: String,
    ) -> Result<Self, reqwest::Error> {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(identity),
        };
        Ok(Self {
            teller: write::Teller::new(client.clone(), reporter),
            http: dereference::http_client()?,
            waiting: Waiting::new(metrics.clone()),
            back_off: back_off::BackOff::default(),
            written: write::Written::default(),
            claims: conflict::Claims::default(),
            client,
            caches,
            metrics,
            installation,
            at_once: false,
        })
    }

    fn forget(&self, id: &PipelineId) {
        self.metrics.forget(id);
        self.back_off.forget(id);
        self.written.forget(id);
    }
}

/// Why a reconciliation is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Children are not as wanted.
    #[error("{}", .0.join("; "))]
    Apply(Vec<String>),
    /// The status could not be written.
    #[error("the status cannot be written: {0}")]
    Status(#[from] write::WriteError),
}

/// Reconciles whatever was read as a pipeline, and counts.
async fn reconcile(resource: Arc<Kept<UserPipeline>>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let id = kept::id(resource.as_ref());
    context.waiting.take(&id);
    let result = match resource.read() {
        Ok(pipeline) => Box::pin(reconcile_pipeline(pipeline, &context)).await,
        Err(error) => unreadable::report(&id, &error.to_string(), &context).await,
    };
    let outcome = if result.is_ok() { Outcome::Success } else { Outcome::Error };
    context.metrics.reconciled(outcome, started.elapsed());
    result
}

/// The five steps.
async fn reconcile_pipeline(pipeline: UserPipeline, context: &Context) -> Result<Action, ReconcileError> {
    let id = PipelineId::of(&pipeline);
    let pipeline = &context.written.newest(pipeline);
    if pipeline.metadata.deletion_timestamp.is_some() {
        return Box::pin(deletion::reconcile(pipeline, context)).await;
    }
    let observed = dereference::dereference(&id, &context.caches, &context.http).await;
    let seen = runs::seen(&names::cron_job(&id.name), &observed);
    let outcome = Box::pin(advance(pipeline, &observed, &seen, context)).await;

    let now = Timestamp::now();
    let status = status::of(pipeline, outcome.as_ref(), &observed, &seen, &context.installation.images.tag, now);
    let written = write::status(pipeline, &status, context).await;
    tell(&id, pipeline, &status, &observed, context);
    written?;

    let problems: Vec<String> = outcome.iter().flat_map(Applied::errors).map(ApplyError::to_string).collect();
    if !problems.is_empty() {
        return Err(ReconcileError::Apply(problems));
    }
    context.back_off.forget(&id);
    let now_known = UserPipeline {
        status: Some(status),
        ..pipeline.clone()
    };
    let wait = status::look_again(&now_known, outcome.as_ref(), &observed, now);
    Ok(Action::requeue(if wait > status::MEASURE_EVERY {
        back_off::jitter(wait)
    } else {
        wait
    }))
}

/// From the spec to what is applied.
async fn advance(pipeline: &UserPipeline, observed: &Observed, seen: &[SeenRun], context: &Context) -> Result<Applied, ValidateError> {
    let now = Timestamp::now();
    let valid = validate::validate(pipeline, &context.installation.images)?;
    if let Some(conflict::Conflict { what, elder }) = context.claims.conflict(pipeline, &context.caches.pipelines.state()) {
        return Err(ValidateError::Conflict { what, elder });
    }
    let recorded = pipeline.status.clone().unwrap_or_default();
    let decision = schema::decide(
        &valid.schema_hash,
        &valid.parent.task(),
        &recorded.schema.clone().unwrap_or_default(),
        &observed.schema_jobs(),
        now,
    );
    let cron_job = names::cron_job(&valid.parent.id.name);
    let runs = valid.ingest.as_ref().map_or_else(schedule::Decision::default, |ingest| {
        let facts = schedule::Facts {
            schedule: &ingest.schedule,
            ticks: &ingest.ticks,
            run_now: valid.spec.run_now.as_ref(),
            suspended: valid.spec.suspend,
            created_at: pipeline.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0),
            cron_job: &cron_job,
            cron_job_ran: observed.cron_job_ran(&cron_job),
            recorded: &recorded,
            history: &History::of(&recorded, seen, Some(&ingest.document.config_map)),
            seen,
        };
        schedule::decide(&facts, now)
    });
    let workers = names::workers(&valid.parent.id.name);
    let drain = drain::decide(
        &drain::Facts {
            suspended: valid.spec.suspend,
            runs: observed.runs_under_way(),
            workers: observed.workers_left(&workers),
            recorded: recorded.drain.as_ref(),
            jobs: &observed.drain_jobs(),
            task: &valid.parent.task(),
        },
        now,
    );
    let gate = if context.at_once {
        Gate::Open
    } else if decision.is_applied() {
        roll_out::gate(&valid, observed)
    } else {
        observed.held(&cron_job, &workers)
    };
    let decided = Decisions {
        schema: decision,
        runs,
        drain,
        workers_first: matches!(gate, Gate::WorkersFirst { .. }),
    };
    let desired = build::build(&valid, &context.installation, &decided, &gate);
    Ok(Box::pin(apply::apply(
        &apply::Target::new(&context.client, &context.metrics, &valid.parent),
        pipeline,
        desired,
        decided,
        observed,
        now,
    ))
    .await)
}

fn tell(
    id: &PipelineId,
    pipeline: &UserPipeline,
    status: &userpipeline_api::UserPipelineStatus,
    observed: &dereference::Observed,
    context: &Context,
) {
    let is = |type_: &str| status.conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
    let stale = status
        .conditions
        .iter()
        .any(|c| c.type_ == condition::DATA_FRESH && c.status == "False");
    let last_run = status.last_run.as_ref().and_then(|run| {
        let finished = run.finished_at.as_ref()?.0.as_duration().as_secs_f64();
        Some((run.outcome == "Succeeded", finished))
    });
    context.metrics.pipeline(
        id,
        &Seen {
            owner: pipeline.spec.owner.clone().unwrap_or_default(),
            ready: is(condition::READY),
            stale,
            last_run,
            lag: status.lag,
            backlog: status.schedule.as_ref().map_or(0, |schedule| schedule.backlog),
            fetched: status.totals.as_ref().map_or(0, |totals| totals.fetched),
            // Each worker tells those of the whole pipeline, and one has looked last.
            totals: observed
                .reports
                .values()
                .filter_map(|report| report.totals.clone())
                .max_by_key(|totals| totals.stored),
        },
    );
}
