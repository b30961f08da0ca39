//! Writes batches, and retries.

use std::{collections::BTreeMap, sync::Arc};

use tokio_util::sync::CancellationToken;
use userpipeline_runtime::BackOff;
use userpipeline_stores::{Class, StoreError};

use super::{
    breaker::Breaker,
    failure::{Failure, Store},
    stores::Stores,
    work::Work,
};
use crate::{
    back_off::back_off,
    context::WorkerContext,
    dead_letters::DeadLetters,
    progress::{OwnerTokens, ProgressTable},
    run::{
        batch::{Batch, BatchOutcome},
        decode::Decoders,
    },
    sinks::HealthCheck,
    status::Trouble,
};

pub struct Writer {
    number: usize,
    pub(super) context: Arc<WorkerContext>,
    pub(super) table: ProgressTable,
    decoders: Decoders,
    pub(super) stores: Stores,
    pub(super) dead_letters: Option<DeadLetters>,
    breaker: Breaker,
    tokens: Arc<OwnerTokens>,
    stop: CancellationToken,
}

impl Writer {
    /// `number`: a worker has several writers.
    pub fn new(
        number: usize,
        stores: Stores,
        context: &Arc<WorkerContext>,
        table: &ProgressTable,
        tokens: &Arc<OwnerTokens>,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            number,
            table: table.clone(),
            decoders: Decoders::of(&context.pipeline, context.schema.clone(), &context.secrets)?,
            stores,
            dead_letters: None,
            breaker: Breaker::new(context.pipeline.max_dead_letter_ratio),
            tokens: Arc::clone(tokens),
            stop: stop.clone(),
            context: Arc::clone(context),
        })
    }

    /// With the names of their sinks.
    pub fn health_checks(&self) -> Vec<(&'static str, Box<dyn HealthCheck>)> {
        let checks = self.stores.sinks.iter().map(|sink| Some((sink.name(), sink.writer.health()?)));
        checks.flatten().collect()
    }

    /// Writes a batch, as often as it takes. It gives up only where the worker is to stop.
    pub async fn write(&mut self, batch: Batch) -> BatchOutcome {
        let context = Arc::clone(&self.context);
        let mut work = Work::new(batch);
        let (mut back_off, mut fenced) = (back_off(), Vec::new());
        let in_flight = i64::try_from(work.batch.messages.len()).unwrap_or(i64::MAX);
        context.metrics.in_flight.inc_by(in_flight);
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
        context.metrics.in_flight.dec_by(in_flight);
        if !abandoned {
            context.status.clear(Trouble::Write(self.number));
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
                self.stores.close(store, &error);
                if store == Store::DeadLetters {
                    self.dead_letters = None;
                }
                self.context.metrics.retry(store.name());
                // An error that the next attempt resolves, such as a deadlock, is no trouble.
                if error.class == Class::Configuration || back_off.failures() > 0 {
                    self.context.status.trouble(Trouble::Write(self.number), &error);
                }
                self.wait(back_off, store.name(), &error).await
            }
            Failure::TooManyDeadLetters { bad, read } => {
                let error = self.too_many_dead_letters(&work.unwritten.faults, bad, read);
                self.context.status.trouble(Trouble::Write(self.number), &error);
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

    async fn open_stores(&mut self, work: &Work) -> Result<(), Failure> {
        let opened = self.stores.open(&self.context).await;
        opened.map_err(|(store, e)| Failure::Store(store, e))?;
        if work.has_unsent() && self.dead_letters.is_none() {
            let opened = DeadLetters::open(&self.context).map_err(|e| Failure::Store(Store::DeadLetters, e))?;
            self.dead_letters = Some(opened);
        }
        Ok(())
    }
}
