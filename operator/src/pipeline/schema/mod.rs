//! Is a schema Job due? Pure: what was recorded, the Jobs there are, and the time.
//!
//! Only success is remembered. A Job is recorded in the status first and deleted only when the status that is read
//! back says so; a crash or a stale cache between the two repeats a harmless step. As long as any schema Job is there, no other is made.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::{SchemaStatus, report::SchemaReport};

const FIRST_BACK_OFF: Duration = Duration::from_secs(2);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// A schema Job, as seen.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenJob {
    /// Its name.
    pub name: String,
    /// What it applies.
    pub hash: String,
    /// How its pod was to be.
    pub task: String,
    /// How many for the same have failed before it.
    pub attempt: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// How far it is.
    pub progress: Progress,
}

/// How far a schema Job is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// It is under way; what holds it up, if anything.
    Running {
        /// A word and a sentence.
        stuck: Option<(String, String)>,
    },
    /// It has applied the schema.
    Succeeded {
        /// When.
        at: Timestamp,
        /// What it told.
        report: SchemaReport,
    },
    /// It has not.
    Failed {
        /// When.
        at: Timestamp,
        /// What it told, or what its Job's condition says.
        report: SchemaReport,
    },
}

/// What there is to say of the schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Finding {
    /// What is wanted has been applied.
    #[default]
    Applied,
    /// A Job is about to run, or runs; what holds it up, if anything.
    Applying(Option<(String, String)>),
    /// An older Job must go first.
    Waiting,
    /// The last Job has failed; the next one follows after the back-off.
    Failed,
}

/// A Job that is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Its name.
    pub name: String,
    /// It still runs: it must be seen to be gone, pods and all.
    pub running: bool,
}

/// What is to be done about the schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What is to be recorded.
    pub status: SchemaStatus,
    /// The attempt for which a Job is to be made.
    pub create: Option<i32>,
    /// Jobs that are to be deleted.
    pub delete: Vec<Delete>,
    /// When to look again, if nothing happens before.
    pub look_again: Option<Duration>,
    /// What there is to say.
    pub finding: Finding,
    /// What the last Job that has just ended told of the topic.
    pub topic_ready: Option<bool>,
}

impl Decision {
    /// Whether what is wanted has been applied, so that pods may have it.
    pub fn is_applied(&self) -> bool {
        self.finding == Finding::Applied
    }
}

/// How long to wait after the attempt that has failed last.
pub fn back_off(failed_attempts: i32) -> Duration {
    let doublings = u32::try_from(failed_attempts.saturating_sub(1)).unwrap_or(0).min(6);
    (FIRST_BACK_OFF * 2_u32.pow(doublings)).min(LONGEST_BACK_OFF)
}

