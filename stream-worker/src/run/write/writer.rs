//! Writes batches, and retries.

use std::{collections::BTreeMap, sync::Arc};

use tokio_util::sync::CancellationToken;
use userpipeline_runtime::BackOff;
use userpipeline_stores::{Class, StoreError, postgres::answered};

use super::{
    breaker::Breaker,
    failure::{Failure, Store},
    work::Work,
};
use crate::{
    back_off::back_off,
    context::WorkerContext,
    dead_letters::DeadLetters,
    progress::{OwnerTokens, ProgressConnection, ProgressTable},
    run::{
        batch::{Batch, BatchOutcome},
        decode::Decoders,
    },
    sinks::{self, ActiveSink, HealthCheck, Sink},
    status::Trouble,
};

pub struct Writer {
    pub(super) context: Arc<WorkerContext>,
    pub(super) table: ProgressTable,
    decoders: Decoders,
    pub(super) progress: Option<ProgressConnection>,
    pub(super) sinks: Vec<ActiveSink>,
    pub(super) dead_letters: Option<DeadLetters>,
    breaker: Breaker,
    tokens: Arc<OwnerTokens>,
    stop: CancellationToken,
}

impl Writer {
    /// A writer whose stores answer and have their tables.
    pub async fn open(
        context: Arc<WorkerContext>,
        table: ProgressTable,
        tokens: Arc<OwnerTokens>,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let decoders = Decoders::of(&context.pipeline, context.schema.clone(), &context.secrets)?;
        let mut writer = Self {
            breaker: Breaker::new(context.pipeline.max_dead_letter_ratio),
            sinks: active_sinks(&context),
            context,
            table,
            decoders,
            progress: None,
            dead_letters: None,
            tokens,
            stop,
        };
        writer.open_bookkeeping().await?;
        for sink in &mut writer.sinks {
            sink.writer.open().await?;
        }
        Ok(writer)
    }

    /// With the names of their sinks.
    pub fn health_checks(&self) -> Vec<(&'static str, Box<dyn HealthCheck>)> {
        let checks = self.sinks.iter().map(|sink| Some((sink.name(), sink.writer.health()?)));
        checks.flatten().collect()
    }

    /// Writes a batch, as often as it takes. It gives up only where the worker is to stop.
    pub async fn write(&mut self, batch: Batch) -> BatchOutcome {
        let context = Arc::clone(&self.context);
        let mut work = Work::new(batch);
        let (mut back_off, mut fenced) = (back_off(), Vec::new());
        let in_flight = i64::try_from(work.batch.messages.len()).unwrap_or(i64::MAX);
        context.metrics.in_flight.set(in_flight);
        let abandoned = loop {
            work.retain(|partition, token| self.tokens.holds(partition, token));
            if work.batch.messages.is_empty() {
                break false;
            }
            let failure = match Box::pin(self.prepare_and_store(&mut work)).await {
                Ok(()) => break false,
                Err(failure) => failure,
            };
            if self.recover(failure, &mut work, &mut back_off, &mut fenced).await {
                break true;
            }
        };
        context.metrics.in_flight.set(0);
        if !abandoned {
            context.status.clear(Trouble::Write);
        }
        BatchOutcome {
            next_offsets: if abandoned { BTreeMap::new() } else { work.batch.next_offsets() },
            fenced,
            abandoned,
        }
    }

    async fn prepare_and_store(&mut self, work: &mut Work) -> Result<(), Failure> {
        if work.writes.is_none() {
            work.decode(&mut self.decoders)
                .await
                .map_err(|e| Failure::Store(Store::Registry, e))?;
        }
        self.breaker
            .admits(work.batch.messages.len(), work.unwritten.faults.len())
            .map_err(|(bad, read)| Failure::TooManyDeadLetters { bad, read })?;
        self.open_stores(work).await?;
        let (advances, acknowledged) = self.store(work).await?;
        self.breaker.passed(work.batch.messages.len(), work.unwritten.faults.len());
        self.account(work, &advances, &acknowledged);
        Ok(())
    }

