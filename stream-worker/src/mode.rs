//! Whether a task applies changes or only lists them.

use std::sync::{Mutex, PoisonError};

pub enum Mode {
    Apply,
    /// Changes nothing; the changes that would be made are collected here.
    DryRun(Mutex<Vec<String>>),
}

impl Mode {
    pub const fn dry_run() -> Self {
        Self::DryRun(Mutex::new(Vec::new()))
    }

    /// Whether to make a change. In a dry run, its description is recorded instead.
    pub fn applies(&self, change: impl FnOnce() -> String) -> bool {
        match self {
            Self::Apply => true,
            Self::DryRun(changes) => {
                changes.lock().unwrap_or_else(PoisonError::into_inner).push(change());
                false
            }
        }
    }

    pub const fn is_dry_run(&self) -> bool {
        matches!(self, Self::DryRun(_))
    }

    /// The changes of a dry run.
    pub fn changes(&self) -> Vec<String> {
        match self {
            Self::Apply => Vec::new(),
            Self::DryRun(changes) => changes.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
