//! What a pipeline has stored and its runs have fetched, ever.

use tokio_postgres::{Client, Error};
use userpipeline_api::report::{RejectTotal, StoredTotals};
use userpipeline_record::bookkeeping;

/// The totals of a pipeline: of its group over all partitions, including deleted incarnations of the topic, of its
/// runs, and of the aggregates of its sink table. They never decrease.
pub async fn totals(client: &Client, group: &str, pipeline: &str, sink_table: Option<&str>) -> Result<StoredTotals, Error> {
    let statement = "SELECT coalesce(sum(stored), 0)::bigint AS stored, coalesce(sum(dead_lettered), 0)::bigint AS dead_lettered, coalesce(sum(filtered), 0)::bigint AS filtered FROM userpipeline.progress WHERE group_id = $1";
    let stored = client.query_one(statement, &[&group]).await?;
    let fetched = client.query_one(bookkeeping::TOTALS, &[&pipeline]).await?;
    // Of a pipeline, either runs or workers decide what passes.
    let filtered = fetched.get::<_, i64>(3) + stored.get::<_, i64>("filtered");
    let rejects = client.query(bookkeeping::REJECTS, &[&pipeline]).await?;
    let late = client.query_one(bookkeeping::LATE, &[&sink_table, &pipeline]).await?;
    Ok(StoredTotals {
        stored: stored.get("stored"),
        dead_lettered: stored.get("dead_lettered"),
        items: fetched.get(0),
        bytes: fetched.get(1),
        published: fetched.get(2),
        late: late.get(0),
        filtered,
        rejects: rejects
            .iter()
            .map(|row| RejectTotal {
                field: row.get("field"),
                class: row.get("class"),
                items: row.get("items"),
            })
            .collect(),
    })
}
