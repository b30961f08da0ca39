//! The operator crashes before and after each of its writes, or the write fails in another way. The end state is the same, and no
//! object is created or deleted more than once.
//!
//! `make test` runs each scenario without a fault and a seeded sample of faults; `make test-long` runs all of them. `CRASH_SEED=7`
//! selects the sample, `CRASH_TRIALS=40` or `all` its size, `CRASH_SCENARIO=Strimzi` the scenarios whose names begin with it.

mod connections;
mod pipelines;
mod scenario;
mod strimzi;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, ensure};
use futures::{StreamExt, stream};
use userpipeline_tests::{
    cluster,
    crash::{Fault, Lease, Outcome, Sandbox, trial},
    random::SplitMix64,
    strimzi::crds,
};

use self::{connections::NAMESPACE_DELETED, scenario::Scenario};

const SEED: u64 = 1;
const TRIALS: usize = 24;
/// Concurrent trials. With more of them the cluster's controllers are too slow.
const AT_ONCE: usize = 10;

fn all_scenarios() -> Vec<Scenario> {
    let all: [&[Scenario]; 3] = [&pipelines::SCENARIOS, &connections::SCENARIOS, &strimzi::SCENARIOS];
    all.concat()
}

/// Runs scenarios in parallel, each with or without a fault.
async fn play(trials: Vec<(usize, Option<(usize, Fault)>)>) -> Vec<(usize, Option<(usize, Fault)>, Result<Outcome>)> {
    stream::iter(trials)
        .map(|(scenario, fault)| async move {
            let played = tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let Scenario { setup, play, .. } = all_scenarios().swap_remove(scenario);
                runtime.block_on(trial(setup, async |sandbox: &Sandbox| play(sandbox).await, fault))
            });
            (scenario, fault, played.await.map_err(Into::into).flatten())
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// The difference to the trial without a fault.
fn difference(scenario: &str, expected: &Outcome, found: &Outcome) -> Option<String> {
    // The namespace controller deletes objects too; which of them the operator deletes first is a race.
    let same = if scenario == NAMESPACE_DELETED {
        expected.write_counts.created == found.write_counts.created
    } else {
        expected.write_counts == found.write_counts
    };
    if !same {
        return Some(format!(
            "{:?}\ninstead of\n{:?}\nafter {:#?}",
            found.write_counts, expected.write_counts, found.writes
        ));
    }
    if expected.end_state != found.end_state {
        let (expected, found) = (format!("{:#}", expected.end_state), format!("{:#}", found.end_state));
        let expected_lines: HashSet<&str> = expected.lines().collect();
        let found_lines: HashSet<&str> = found.lines().collect();
        let lines = expected
            .lines()
            .filter(|line| !found_lines.contains(line))
            .map(|line| format!("- {line}"));
        let lines = lines.chain(
            found
                .lines()
                .filter(|line| !expected_lines.contains(line))
                .map(|line| format!("+ {line}")),
        );
        return Some(lines.collect::<Vec<_>>().join("\n"));
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_in_every_write_leads_to_the_same_end_state() -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    let mut random = SplitMix64::new(variable("CRASH_SEED").map_or(Ok(SEED), |seed| seed.parse())?);
    let only = variable("CRASH_SCENARIO").unwrap_or_default();
    let scenarios = all_scenarios();
    let client = cluster::connect().await?;
    crds::ensure_installed(&client).await?;
    let lease = Lease::take(client).await?;

    // Given each scenario without a fault
    let chosen = (0..scenarios.len()).filter(|&i| scenarios[i].name.starts_with(&only));
    let mut expected = BTreeMap::new();
    for (scenario, _, outcome) in play(chosen.map(|i| (i, None)).collect()).await {
        let outcome = outcome.with_context(|| format!("`{}` without a fault", scenarios[scenario].name))?;
        expected.insert(scenario, Arc::new(outcome));
    }
    let mut all: Vec<(usize, Option<(usize, Fault)>)> = Vec::new();
    for (&scenario, outcome) in &expected {
        let faults = (0..outcome.writes.len()).flat_map(|write| Fault::ALL.map(|fault| (write, fault)));
        all.extend(faults.map(|fault| (scenario, Some(fault))));
    }
    let total = all.len();

    // When one write of each trial has a fault
    let sample_size = match variable("CRASH_TRIALS").as_deref() {
        Some("all") => total,
        Some(number) => number.parse()?,
        None => TRIALS,
    };
    while all.len() > sample_size {
        let out = random.index(all.len());
        all.swap_remove(out);
    }
    let (trials, started) = (all.len(), std::time::Instant::now());
    let outcomes = play(all).await;

    // Then the end state is the same
    let mut wrong = Vec::new();
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let mut missed = 0;
    for (scenario, fault, outcome) in outcomes {
        let name = scenarios[scenario].name;
        let kind = fault.map_or_else(String::new, |(_, fault)| format!("{fault:?}"));
        let difference = match outcome {
            Ok(found) => {
                // Two events in short succession lead to one status or two, so there may be fewer writes than without the fault.
                if found.hit {
                    *hits.entry(kind).or_default() += 1;
                } else {
                    missed += 1;
                }
                difference(name, &expected[&scenario], &found)
            }
            Err(error) => Some(format!("{error:#}")),
        };
        wrong.extend(difference.map(|difference| format!("`{name}` with {fault:?}: {difference}")));
    }
    drop(lease);
    for (scenario, outcome) in &expected {
        println!("{}: {} writes", scenarios[*scenario].name, outcome.writes.len());
    }
    println!(
        "{trials} of {total} trials in {:?}, {} wrong, {missed} without the fault: {hits:?}",
        started.elapsed(),
        wrong.len()
    );
    ensure!(missed * 10 <= trials, "{missed} of {trials} faults did not happen");
    wrong.is_empty().then_some(()).ok_or_else(|| anyhow!("{}", wrong.join("\n\n")))
}
