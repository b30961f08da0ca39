//! The proof: records with updates and deletes go the whole way while everything breaks, and then everything is as the source
//! served it.
//!
//! `make test` plays a sample of some minutes; `make test-exact SEED=… FAULTS=…` so many of each fault, in an order that follows
//! from the seed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use userpipeline_tests::{
    dice::Dice,
    exact::{Fault, Scene, strike, verdict},
};

const SEED: u64 = 1;
/// No more faults begin in a sample after this time.
const SAMPLE: Duration = Duration::from_secs(210);
/// A fault that misses is tried again so often.
const TRIES: usize = 6;
/// So many messages come once more in the end.
const AGAIN: usize = 2000;

#[derive(Default)]
struct Tally {
    hit: usize,
    missed: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_everything_arrives_as_it_was_served() -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let seed: u64 = variable("EXACT_SEED").map_or(Ok(SEED), |text| text.parse()).context("SEED")?;
    let each: Option<usize> = variable("EXACT_FAULTS").map(|text| text.parse()).transpose().context("FAULTS")?;
    let only = variable("EXACT_ONLY");
    let mut dice = Dice::new(seed);
    let mut faults: Vec<Fault> = Fault::all()
        .into_iter()
        .filter(|fault| {
            only.as_ref()
                .is_none_or(|only| only.split(',').any(|name| name == fault.to_string()))
        })
        .flat_map(|fault| std::iter::repeat_n(fault, each.unwrap_or(1)))
        .collect();
    ensure!(!faults.is_empty(), "there is no fault named {only:?}");
    dice.shuffle(&mut faults);

    // Given a pipeline under load
    let started = Instant::now();
    let mut scene = Scene::set(seed).await?;
    scene.begin();
    println!("seed {seed}: {} faults in {}", faults.len(), scene.world.namespace);

    let played = play(&scene, faults, each.is_none().then_some(SAMPLE), &mut dice).await;
    let ended = scene.end().await;
    let (tally, compared) = played?;
    ended?;
    for (fault, Tally { hit, missed }) in &tally {
        println!("{fault}: {hit} hit, {missed} missed");
    }
    let hits: usize = tally.values().map(|tally| tally.hit).sum();
    println!("seed {seed}: {hits} faults in {:.0?}; {compared:?}", started.elapsed());
    scene.world.leave().await
}

type Outcome = (BTreeMap<String, Tally>, verdict::Compared);

/// Everything breaks, and then everything is compared. `within`: after so long no more faults begin.
async fn play(scene: &Scene, faults: Vec<Fault>, within: Option<Duration>, dice: &mut Dice) -> Result<Outcome> {
    let started = Instant::now();
    // When everything breaks, one thing after the other
    let mut tally: BTreeMap<String, Tally> = BTreeMap::new();
    for fault in faults {
        if within.is_some_and(|within| started.elapsed() > within) {
            break;
        }
        let counted = tally.entry(fault.to_string()).or_default();
        for attempt in 1.. {
            let began = Instant::now();
            let struck = strike::strike(scene, fault, dice).await;
            let mended = strike::heal(scene).await;
            // Where both went wrong, the strike did first.
            let effect = struck.with_context(|| fault.to_string())?;
            mended.with_context(|| format!("mending {fault}"))?;
            let (lasted, healed) = (began.elapsed(), Instant::now());
            scene.recovered().await.with_context(|| format!("after {fault}"))?;
            println!(
                "{:6.1}s {fault}: {} ({lasted:.1?}, recovered after {:.1?})",
                started.elapsed().as_secs_f64(),
                effect.as_deref().unwrap_or("missed"),
                healed.elapsed()
            );
            if effect.is_some() {
                counted.hit += 1;
                break;
            }
            counted.missed += 1;
            ensure!(attempt < TRIES, "{fault} does not hit");
        }
    }

    // And the source comes to rest, and is read once more
    scene.calm().await?;
    let served = scene.book.bad();
    scene.world.run("last").await?;
    scene.recovered().await?;

    // And what was there is delivered once more, when nothing newer would cover up an older version that were taken
    let (again, _) = strike::deliver_again(scene, dice, AGAIN).await?;
    ensure!(again == AGAIN, "only {again} messages were there to be delivered again");
    scene.recovered().await?;

    // Then everything is as it was served
    let calm = scene.book.bad().into_keys().filter(|item| !served.contains_key(item)).collect();
    let compared = verdict::compare(scene, &calm).await?;
    Ok((tally, compared))
}
