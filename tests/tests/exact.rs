//! The proof of exactness: records with updates and deletes pass the whole pipeline during every fault, and in the end every store
//! holds what the source served.
//!
//! `make test` injects a sample for some minutes; `make test-exact SEED=… FAULTS=…` injects each fault that many times, in an order
//! that the seed determines.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use userpipeline_tests::{
    exact::{Fault, Trial, comparison, inject},
    random::SplitMix64,
};

const SEED: u64 = 1;
/// A sample starts no fault after this time.
const SAMPLE: Duration = Duration::from_secs(120);
/// Per fault, until it has an effect.
const ATTEMPTS: usize = 6;
/// In the end.
const REDELIVERED_MESSAGES: usize = 2000;

#[derive(Default)]
struct Tally {
    hit: usize,
    missed: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_arrives_as_served_despite_every_fault() -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let seed: u64 = variable("EXACT_SEED").map_or(Ok(SEED), |text| text.parse()).context("SEED")?;
    let each: Option<usize> = variable("EXACT_FAULTS").map(|text| text.parse()).transpose().context("FAULTS")?;
    let only = variable("EXACT_ONLY");
    let mut random = SplitMix64::new(seed);
    let mut faults: Vec<Fault> = Fault::all()
        .into_iter()
        .filter(|fault| {
            only.as_ref()
                .is_none_or(|only| only.split(',').any(|name| name == fault.to_string()))
        })
        .flat_map(|fault| std::iter::repeat_n(fault, each.unwrap_or(1)))
        .collect();
    ensure!(!faults.is_empty(), "there is no fault named {only:?}");
    random.shuffle(&mut faults);

    // Given a pipeline under load
    let started = Instant::now();
    let mut trial = Trial::start(seed).await?;
    trial.start_load();
    println!("seed {seed}: {} faults in {}", faults.len(), trial.world.namespace);

    let outcome = inject_all(&trial, faults, each.is_none().then_some(SAMPLE), &mut random).await;
    let ended = trial.end().await;
    let (tally, compared) = outcome?;
    ended?;
    for (fault, Tally { hit, missed }) in &tally {
        println!("{fault}: {hit} hit, {missed} missed");
    }
    let hits: usize = tally.values().map(|tally| tally.hit).sum();
    println!("seed {seed}: {hits} faults in {:.0?}; {compared:?}", started.elapsed());
    trial.world.clean_up().await
}

type Outcome = (BTreeMap<String, Tally>, comparison::Compared);

/// Injects the faults, then compares. No fault starts after `within`.
async fn inject_all(trial: &Trial, faults: Vec<Fault>, within: Option<Duration>, random: &mut SplitMix64) -> Result<Outcome> {
    let started = Instant::now();
    // When the faults are injected one after the other
    let mut tally: BTreeMap<String, Tally> = BTreeMap::new();
    for fault in faults {
        if within.is_some_and(|within| started.elapsed() > within) {
            break;
        }
        let counted = tally.entry(fault.to_string()).or_default();
        for attempt in 1.. {
            let began = Instant::now();
            let injected = inject::inject(trial, fault, random).await;
            let healed = inject::heal(trial).await;
            // If both failed, the injection failed first.
            let effect = injected.with_context(|| fault.to_string())?;
            healed.with_context(|| format!("healing {fault}"))?;
            let (duration, healed_at) = (began.elapsed(), Instant::now());
            trial.recovered().await.with_context(|| format!("after {fault}"))?;
            comparison::check_aggregates(trial)
                .await
                .with_context(|| format!("after {fault}"))?;
            println!(
                "{:6.1}s {fault}: {} ({duration:.1?}, recovered after {:.1?})",
                started.elapsed().as_secs_f64(),
                effect.as_deref().unwrap_or("missed"),
                healed_at.elapsed()
            );
            if effect.is_some() {
                counted.hit += 1;
                break;
            }
            counted.missed += 1;
            ensure!(attempt < ATTEMPTS, "{fault} has no effect");
        }
    }

    // And the load stops, and a last run reads the source
    trial.stop_load().await?;
    let served = trial.source_model.invalid_items();
    trial.world.run("last").await?;
    trial.recovered().await?;

    // And earlier messages are redelivered, when no newer version follows that would hide an older one
    let (redelivered, _) = inject::redeliver(trial, random, REDELIVERED_MESSAGES).await?;
    ensure!(
        redelivered == REDELIVERED_MESSAGES,
        "only {redelivered} messages could be redelivered"
    );
    trial.recovered().await?;

    // Then every store holds what was served
    let last_invalid = trial
        .source_model
        .invalid_items()
        .into_keys()
        .filter(|item| !served.contains_key(item))
        .collect();
    let compared = comparison::compare(trial, &last_invalid).await?;
    Ok((tally, compared))
}
