//! Compares rejects and dead letters with the invalid items and messages of the trial.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use userpipeline_api::names;

use super::{Trial, garbage::Garbage, source_model::InvalidItem};
use crate::stores::{self, TopicMessage};

/// The prefix of the headers that a dead letter has in addition to those of its message.
const DEAD_LETTER_PREFIX: &str = "dlq.";

/// Every reject is a served invalid item with the expected class, and runs have counted it as often. Every item of `last`, which
/// were served after the load, is rejected. Returns the number of distinct rejects.
pub async fn rejects(trial: &Trial, db: &tokio_postgres::Client, last: &BTreeSet<String>) -> Result<usize> {
    let pipeline = trial.world.id().to_string();
    let rows = db
        .query(
            "SELECT raw::text, field, class, reason, count(*) FROM userpipeline.rejects WHERE pipeline = $1 GROUP BY 1, 2, 3, 4",
            &[&pipeline],
        )
        .await?;
    let served = trial.source_model.invalid_items();
    let mut times: BTreeMap<String, i64> = BTreeMap::new();
    for row in &rows {
        let [raw, field, class, reason] = [0, 1, 2, 3].map(|column| row.get::<_, String>(column));
        let InvalidItem {
            field: at, class: word, ..
        } = served
            .get(&raw)
            .with_context(|| format!("{raw} was rejected, and never served as an invalid item"))?;
        ensure!(
            (field.as_str(), class.as_str()) == (at, word) && reason.starts_with(&format!("from /{at}: ")),
            "{raw} was rejected for `{field}` as {class} ({reason}), and must be for `{at}` as {word}"
        );
        *times.entry(raw).or_default() += row.get::<_, i64>(4);
    }
    let missing: Vec<_> = last.iter().filter(|item| !times.contains_key(*item)).take(3).collect();
    ensure!(missing.is_empty(), "rejects: missing {missing:?}");
    for (item, rejected) in &times {
        // A page that was requested again was served again.
        let served = served[item].served;
        ensure!(
            usize::try_from(*rejected)? <= served,
            "{item} was rejected {rejected} times, and served {served} times"
        );
    }
    counted(db, &pipeline).await?;
    Ok(times.len())
}

/// Each attempt counts its rejects in its run and in the totals, in the transaction that stores them.
async fn counted(db: &tokio_postgres::Client, pipeline: &str) -> Result<()> {
    let runs = db
        .query(
            "SELECT run_id, coalesce(rejected, 0), coalesce(stored, 0) \
             FROM (SELECT run_id, rejected FROM userpipeline.runs WHERE pipeline = $1) AS runs \
             FULL JOIN (SELECT run_id, count(*) AS stored FROM userpipeline.rejects WHERE pipeline = $1 GROUP BY run_id) AS rejects USING (run_id)",
            &[&pipeline],
        )
        .await?;
    let mut sum = 0;
    for run in &runs {
        let (run, rejected, stored): (String, i64, i64) = (run.get(0), run.get(1), run.get(2));
        ensure!(
            rejected == stored,
            "run {run} has counted {rejected} rejects, and {stored} are stored"
        );
        sum += rejected;
    }
    let totals = db
        .query(
            "SELECT field, class, coalesce(items, 0), coalesce(stored, 0) \
             FROM (SELECT field, class, items FROM userpipeline.reject_totals WHERE pipeline = $1) AS totals \
             FULL JOIN (SELECT field, class, count(*) AS stored FROM userpipeline.rejects WHERE pipeline = $1 GROUP BY field, class) AS rejects \
             USING (field, class)",
            &[&pipeline],
        )
        .await?;
    let mut total = 0;
    for row in &totals {
        let (field, class, items, stored): (String, String, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
        ensure!(
            items == stored,
            "of `{field}` as {class} the totals have {items} rejects, and {stored} are stored"
        );
        total += items;
    }
    ensure!(sum == total, "runs have counted {sum} rejects, and the totals have {total}");
    Ok(())
}

/// The dead letters are exactly the planted messages, each at least once and unchanged, with its origin and its error.
pub async fn dead_letters(trial: &Trial, messages: &[TopicMessage], planted: &BTreeMap<Vec<u8>, Garbage>) -> Result<usize> {
    let letters = stores::messages(&names::dead_letter_topic(&trial.topic())).await?;
    let found: BTreeSet<&Vec<u8>> = letters.iter().map(|letter| &letter.payload).collect();
    ensure!(
        found == planted.keys().collect(),
        "{} different dead letters, and {} were planted",
        found.len(),
        planted.len()
    );
    let (topic, group) = (trial.topic(), names::group_id(&trial.world.id()));
    let at: BTreeMap<(i32, i64), &TopicMessage> = messages
        .iter()
        .map(|message| ((message.partition, message.offset), message))
        .collect();
    let mut origins = BTreeSet::new();
    for letter in &letters {
        let garbage = &planted[&letter.payload];
        let origin = checked(letter, garbage, &topic, &group, &at).with_context(|| format!("the dead letter {letter:?} of {garbage:?}"))?;
        origins.insert(origin);
    }
    let planted_at = at.iter().filter(|(_, message)| planted.contains_key(&message.payload));
    let without: Vec<_> = planted_at.filter(|(origin, _)| !origins.contains(*origin)).take(3).collect();
    ensure!(without.is_empty(), "no dead letter of {without:?}");
    Ok(letters.len())
}

/// Checks a dead letter against the planted message. Returns the partition and offset of its origin.
fn checked(
    letter: &TopicMessage,
    garbage: &Garbage,
    topic: &str,
    group: &str,
    at: &BTreeMap<(i32, i64), &TopicMessage>,
) -> Result<(i32, i64)> {
    let header = |name: &str| letter.headers.get(name).with_context(|| format!("{name} is missing"));
    for (name, expected) in [
        ("dlq.origin.topic", topic),
        ("dlq.consumer.group", group),
        ("dlq.error.class", garbage.class),
    ] {
        let found = header(name)?;
        ensure!(found == expected, "{name} is {found}, and must be {expected}");
    }
    ensure!(!header("dlq.error.message")?.is_empty(), "dlq.error.message is empty");
    let origin = (header("dlq.origin.partition")?.parse()?, header("dlq.origin.offset")?.parse()?);
    let message = at.get(&origin).with_context(|| format!("nothing is at {origin:?}"))?;
    ensure!(message.payload == letter.payload, "another message is at {origin:?}: {message:?}");
    let key = Some(&garbage.key);
    ensure!(
        letter.key.as_ref() == key && message.key.as_ref() == key,
        "its key is {:?}, that of its message {:?}, and that of what was planted {:?}",
        letter.key,
        message.key,
        garbage.key
    );
    let mut headers = letter.headers.clone();
    headers.retain(|name, _| !name.starts_with(DEAD_LETTER_PREFIX));
    ensure!(
        headers == garbage.headers() && message.headers == headers,
        "its headers are {headers:?}, those of its message {:?}, and those of what was planted {:?}",
        message.headers,
        garbage.headers()
    );
    Ok(origin)
}