/// Decides what is to be done so that `desired` gets applied. A Job that runs is waited for only if its pod is as `task` says:
/// what holds up one that is not may have been mended since.
pub fn decide(desired: &str, task: &str, recorded: &SchemaStatus, jobs: &[SeenJob], now: Timestamp) -> Decision {
    let mut decision = Decision {
        status: recorded.clone(),
        ..Decision::default()
    };
    let mut ended: Vec<&SeenJob> = jobs
        .iter()
        .filter(|job| !matches!(job.progress, Progress::Running { .. }))
        .collect();
    ended.sort_by_key(|job| ended_at(job));
    for job in ended {
        record(job, &mut decision);
    }

    let needed = |status: &SchemaStatus| status.applied_hash.as_deref() != Some(desired) || status.attempted_hash.is_some();
    let mut running = None;
    for job in jobs.iter().filter(|job| !job.deleting) {
        match &job.progress {
            Progress::Running { stuck } if job.hash == desired && job.task == task && needed(&decision.status) => {
                attempt(&mut decision.status, desired);
                running = Some(stuck.clone());
            }
            Progress::Running { .. } => {
                // What it has done so far is unknown, so an attempt is recorded before it is ended.
                if recorded.attempted_hash.is_some() {
                    decision.delete.push(Delete {
                        name: job.name.clone(),
                        running: true,
                    });
                } else {
                    attempt(&mut decision.status, &job.hash);
                }
            }
            Progress::Succeeded { .. } | Progress::Failed { .. } if is_recorded(job, recorded) => decision.delete.push(Delete {
                name: job.name.clone(),
                running: false,
            }),
            Progress::Succeeded { .. } | Progress::Failed { .. } => {}
        }
    }

    let status = &decision.status;
    if !needed(status) {
        decision.finding = Finding::Applied;
        return decision;
    }
    if let Some(stuck) = running {
        decision.finding = Finding::Applying(stuck);
        return decision;
    }
    let failures = if status.attempted_hash.as_deref() == Some(desired) {
        status.failed_attempts
    } else {
        0
    };
    decision.finding = if failures > 0 { Finding::Failed } else { Finding::Applying(None) };
    let wait = status.failed_at.as_ref().filter(|_| failures > 0).and_then(|failed| {
        let since = Duration::try_from(now.duration_since(failed.0)).unwrap_or_default();
        back_off(failures).checked_sub(since).filter(|left| !left.is_zero())
    });
    if let Some(wait) = wait {
        // Until then its log can be read.
        let kept = |delete: &Delete| !jobs.iter().any(|job| job.name == delete.name && job.hash == desired);
        decision.delete.retain(kept);
        decision.look_again = Some(wait);
    } else if jobs.is_empty() {
        decision.create = Some(failures);
    } else {
        decision.look_again = Some(Duration::from_secs(1));
        if jobs.iter().any(|job| job.hash != desired) {
            decision.finding = Finding::Waiting;
        }
    }
    decision
}

fn ended_at(job: &SeenJob) -> Timestamp {
    match &job.progress {
        Progress::Running { .. } => Timestamp::MAX,
        Progress::Succeeded { at, .. } | Progress::Failed { at, .. } => *at,
    }
}

/// Whether the status says what became of the Job, or the Job is older than what was applied last.
fn is_recorded(job: &SeenJob, status: &SchemaStatus) -> bool {
    let outdated = status.applied_at.as_ref().is_some_and(|applied| job.created_at < applied.0);
    match &job.progress {
        Progress::Running { .. } => false,
        Progress::Succeeded { at, .. } => {
            let itself =
                status.applied_hash.as_deref() == Some(&job.hash) && status.applied_at.as_ref().is_some_and(|applied| applied.0 == *at);
            itself || outdated
        }
        Progress::Failed { .. } => {
            outdated || (status.attempted_hash.as_deref() == Some(&job.hash) && status.failed_attempts > job.attempt)
        }
    }
}

fn record(job: &SeenJob, decision: &mut Decision) {
    if is_recorded(job, &decision.status) {
        return;
    }
    let status = &mut decision.status;
    match &job.progress {
        Progress::Running { .. } => {}
        Progress::Succeeded { at, report } => {
            *status = SchemaStatus {
                applied_hash: Some(job.hash.clone()),
                applied_at: Some(Time(*at)),
                schema_id: report.schema_id.or(status.schema_id),
                partitions: report.partitions.or(status.partitions),
                ..SchemaStatus::default()
            };
            decision.topic_ready = report.topic_ready;
        }
        Progress::Failed { at, report } => {
            attempt(status, &job.hash);
            status.failed_attempts = job.attempt.saturating_add(1);
            status.failed_at = Some(Time(*at));
            status.failure_reason = Some(report.reason.clone());
            status.failure_message = Some(report.message.clone());
            decision.topic_ready = report.topic_ready;
        }
    }
}

/// From now on something else than what was applied last may be there.
fn attempt(status: &mut SchemaStatus, hash: &str) {
    if status.attempted_hash.as_deref() == Some(hash) {
        return;
    }
    status.attempted_hash = Some(hash.to_owned());
    status.failed_attempts = 0;
    status.failed_at = None;
    status.failure_reason = None;
    status.failure_message = None;
}

#[cfg(test)]
mod tests;
