//! `stream-worker dead-letters`: lists, shows and redrives dead letters.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;
use tokio::sync::mpsc;
use userpipeline_api::{
    document::{CONFIG_MAPS, WorkerPipeline},
    report::exit,
};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{Secrets, StoreError, error::PIPELINE_INVALID, kafka::Connection};

use crate::{
    dead_letters::{DeadLetterTopic, Distinct, Letter, Redrive, Selection, print},
    model::VersionedRecord,
    run::decode::{Decoded, Decoders},
};

#[derive(Args)]
pub struct DeadLettersArgs {
    /// The pipeline's file; the default is its path in a worker's pod.
    #[arg(long, default_value = "/etc/userpipeline/pipeline.yaml", global = true)]
    pipeline: PathBuf,
    /// The folder of the Secrets; the default is its path in a worker's pod.
    #[arg(long, default_value = "/etc/userpipeline/secrets", global = true)]
    secrets: PathBuf,
    /// The folder of the ConfigMaps with certificates.
    #[arg(long, default_value = CONFIG_MAPS, global = true)]
    config_maps: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists dead letters: a line for each, or with --json a document.
    List {
        #[command(flatten)]
        selection: Selection,
        /// The number of dead letters at most.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// A JSON document for each, with its headers and its payload.
        #[arg(long)]
        json: bool,
    },
    /// Shows one with its headers, its payload and, where it can be decoded, its record.
    Show {
        /// PARTITION:OFFSET on the dead-letter topic, as `list` prints it.
        #[arg(value_parser = position)]
        letter: (i32, i64),
    },
    /// Sends them to the topic again, unchanged. The newest version of a record wins. A message that is there several times is
    /// sent once.
    Redrive {
        #[command(flatten)]
        selection: Selection,
        /// Sends nothing, and prints what would be sent.
        #[arg(long)]
        dry_run: bool,
    },
}

fn position(text: &str) -> Result<(i32, i64), String> {
    let parts = text.split_once(':').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
    parts.ok_or_else(|| "not PARTITION:OFFSET, such as 0:17".to_owned())
}

/// Returns the exit code.
pub async fn run(args: DeadLettersArgs) -> u8 {
    match execute(args).await {
        Ok(()) => exit::DONE,
        Err(error) => {
            eprintln!("{}: {}", error.reason, error.message);
            error.class.exit_code()
        }
    }
}

async fn execute(args: DeadLettersArgs) -> Result<(), StoreError> {
    let invalid = |message: String| StoreError::configuration(PIPELINE_INVALID, message);
    let text = std::fs::read_to_string(&args.pipeline).map_err(|e| invalid(format!("{}: {e}", args.pipeline.display())))?;
    let pipeline = WorkerPipeline::read(&text).map_err(|e| invalid(e.to_string()))?;
    let secrets = Secrets::in_dir(&args.secrets).with_config_maps(&args.config_maps);
    let connection = Connection::new(&pipeline.brokers, &secrets);
    connection.verify().await?;
    let topic = DeadLetterTopic {
        connection: connection.clone(),
        topic: pipeline.dead_letter_topic.clone(),
    };
    match args.command {
        Command::List { selection, limit, json } => list(topic, selection, limit, json).await,
        Command::Show { letter } => show(topic, &pipeline, &secrets, letter).await,
        Command::Redrive { selection, dry_run } => redrive(topic, &connection, &pipeline, selection, dry_run).await,
    }
}

/// The selected letters, one after the other; reading waits until each is taken.
fn letters(topic: DeadLetterTopic, selected: impl Fn(&Letter) -> bool + Send + 'static) -> Letters {
    let (sender, receiver) = mpsc::channel(1);
    let connection = topic.connection.clone();
    let reading = tokio::task::spawn_blocking(move || {
        topic.letters(|letter| {
            // The receiver is closed where there are enough.
            Ok(!sender.is_closed() && (!selected(&letter) || sender.blocking_send(letter).is_ok()))
        })
    });
    Letters {
        receiver,
        reading,
        connection,
    }
}

struct Letters {
    receiver: mpsc::Receiver<Letter>,
    reading: tokio::task::JoinHandle<Result<(), StoreError>>,
    connection: Connection,
}

impl Letters {
    async fn next(&mut self) -> Option<Letter> {
        self.receiver.recv().await
    }

    /// Whether all were read.
    async fn end(mut self) -> Result<(), StoreError> {
        self.receiver.close();
        let read = self.reading.await;
        match read.unwrap_or_else(|e| Err(StoreError::transient("KafkaFailed", format!("reading broke off: {e}")))) {
            Ok(()) => Ok(()),
            Err(e) => Err(self.connection.locate(e).await),
        }
    }
}

async fn list(topic: DeadLetterTopic, selection: Selection, limit: usize, json: bool) -> Result<(), StoreError> {
    let mut letters = letters(topic, move |letter| selection.has(letter));
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

async fn show(topic: DeadLetterTopic, pipeline: &WorkerPipeline, secrets: &Secrets, at: (i32, i64)) -> Result<(), StoreError> {
    let name = topic.topic.clone();
    let mut letters = letters(topic, move |letter| letter.at == at);
    let Some(letter) = letters.next().await else {
        letters.end().await?;
        let (partition, offset) = at;
        return Err(StoreError::configuration(
            "NoSuchLetter",
            format!("there is no letter {partition}:{offset} on topic `{name}`, or no longer"),
        ));
    };
    let record = record(pipeline, secrets, &letter).await;
    let text = serde_json::to_string_pretty(&print::whole(&letter, record.as_ref())).unwrap_or_default();
    println!("{text}");
    letters.end().await
}

/// The record, where the message can be decoded by now.
async fn record(pipeline: &WorkerPipeline, secrets: &Secrets, letter: &Letter) -> Option<Value> {
    let schema = RecordSchema::read(pipeline.record.as_ref()).ok()?;
    let decoded = Decoders::of(pipeline, schema.clone(), secrets)
        .ok()?
        .decode(&letter.message)
        .await
        .ok()?;
    let (Decoded::Upsert(decoded) | Decoded::Filtered(decoded) | Decoded::Delete(decoded)) = decoded else {
        return None;
    };
    let VersionedRecord { record, .. } = decoded;
    let names = schema.fields.iter().map(|field| field.name.clone());
    let values = record.0.iter().map(userpipeline_record::Value::to_json);
    Some(names.zip(values).collect::<serde_json::Map<_, _>>().into())
}

async fn redrive(
    topic: DeadLetterTopic,
    connection: &Connection,
    pipeline: &WorkerPipeline,
    selection: Selection,
    dry_run: bool,
) -> Result<(), StoreError> {
    let mut drive = Redrive::to(connection, &pipeline.topic)?;
    let mut letters = letters(topic, move |letter| selection.has(letter));
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
