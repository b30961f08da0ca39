//! `stream-worker dead-letters`: looks at them, and drives them again.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;
use tokio::sync::mpsc;
use userpipeline_api::{document::WorkerPipeline, report::exit};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{Class, StoreError};

use super::{
    letter::Letter,
    print,
    read::Place,
    redrive::Redrive,
    select::{Distinct, Selection},
};
use crate::decode::Decoders;

/// What `stream-worker dead-letters` is told.
#[derive(Args)]
pub struct DeadLettersArgs {
    /// The pipeline's file; in a worker's pod it is where it is looked for.
    #[arg(long, default_value = "/etc/userpipeline/pipeline.yaml", global = true)]
    pipeline: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists them: a line each, or with --json a document each.
    List {
        #[command(flatten)]
        selection: Selection,
        /// At most so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// A JSON document for each, with its headers and its payload.
        #[arg(long)]
        json: bool,
    },
    /// Shows one of them, with its headers, its payload and, where that can be read, its record.
    Show {
        /// Which: PARTITION:OFFSET on the dead-letter topic, as `list` says.
        #[arg(value_parser = position)]
        letter: (i32, i64),
    },
    /// Puts them back on the topic, as they were. A record follows the version rule: where a newer one is stored, that stays. A
    /// message that is there several times is sent once.
    Redrive {
        #[command(flatten)]
        selection: Selection,
        /// Sends nothing, and says what would be sent.
        #[arg(long)]
        dry_run: bool,
    },
}

fn position(text: &str) -> Result<(i32, i64), String> {
    let parts = text.split_once(':').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
    parts.ok_or_else(|| "not PARTITION:OFFSET, such as 0:17".to_owned())
}

/// Does it; the result is the exit code.
pub async fn run(args: DeadLettersArgs) -> u8 {
    match execute(args).await {
        Ok(()) => exit::DONE,
        Err(error) => {
            eprintln!("{}: {}", error.reason, error.message);
            match error.class {
                Class::Transient => exit::RETRY,
                Class::Configuration => exit::CONFIGURATION,
            }
        }
    }
}

async fn execute(args: DeadLettersArgs) -> Result<(), StoreError> {
    let invalid = |message: String| StoreError::configuration("PipelineInvalid", message);
    let text = std::fs::read_to_string(&args.pipeline).map_err(|e| invalid(format!("{}: {e}", args.pipeline.display())))?;
    let pipeline = WorkerPipeline::read(&text).map_err(|e| invalid(e.to_string()))?;
    let place = Place {
        brokers: pipeline.bootstrap_servers.clone(),
        topic: pipeline.dead_letter_topic.clone(),
    };
    match args.command {
        Command::List { selection, limit, json } => list(place, selection, limit, json).await,
        Command::Show { letter } => show(place, &pipeline, letter).await,
        Command::Redrive { selection, dry_run } => redrive(place, &pipeline, selection, dry_run).await,
    }
}

/// The letters that are meant, one after the other; reading waits for whoever takes them.
fn letters(place: Place, wanted: impl Fn(&Letter) -> bool + Send + 'static) -> Letters {
    let (sender, receiver) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || {
        place.letters(|letter| {
            // Nobody takes them any more where there are enough.
            Ok(!sender.is_closed() && (!wanted(&letter) || sender.blocking_send(letter).is_ok()))
        })
    });
    Letters { receiver, reading }
}

struct Letters {
    receiver: mpsc::Receiver<Letter>,
    reading: tokio::task::JoinHandle<Result<(), StoreError>>,
}

impl Letters {
    async fn next(&mut self) -> Option<Letter> {
        self.receiver.recv().await
    }

    /// Whether all were read.
    async fn end(mut self) -> Result<(), StoreError> {
        self.receiver.close();
        self.reading
            .await
            .unwrap_or_else(|e| Err(StoreError::transient("KafkaFailed", format!("reading broke off: {e}"))))
    }
}

async fn list(place: Place, selection: Selection, limit: usize, json: bool) -> Result<(), StoreError> {
    let mut letters = letters(place, move |letter| selection.has(letter));
    if !json {
        println!("{}", print::COLUMNS.join("\t"));
    }
    let mut listed = 0;
    while let Some(letter) = letters.next().await {
        if listed == limit {
            eprintln!("there are more: say --limit, or choose by --class, --key, --since and --until");
            break;
        }
        listed += 1;
        if json {
            println!("{}", print::whole(&letter, None));
        } else {
            println!("{}", print::line(&letter));
        }
    }
    letters.end().await
}

async fn show(place: Place, pipeline: &WorkerPipeline, at: (i32, i64)) -> Result<(), StoreError> {
    let topic = place.topic.clone();
    let mut letters = letters(place, move |letter| letter.at == at);
    let Some(letter) = letters.next().await else {
        letters.end().await?;
        let (partition, offset) = at;
        return Err(StoreError::configuration(
            "NoSuchLetter",
            format!("there is no letter {partition}:{offset} on topic `{topic}`, or no longer"),
        ));
    };
    let record = record(pipeline, &letter).await;
    let text = serde_json::to_string_pretty(&print::whole(&letter, record.as_ref())).unwrap_or_default();
    println!("{text}");
    letters.end().await
}

/// The record, where the message can be read by now.
async fn record(pipeline: &WorkerPipeline, letter: &Letter) -> Option<Value> {
    let schema = RecordSchema::read(pipeline.record.as_ref()).ok()?;
    let entry = Decoders::of(pipeline, schema.clone())
        .ok()?
        .decode(&letter.message)
        .await
        .ok()?
        .ok()?;
    let names = schema.fields.iter().map(|field| field.name.clone());
    let values = entry.record.0.iter().map(userpipeline_record::Value::to_json);
    Some(names.zip(values).collect::<serde_json::Map<_, _>>().into())
}

async fn redrive(place: Place, pipeline: &WorkerPipeline, selection: Selection, dry_run: bool) -> Result<(), StoreError> {
    let mut drive = Redrive::to(&pipeline.bootstrap_servers, &pipeline.topic)?;
    let mut letters = letters(place, move |letter| selection.has(letter));
    let (mut distinct, mut repeated) = (Distinct::default(), 0);
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(letter) = letters.next().await {
        if !distinct.is_new(&letter) {
            repeated += 1;
            continue;
        }
        *classes.entry(letter.class.clone()).or_default() += 1;
        if dry_run {
            println!("{}", print::line(&letter));
        } else {
            drive.send(letter).await?;
        }
    }
    drive.flush().await?;
    letters.end().await?;
    let count: usize = classes.values().sum();
    let by_class: Vec<String> = classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
    let verb = if dry_run { "would go" } else { "went" };
    println!(
        "{count} dead letters {verb} to topic {} [{}]; {repeated} more were the same as one of them",
        pipeline.topic,
        by_class.join(", ")
    );
    Ok(())
}
