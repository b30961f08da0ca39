//! Doing, or only saying what would be done.

use std::sync::{Mutex, PoisonError};

/// Whether anything is changed.
pub enum Hand {
    /// It is.
    Does,
    /// It is not; what would be is gathered here.
    Says(Mutex<Vec<String>>),
}

impl Hand {
    /// One that only says.
    pub const fn saying() -> Self {
        Self::Says(Mutex::new(Vec::new()))
    }

    /// Whether it changes anything. If not, it takes down `what`.
    pub fn does(&self, what: impl FnOnce() -> String) -> bool {
        match self {
            Self::Does => true,
            Self::Says(said) => {
                said.lock().unwrap_or_else(PoisonError::into_inner).push(what());
                false
            }
        }
    }

    /// Whether it only says.
    pub const fn only_says(&self) -> bool {
        matches!(self, Self::Says(_))
    }

    /// What it has said.
    pub fn said(&self) -> Vec<String> {
        match self {
            Self::Does => Vec::new(),
            Self::Says(said) => said.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
