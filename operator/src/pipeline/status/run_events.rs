//! The Events of runs that ended. Pure.

use userpipeline_api::{Run, RunOutcome, UserPipelineStatus};

use super::event_reason::Reason;

/// The oldest first. Runs that the status no longer lists are not published again.
pub fn run_events(before: &UserPipelineStatus, after: &UserPipelineStatus) -> Vec<(Reason, String)> {
    let newest = before.runs.first().and_then(|run| run.finished_at.as_ref()).map(|at| at.0);
    let is_known = |run: &Run| {
        let mut known = before.runs.iter();
        known.any(|old| (&old.job, &old.finished_at) == (&run.job, &run.finished_at))
    };
    let is_older = |run: &Run| run.finished_at.as_ref().map(|at| at.0) < newest;
    let new: Vec<&Run> = after.runs.iter().rev().filter(|run| !is_known(run) && !is_older(run)).collect();
    let ended = new.iter().map(|run| {
        let reason = if run.outcome == RunOutcome::Succeeded {
            Reason::RunSucceeded
        } else {
            Reason::RunFailed
        };
        (reason, format!("{}: {}: {}", run.job, run.reason, run.message))
    });
    // Once, until it changes: each run would repeat it.
    let is_success = |run: &&Run| run.outcome == RunOutcome::Succeeded;
    let mut last = before.runs.iter().find(is_success).and_then(|run| run.warning.as_ref());
    let changed: Vec<(Reason, String)> = new
        .iter()
        .copied()
        .filter(is_success)
        .filter_map(|run| {
            let before = std::mem::replace(&mut last, run.warning.as_ref());
            let warning = run.warning.as_ref().filter(|warning| before != Some(warning))?;
            Some((Reason::DataIncomplete, warning.clone()))
        })
        .collect();
    ended.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_published_when_it_changes() {
        // The warnings of runs, the newest first.
        let after = |warnings: &[&str]| UserPipelineStatus {
            runs: (0..warnings.len())
                .map(|i| Run {
                    job: format!("{}", warnings.len() - i),
                    warning: Some(warnings[i].to_owned()).filter(|warning| !warning.is_empty()),
                    outcome: RunOutcome::Succeeded,
                    ..Run::default()
                })
                .collect(),
            ..UserPipelineStatus::default()
        };
        let (run, warned) = (Reason::RunSucceeded, Reason::DataIncomplete);
        for (old, new, expected) in [
            (&[][..], &["a"][..], &[run, warned][..]),
            (&["a"], &["a", "a"], &[run]),
            (&["a"], &["b", "a"], &[run, warned]),
            (&["a"], &["", "a"], &[run]),
            (&["", "a"], &["a", "", "a"], &[run, warned]),
        ] {
            let reasons: Vec<Reason> = run_events(&after(old), &after(new)).into_iter().map(|(reason, _)| reason).collect();
            assert_eq!(reasons, expected, "{old:?} {new:?}");
        }
    }
}
