//! The source of a run: the next page, at the rate limit, with retries, within the run's duration.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use userpipeline_api::HttpSource;
use userpipeline_runtime::BackOff;
use userpipeline_stores::{Secrets, StoreError};

use super::{
    error::RequestError,
    pagination::{Next, Note, PageError, Pager, Position},
    pause::{MAX_PAUSE, used_up},
    rate_limit::RateLimiter,
    request::Request,
};
use crate::{
    outcome::{Failure, FetchEnd},
    page::Item,
    raw_item::Body,
};

const FIRST_DELAY: Duration = Duration::from_millis(500);
/// `Retry-After` may ask for longer.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A run that is out of time still waits this long for `Retry-After`, because the Job's next attempt would start earlier.
const MAX_FINAL_WAIT: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct FetchedPage {
    pub items: Vec<Item>,
    /// The response that contained the items.
    pub body: Body,
    pub note: Option<Note>,
    /// The number of its request.
    pub request: i64,
}

pub struct Source {
    request: Request,
    pager: Pager,
    next: Next,
    rate_limiter: RateLimiter,
    run_duration: Duration,
    /// Set by the first request.
    deadline: Option<Instant>,
    /// Until when the source allows no request.
    limited_until: Option<Instant>,
}

impl Source {
    pub fn new(http: &HttpSource, secrets: &Secrets) -> Result<Self, Failure> {
        let pager = Pager::new(http)?;
        Ok(Self {
            request: Request::new(http, secrets)?,
            next: Next::At(pager.first()),
            pager,
            rate_limiter: RateLimiter::of(&http.rate_limit),
            run_duration: http.run_duration.into(),
            deadline: None,
            limited_until: None,
        })
    }

    /// Whether pages are left.
    pub fn may_have_more(&self) -> bool {
        !self.repeats() && self.next != Next::End
    }

    /// Changes the request, because the cursor advanced.
    pub fn update_request(&mut self, http: &HttpSource) -> Result<(), Failure> {
        self.request.update(http)
    }

    /// Whether every request is the same. Then a page without items is the end.
    pub fn repeats(&self) -> bool {
        self.pager.repeats()
    }

    /// The next page, or why there is none. A request that is active at the deadline is finished; none starts afterwards. A stop
    /// aborts the request: nothing of it has landed.
    ///
    /// `number` is called before each request, and numbers it.
    pub async fn next(
        &mut self,
        stop: &CancellationToken,
        number: impl AsyncFn() -> Result<i64, StoreError>,
    ) -> Result<FetchedPage, FetchEnd> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(FetchEnd::Interrupted),
            page = self.request_with_retries(number) => page,
        }
    }

    async fn request_with_retries(&mut self, number: impl AsyncFn() -> Result<i64, StoreError>) -> Result<FetchedPage, FetchEnd> {
        let Next::At(position) = self.next.clone() else {
            return Err(FetchEnd::Exhausted);
        };
        let mut back_off = BackOff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut is_confirmed = false;
        loop {
            let is_first = self.deadline.is_none();
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.run_duration);
            let limited = self.limited_until.take().map_or(Duration::ZERO, |until| until - Instant::now());
            let delay = self.rate_limiter.delay(Instant::now()).max(limited);
            if back_off.failures() == 0 && !is_first && Instant::now() + delay >= deadline {
                return Err(if limited > self.rate_limiter.delay(Instant::now()) {
                    FetchEnd::RateLimited {
                        seconds: limited.as_secs(),
                    }
                } else {
                    FetchEnd::TimeUp
                });
            }
            if !limited.is_zero() {
                tracing::info!(seconds = limited.as_secs(), "the source's rate limit is used up; waiting");
            }
            sleep(delay).await;
            self.rate_limiter.record_request(Instant::now());
            let request = number().await.map_err(|e| FetchEnd::Refused(e.into()))?;
            let (error, retry_after) = match self.request_page(&position, request).await {
                Ok(page) => return Ok(page),
                Err(RequestError::Permanent(failure)) => return Err(FetchEnd::Refused(failure)),
                Err(RequestError::Doubtful(failure)) if is_confirmed => return Err(FetchEnd::Refused(failure)),
                Err(RequestError::Doubtful(failure)) => {
                    is_confirmed = true;
                    (failure.message, None)
                }
                Err(RequestError::Retryable { error, retry_after }) => (error, retry_after),
            };
            let delay = retry_delay(&mut back_off, retry_after).max(self.rate_limiter.delay(Instant::now()));
            let attempts = back_off.failures();
            if Instant::now() + delay >= deadline {
                return Err(give_up(error, attempts, retry_after).await);
            }
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(error, attempts, delay_ms, "a request to the source failed; retrying");
            sleep(delay).await;
        }
    }
}

impl Source {
    /// Requests a page, once.
    async fn request_page(&mut self, position: &Position, request: i64) -> Result<FetchedPage, RequestError> {
        let answer = self.request.send(position, |status| self.pager.ends_on(status)).await?;
        let page = self.pager.read(position, &answer).map_err(|error| match error {
            PageError::CutOff(error) => RequestError::retryable(error),
            PageError::Wrong(failure) => RequestError::Doubtful(failure),
            PageError::Final(failure) => RequestError::Permanent(failure),
        })?;
        self.next = page.next;
        self.limited_until = used_up(&answer.headers, Timestamp::now()).map(|pause| Instant::now() + pause);
        Ok(FetchedPage {
            items: page.items,
            body: answer.body,
            note: page.note,
            request,
        })
    }
}

/// Never earlier than the source asks for.
fn retry_delay(back_off: &mut BackOff, retry_after: Option<Duration>) -> Duration {
    back_off.next_delay().max(retry_after.unwrap_or_default().min(MAX_PAUSE))
}

/// The end of a run without time for a retry. It waits for `Retry-After` first, because the Job's next attempt must not start
/// earlier, unless that takes too long.
async fn give_up(error: String, attempts: u32, retry_after: Option<Duration>) -> FetchEnd {
    let retryable = retry_after.is_none_or(|pause| pause <= MAX_FINAL_WAIT);
    if let Some(pause) = retry_after.filter(|_| retryable) {
        sleep(pause).await;
    }
    let pause = retry_after.map(|pause| format!("; it asks for a pause of {} s", pause.as_secs()));
    FetchEnd::SourceFailed {
        error: error + &pause.unwrap_or_default(),
        attempts,
        retryable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_may_ask_for_longer_delays_but_not_for_shorter_ones() {
        let delay = |retry_after| retry_delay(&mut BackOff::new(FIRST_DELAY, LONGEST_DELAY), Some(retry_after));
        assert_eq!(delay(Duration::from_secs(70)), Duration::from_secs(70));
        assert_eq!(delay(Duration::MAX), MAX_PAUSE);
        assert!((FIRST_DELAY / 2..=FIRST_DELAY).contains(&delay(Duration::ZERO)));
    }
}
