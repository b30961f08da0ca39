//! How long the table keeps rows and deletes, and how it compacts them.

use std::{collections::HashMap, time::Duration};

use scylla::client::session::Session;
use userpipeline_api::document::SchemaPipeline;
use userpipeline_record::cassandra::TableOptions;
use userpipeline_stores::StoreError;

use super::cluster::rows;

/// A dead letter is older than the delete that came after it.
const DAY: Duration = Duration::from_secs(86_400);

/// The options that the spec declares. Where records are deleted, tombstones outlive the dead letters that could be redriven.
pub fn desired(pipeline: &SchemaPipeline, deletes: bool) -> TableOptions {
    // The options are 32-bit numbers.
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX).min(i32::MAX.into());
    TableOptions {
        time_to_live: pipeline.time_to_live.map(|time| seconds(time.into())),
        gc_grace_seconds: deletes.then(|| seconds(pipeline.dead_letter_retention.saturating_add(DAY))),
        compaction: pipeline.compaction.as_ref().map(|compaction| {
            let class = ("class".to_owned(), format!("{:?}", compaction.class));
            compaction.options.clone().into_iter().chain([class]).collect()
        }),
    }
}

pub async fn current(session: &Session, keyspace: &str, table: &str) -> Result<TableOptions, StoreError> {
    let found = rows::<(i32, HashMap<String, String>, i32)>(
        session,
        "SELECT default_time_to_live, compaction, gc_grace_seconds FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?",
        &[keyspace, table],
    )
    .await?;
    let options = |(seconds, compaction, gc_grace_seconds): (i32, HashMap<String, String>, i32)| TableOptions {
        time_to_live: Some(i64::from(seconds)),
        compaction: Some(compaction.into_iter().collect()),
        gc_grace_seconds: Some(i64::from(gc_grace_seconds)),
    };
    Ok(found.into_iter().next().map_or_else(TableOptions::default, options))
}
