//! The operator's schedule against a model of a cluster with faults.

use std::collections::BTreeSet;

use proptest::prelude::*;
use userpipeline_api::{RunOutcome, Ticks};

use super::*;

/// A cluster and the ledger.
#[derive(Default)]
struct Model {
    jobs: Vec<RunJob>,
    status: UserPipelineStatus,
    suspend_cron_job: bool,
    cron_job_ran: Option<Timestamp>,
    succeeded: BTreeSet<Timestamp>,
    most_active: usize,
}

#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in seconds; the clock may go back by up to two minutes.
    Pass(i64),
    /// The operator reconciles, and crashes after so many writes, if at all.
    Reconcile(Option<usize>),
    /// The operator reconciles with a cache that lacks so many of the newest Jobs.
    ReconcileStale(usize),
    /// A running Job ends.
    End(usize, bool),
    /// A user deletes a Job.
    Delete(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (-120_i64..900).prop_map(Step::Pass),
        1 => (900_i64..9_000).prop_map(Step::Pass),
        8 => prop::option::weighted(0.3, 0_usize..4).prop_map(Step::Reconcile),
        1 => (0_usize..3).prop_map(Step::ReconcileStale),
        8 => (any::<usize>(), prop::bool::weighted(0.85)).prop_map(|(which, well)| Step::End(which, well)),
        1 => any::<usize>().prop_map(Step::Delete),
    ]
}

impl Model {
    fn decide(&self, case: &Case, observed: &[RunJob], now: Timestamp) -> Decision {
        Case {
            schedule: case.schedule.clone(),
            run_now: None,
            suspended: false,
            last_tick_of_cron_job: self.cron_job_ran,
            recorded: self.status.clone(),
            runs: observed.to_vec(),
        }
        .decide(now)
    }

    /// Creates Jobs, updates the CronJob, deletes Jobs that were recorded before, and writes the status.
    fn reconcile(&mut self, case: &Case, now: Timestamp, unobserved: usize, mut writes: usize) {
        let observed = self.jobs[..self.jobs.len() - unobserved.min(self.jobs.len())].to_vec();
        let decision = self.decide(case, &observed, now);
        let mut crashed = || {
            let crashed = writes == 0;
            writes = writes.saturating_sub(1);
            crashed
        };
        for run in &decision.create {
            if crashed() {
                return;
            }
            let name = run.job.clone().unwrap();
            if self.jobs.iter().all(|job| job.name() != name) {
                self.jobs.push(job(&name, run.kind, Some(at(&run.run_id)), None, None));
            }
        }
        if crashed() {
            return;
        }
        self.suspend_cron_job = decision.suspend_cron_job;
        for name in &decision.delete {
            if crashed() {
                return;
            }
            self.jobs.retain(|job| job.name() != *name);
        }
        if crashed() {
            return;
        }
        self.status.runs = History::of(&self.status, &observed, Some("file")).runs;
        self.status.schedule = Some(decision.status);
        let active = self.jobs.iter().filter(|job| job.ended.is_none()).count();
        self.most_active = self.most_active.max(active);
    }

    fn end(&mut self, which: usize, well: bool, now: Timestamp) {
        let running: Vec<usize> = (0..self.jobs.len()).filter(|&i| self.jobs[i].ended.is_none()).collect();
        let Some(&i) = running.get(which % running.len().max(1)) else {
            return;
        };
        let RunJob { kind, due, .. } = self.jobs[i];
        let name = self.jobs[i].name();
        // The ledger: a repeated run of a success is a no-op.
        let well = well || self.succeeded.contains(&due.unwrap());
        if well {
            self.succeeded.insert(due.unwrap());
        }
        self.jobs[i] = job(&name, kind, due, None, Some((well, now)));
    }

    /// The CronJob controller starts the last missed tick of a CronJob that is not suspended.
    fn cron_job(&mut self, ticks: &Ticks, from: Timestamp, now: Timestamp) {
        if self.suspend_cron_job {
            return;
        }
        let earliest = self
            .cron_job_ran
            .unwrap_or(from)
            .max(now.checked_sub(Duration::from_secs(200)).unwrap());
        let missed = ticks
            .before(now.checked_add(Duration::from_nanos(1)).unwrap())
            .filter(|tick| *tick > earliest);
        let Some(tick) = missed else { return };
        let name = names::scheduled_job(CRON_JOB, tick);
        if self.jobs.iter().all(|job| job.name() != name) {
            self.jobs.push(job(&name, RunKind::Scheduled, Some(tick), None, None));
        }
        self.cron_job_ran = Some(tick);
    }
}

