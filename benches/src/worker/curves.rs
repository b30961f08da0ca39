//! How the throughput and the memory of workers depend on their number, on partitions and on batches.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::{
    messages::Reading,
    round::measure,
    subject::{PARTITIONS, Setting, Sinks, Subject},
};

/// Measures workers with several settings, and prints a table in Markdown.
#[derive(clap::Args)]
pub struct Curves {
    /// Path of a release build of stream-worker.
    #[arg(long)]
    program: PathBuf,
    /// Messages of a topic.
    #[arg(long, default_value_t = 250_000)]
    rows: u64,
    /// Partitions of a topic.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, PARTITIONS, 12])]
    partitions: Vec<i32>,
    /// Workers; not more than partitions.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    workers: Vec<usize>,
    /// Most records of a batch, besides the default.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 300, 3000, 10_000])]
    batches: Vec<u32>,
}

pub async fn run(curves: &Curves) -> Result<()> {
    println!("| partitions | workers | `maxRecords` | sinks | rows/s | CPU time per row | peak memory of a worker |");
    println!("|---|---|---|---|---|---|---|");
    for partitions in &curves.partitions {
        let source = json!({"topic": {"format": "JSON"}});
        let subject = Subject::with_partitions(&format!("curves-{partitions}"), &source, *partitions).await?;
        let produced = subject.produce(0..curves.rows, |number| {
            let reading = Reading::new(number);
            (reading.id.to_string(), reading.json().into_bytes(), None)
        });
        produced.await?;
        for (workers, batch) in curves.settings(*partitions) {
            for sinks in [Sinks::Cassandra, Sinks::Both] {
                let setting = Setting {
                    program: &curves.program,
                    sinks,
                    encrypted: false,
                    filtered: false,
                    workers,
                    batch,
                };
                print(*partitions, &setting, &measure(&subject, &setting, curves.rows).await?);
            }
        }
        subject.remove().await?;
    }
    Ok(())
}

impl Curves {
    /// The numbers of workers at the default batch, and one worker with other batches on the default number of partitions.
    fn settings(&self, partitions: i32) -> Vec<(usize, Option<u32>)> {
        let most = usize::try_from(partitions).unwrap_or(0);
        let workers = self
            .workers
            .iter()
            .filter(|workers| **workers <= most)
            .map(|workers| (*workers, None));
        let batches = self
            .batches
            .iter()
            .filter(|_| partitions == PARTITIONS)
            .map(|batch| (1, Some(*batch)));
        workers.chain(batches).collect()
    }
}

fn print(partitions: i32, setting: &Setting<'_>, round: &super::round::Round) {
    println!(
        "| {partitions} | {} | {} | {} | {:.0} | {:.1} µs | {:.0} MiB |",
        setting.workers,
        setting.batch.map_or_else(|| "default".to_owned(), |batch| batch.to_string()),
        if setting.sinks == Sinks::Both { "both" } else { "Cassandra" },
        round.rows_per_second,
        round.cpu_per_row,
        round.peak
    );
}
