//! What a writer is connected to.

use futures::future::try_join_all;
use userpipeline_stores::{StoreError, postgres::answered};

use super::failure::Store;
use crate::{
    context::WorkerContext,
    progress::ProgressConnection,
    sinks::{self, ActiveSink, Sink},
};

pub struct Stores {
    /// The connection of the batch's transaction.
    pub progress: Option<ProgressConnection>,
    pub sinks: Vec<ActiveSink>,
}

impl Stores {
    /// Those of the pipeline, none of them open.
    pub fn of(context: &WorkerContext) -> Self {
        let sinks = sinks::ALL.into_iter().map(|sink| {
            Some(ActiveSink {
                sink,
                writer: sink.writer(context)?,
                is_last: sink.is_last(&context.pipeline),
            })
        });
        Self {
            progress: None,
            sinks: sinks.flatten().collect(),
        }
    }

    /// Opens what is not open, or was opened with credentials that have changed. It fails where a store does not answer, or has no
    /// table, and says which.
    pub async fn open(&mut self, context: &WorkerContext) -> Result<(), (Store, StoreError)> {
        let bookkeeping = |e| (Store::Bookkeeping, e);
        let rotated = |progress: &ProgressConnection| progress.is_rotated(&context.postgres);
        let is_closed = self.progress.as_ref().is_none_or(rotated);
        let connecting = async {
            if !is_closed {
                return Ok(None);
            }
            let opened = answered(ProgressConnection::open(&context.postgres, &context.instance)).await;
            opened.flatten().map(Some).map_err(bookkeeping)
        };
        let opening = try_join_all(self.sinks.iter_mut().map(async |ActiveSink { sink, writer, .. }| {
            let opened = writer.open().await;
            opened.map_err(|e| (Store::Sink(sink.name()), e))
        }));
        let (progress, _) = futures::try_join!(connecting, opening)?;
        if let Some(progress) = progress {
            self.prepare(&progress).await.map_err(bookkeeping)?;
            self.progress = Some(progress);
        }
        Ok(())
    }

    /// Prepares statements of sinks on the connection of the bookkeeping.
    async fn prepare(&mut self, progress: &ProgressConnection) -> Result<(), StoreError> {
        let preparing = async {
            for sink in &mut self.sinks {
                sink.writer.prepare(progress.client()).await?;
            }
            Ok(())
        };
        answered(preparing).await.flatten()
    }

    /// Closes what failed, so that the next attempt opens it with the credentials as they are then.
    pub fn close(&mut self, store: Store, error: &StoreError) {
        let is_failed = |sink: &dyn Sink| store == Store::Sink(sink.name());
        // All that share the connection of the bookkeeping fail together.
        let mut in_transaction = self.sinks.iter().map(|sink| sink.sink).filter(|sink| sink.uses_transaction());
        let is_transaction_failed = store == Store::Bookkeeping || in_transaction.any(is_failed);
        if is_transaction_failed {
            self.progress = None;
        }
        for ActiveSink { sink, writer, .. } in &mut self.sinks {
            if is_failed(*sink) || (is_transaction_failed && sink.uses_transaction()) {
                writer.close(error);
            }
        }
    }
}
