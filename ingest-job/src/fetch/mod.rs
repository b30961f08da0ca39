//! Pages from the source: at its pace, again after a failure, until the run's time is up.

mod auth;
mod backoff;
mod body;
mod paging;
mod placeholders;
mod request;
mod waits;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use userpipeline_api::{HttpSource, PaginationType};
use userpipeline_stores::Secrets;
use uuid::Uuid;

use self::{
    backoff::Pace,
    paging::Next,
    request::{Answer, Fault, Request},
};
pub use self::{paging::text_at, placeholders::filled};
use crate::outcome::{End, Failure};

/// A run whose time is up waits for so long where the source asks to be left alone: the Job's next attempt would come sooner.
const PATIENCE: Duration = Duration::from_secs(120);

/// The source of a run.
pub struct Source {
    request: Request,
    /// Where the next page is, if there is one.
    at: Next,
    repeats: bool,
    pace: Pace,
    run_duration: Duration,
    deadline: Option<Instant>,
}

impl Source {
    /// The source that the spec describes. The run's time starts with the first request.
    pub fn new(http: &HttpSource, secrets: &Secrets) -> Result<Self, Failure> {
        let request = Request::new(http, secrets)?;
        Ok(Self {
            at: Next::At(request.first()),
            request,
            repeats: http.pagination.kind == PaginationType::Repeat,
            pace: Pace::of(&http.rate_limit),
            run_duration: http.run_duration.into(),
            deadline: None,
        })
    }

    /// Whether the source may have more than was asked for: it has pages, and the run has not seen the last one.
    pub fn may_have_more(&self) -> bool {
        !self.repeats && self.at != Next::End
    }

    /// Asks otherwise from now on: with another cursor.
    pub fn ask_for(&mut self, http: &HttpSource) -> Result<(), Failure> {
        self.request.ask_for(http)
    }

    /// Whether the same request is made again and again: then an answer without items is the end.
    pub const fn repeats(&self) -> bool {
        self.repeats
    }

    /// The next page, or why there is none. A request under way when the run's time is up is finished; none starts
    /// afterwards. Whoever stops the process stops the request, too: nothing of it has landed.
    pub async fn next(&mut self, stop: &CancellationToken) -> Result<Answer, End> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(End::Interrupted),
            page = self.ask() => page,
        }
    }

    async fn ask(&mut self) -> Result<Answer, End> {
        let Next::At(at) = self.at.clone() else {
            return Err(End::Exhausted);
        };
        let mut tries = 0;
        loop {
            let first = self.deadline.is_none();
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.run_duration);
            let wait = self.pace.wait(Instant::now());
            if tries == 0 && !first && Instant::now() + wait >= deadline {
                return Err(End::TimeUp);
            }
            sleep(wait).await;
            self.pace.asked(Instant::now());
            let (error, retry_after) = match self.request.send(&at).await {
                Ok(answer) => {
                    self.at = answer.next.clone();
                    return Ok(answer);
                }
                Err(Fault::Lasting(failure)) => return Err(End::Refused(failure)),
                Err(Fault::Passing { error, retry_after }) => (error, retry_after),
            };
            tries += 1;
            let delay = backoff::delay(tries, retry_after, dice()).max(self.pace.wait(Instant::now()));
            // Waiting for the end would change nothing for this attempt.
            if Instant::now() + delay >= deadline {
                let asked = retry_after
                    .map(|after| format!("; it asks to wait {} s", after.as_secs()))
                    .unwrap_or_default();
                // But the Job's next attempt is not to come sooner than the source asks for.
                let patient = retry_after.is_none_or(|after| after <= PATIENCE);
                sleep(retry_after.filter(|_| patient).unwrap_or_default()).await;
                return Err(End::SourceFailed {
                    error: error + &asked,
                    tries,
                    again: patient,
                });
            }
            tracing::warn!(
                error,
                tries,
                delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                "the source failed; trying again"
            );
            sleep(delay).await;
        }
    }
}

/// A number from 0 to 1, by chance.
fn dice() -> f64 {
    f64::from(u16::from_be_bytes([Uuid::new_v4().as_bytes()[0], Uuid::new_v4().as_bytes()[1]])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests;
