//! A batch that is being written.

use std::collections::BTreeSet;

use userpipeline_stores::StoreError;
use uuid::Uuid;

use crate::{
    model::Write,
    run::{
        batch::{Batch, Unwritten},
        decode::Decoders,
    },
};

pub struct Work {
    pub batch: Batch,
    /// None until all messages are decoded.
    pub writes: Option<Vec<Write>>,
    pub unwritten: Unwritten,
    /// Dead letters that are acknowledged, by partition and offset.
    pub sent: BTreeSet<(i32, i64)>,
}

impl Work {
    pub fn new(batch: Batch) -> Self {
        Self {
            batch,
            writes: None,
            unwritten: Unwritten::default(),
            sent: BTreeSet::new(),
        }
    }

    /// Removes the partitions that do not pass.
    pub fn retain(&mut self, keep: impl Fn(i32, Uuid) -> bool) {
        self.batch.retain(keep);
        let owners = &self.batch.owners;
        if let Some(writes) = &mut self.writes {
            writes.retain(|w| owners.contains_key(&w.origin.0));
        }
        self.unwritten.retain(|partition| owners.contains_key(&partition));
    }

    pub async fn decode(&mut self, decoders: &mut Decoders) -> Result<(), StoreError> {
        let mut writes = Vec::with_capacity(self.batch.messages.len());
        for message in &self.batch.messages {
            let decoded = decoders.decode(message).await?;
            writes.extend(self.unwritten.sort_out(message.origin(), decoded));
        }
        self.writes = Some(writes);
        Ok(())
    }

    /// Decodes again in the next attempt.
    pub fn forget_decoded(&mut self) {
        self.writes = None;
        self.unwritten = Unwritten::default();
    }

    /// Whether a dead letter is not acknowledged yet.
    pub fn has_unsent(&self) -> bool {
        self.unwritten.faults.keys().any(|origin| !self.sent.contains(origin))
    }
}