fn ticks_between(ticks: &Ticks, from: Timestamp, to: Timestamp) -> BTreeSet<Timestamp> {
    std::iter::successors(ticks.after(from), |tick| ticks.after(*tick))
        .take_while(|tick| *tick <= to)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Despite outages, clock jumps, crashes between any two writes, stale caches and deleted Jobs, every interval is run or has
    /// failed, and no other is.
    #[test]
    fn with_catch_up_every_interval_is_run_and_no_other(
        cron in prop::sample::select(vec!["*/5 * * * *", "*/7 1-22 * * *", "@hourly"]),
        zone in prop::sample::select(vec!["Etc/UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
        begin in prop::sample::select(vec!["2024-01-01T09:00:00Z", "2024-03-30T23:00:00Z", "2024-10-26T23:00:00Z"]),
        most in 1_i32..4,
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let mut case = hourly(&json!({"cron": cron, "timeZone": zone, "startAt": begin, "catchUp": {"enabled": true, "maxActiveRuns": most}}));
        let ticks = Ticks::read(cron, zone).unwrap();
        let begins = ticks.after(at(begin).checked_sub(Duration::from_nanos(1)).unwrap()).unwrap();
        let mut model = Model { suspend_cron_job: true, ..Model::default() };
        let (mut now, mut latest) = (at(begin), at(begin));
        let mut failed = BTreeSet::new();
        for step in steps {
            match step {
                Step::Pass(seconds) => now = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap(),
                Step::Reconcile(crash) => model.reconcile(&case, now, 0, crash.unwrap_or(usize::MAX)),
                Step::ReconcileStale(unobserved) => model.reconcile(&case, now, unobserved, usize::MAX),
                Step::End(which, well) => model.end(which, well, now),
                Step::Delete(which) => if !model.jobs.is_empty() { model.jobs.remove(which % model.jobs.len()); },
            }
            latest = latest.max(now);
            failed.extend(model.jobs.iter().filter(|job| job.ended.as_ref().is_some_and(|run| run.outcome == RunOutcome::Failed)).filter_map(|job| job.due));
        }
        // Without further faults, the operator catches up.
        let expected = ticks_between(&ticks, begins, latest);
        for _ in 0..3 * (expected.len() + 5) {
            model.reconcile(&case, latest, 0, usize::MAX);
            model.end(0, true, latest);
        }
        model.reconcile(&case, latest, 0, usize::MAX);
        let missing: Vec<_> = expected.difference(&model.succeeded).filter(|tick| !failed.contains(*tick)).collect();
        prop_assert!(missing.is_empty(), "never run: {missing:?}");
        let unexpected: Vec<_> = model.succeeded.difference(&expected).collect();
        prop_assert!(unexpected.is_empty(), "unexpected: {unexpected:?}");
        prop_assert!(model.most_active <= usize::try_from(most).unwrap() + 3, "{} at a time", model.most_active);
        case.recorded = model.status.clone();
        prop_assert_eq!(case.recorded.schedule.as_ref().unwrap().backlog, 0);
    }

    /// Without faults, switching catch-up on and off neither loses an interval nor runs one twice.
    #[test]
    fn switching_catch_up_loses_and_repeats_nothing(
        switches in prop::collection::vec(any::<bool>(), 1..12),
        minutes in prop::collection::vec(1_usize..9, 12),
    ) {
        let ticks = Ticks::read("*/2 * * * *", "Etc/UTC").unwrap();
        let from = at("2024-01-01T09:00:00Z");
        let mut model = Model { suspend_cron_job: true, ..Model::default() };
        let mut now = from;
        for (enabled, minutes) in switches.iter().zip(&minutes) {
            let case = hourly(&json!({"cron": "*/2 * * * *", "catchUp": {"enabled": enabled, "maxActiveRuns": 2}}));
            for _ in 0..minutes * 2 {
                now = now.checked_add(Duration::from_secs(30)).unwrap();
                model.cron_job(&ticks, from, now);
                model.reconcile(&case, now, 0, usize::MAX);
                model.end(0, true, now);
            }
        }
        model.cron_job(&ticks, from, now);
        model.end(0, true, now);
        prop_assert_eq!(&model.succeeded, &ticks_between(&ticks, from, now));
    }
}