    /// Acts on a failed attempt, and waits for the next one; whether the worker is to stop instead.
    async fn recover(&mut self, failure: Failure, work: &mut Work, back_off: &mut BackOff, fenced: &mut Vec<i32>) -> bool {
        match failure {
            Failure::Fenced(partitions) => {
                tracing::warn!(
                    ?partitions,
                    "another worker has taken over partitions; their messages are dropped here"
                );
                work.retain(|partition, _| !partitions.contains(&partition));
                fenced.extend(partitions);
                false
            }
            Failure::Refused(faults) => {
                work.unwritten.faults.extend(faults);
                false
            }
            Failure::Store(store, error) => {
                self.close(store, &error);
                self.context.metrics.retry(store.name());
                // An error that the next attempt resolves, such as a deadlock, is no trouble.
                if error.class == Class::Configuration || back_off.failures() > 0 {
                    self.context.status.trouble(Trouble::Write, &error);
                }
                self.wait(back_off, store.name(), &error).await
            }
            Failure::TooManyDeadLetters { bad, read } => {
                let error = self.too_many_dead_letters(&work.unwritten.faults, bad, read);
                self.context.status.trouble(Trouble::Write, &error);
                // The next attempt may decode more: the schema may be registered by then.
                work.forget_decoded();
                self.wait(back_off, "dead letters", &error).await
            }
        }
    }

    /// Waits for the next attempt; whether the worker is to stop instead.
    async fn wait(&self, back_off: &mut BackOff, store: &str, error: &StoreError) -> bool {
        let wait = back_off.next_delay();
        tracing::warn!(store, reason = error.reason, message = error.message, attempt = back_off.failures(), wait = ?wait, "a batch was not written");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.stop.cancelled() => {}
        }
        self.stop.is_cancelled()
    }

    /// Opens what is not open, or was opened with credentials that have changed.
    async fn open_stores(&mut self, work: &Work) -> Result<(), Failure> {
        self.open_bookkeeping().await.map_err(Failure::bookkeeping)?;
        for sink in &mut self.sinks {
            let store = Store::Sink(sink.name());
            sink.writer.open().await.map_err(|e| Failure::Store(store, e))?;
        }
        if work.has_unsent() && self.dead_letters.is_none() {
            let opened = DeadLetters::open(&self.context).map_err(|e| Failure::Store(Store::DeadLetters, e))?;
            self.dead_letters = Some(opened);
        }
        Ok(())
    }

    /// The connection of the batch's transaction, and the statements that sinks prepare on it.
    async fn open_bookkeeping(&mut self) -> Result<(), StoreError> {
        let context = &self.context;
        let rotated = |progress: &ProgressConnection| progress.is_rotated(&context.postgres);
        if self.progress.as_ref().is_none_or(rotated) {
            let sinks = &mut self.sinks;
            let opening = async {
                let progress = ProgressConnection::open(&context.postgres, &context.instance).await?;
                for sink in sinks {
                    sink.writer.prepare(progress.client()).await?;
                }
                Ok(progress)
            };
            self.progress = Some(answered(opening).await??);
        }
        Ok(())
    }

    /// Closes what failed, so that the next attempt opens it with the credentials as they are then.
    fn close(&mut self, store: Store, error: &StoreError) {
        let is_failed = |sink: &dyn Sink| store == Store::Sink(sink.name());
        // All that share the connection of the bookkeeping fail together.
        let mut in_transaction = self.sinks.iter().map(|sink| sink.sink).filter(|sink| sink.uses_transaction());
        let is_transaction_failed = store == Store::Bookkeeping || in_transaction.any(is_failed);
        if is_transaction_failed {
            self.progress = None;
        }
        if store == Store::DeadLetters {
            self.dead_letters = None;
        }
        for ActiveSink { sink, writer } in &mut self.sinks {
            if is_failed(*sink) || (is_transaction_failed && sink.uses_transaction()) {
                writer.close(error);
            }
        }
    }
}

/// The sinks that the pipeline has.
fn active_sinks(context: &WorkerContext) -> Vec<ActiveSink> {
    let sinks = sinks::ALL.into_iter().map(|sink| {
        Some(ActiveSink {
            sink,
            writer: sink.writer(context)?,
        })
    });
    sinks.flatten().collect()
}
