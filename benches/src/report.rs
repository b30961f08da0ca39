//! Results against their targets.

use std::process::ExitCode;

/// Which side of its target a measurement must be on.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// Prints each result as `NAME: MEASURED (target T) ok|short`.
#[derive(Default)]
pub struct Report {
    short: usize,
}

impl Report {
    pub fn add(&mut self, name: &str, measured: f64, target: Target) {
        let (ok, sign, target) = match target {
            Target::AtLeast(target) => (measured >= target, '≥', target),
            Target::AtMost(target) => (measured <= target, '≤', target),
        };
        println!("{name}: {measured:.2} (target {sign} {target}) {}", if ok { "ok" } else { "short" });
        self.short += usize::from(!ok);
    }

    /// Failure if any result is short of its target.
    pub fn exit_code(&self) -> ExitCode {
        if self.short == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// NaN of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which a share of the values are, by the nearest rank. NaN of nothing.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rank
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}
