//! The names of what is behind a view.

use crate::postgres::{literal, quote};

/// Values of an aggregate.
const MAX_VALUES: usize = 16;

/// All begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(String);

/// What fires a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl Event {
    pub const ALL: [Self; 4] = [Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }
}

impl Names {
    pub const fn of(base: String) -> Self {
        Self(base)
    }

    pub fn base(&self) -> &str {
        &self.0
    }

    /// Quoted, as all others.
    pub(super) fn totals(&self) -> String {
        quote(&self.0)
    }

    /// The occurrences of a value's values.
    pub(super) fn values(&self, position: usize) -> String {
        quote(&format!("{}_v{position}", self.0))
    }

    /// A trigger and its function.
    pub(super) fn trigger(&self, event: Event) -> String {
        quote(&format!("{}_{}", self.0, event.as_str()))
    }

    /// A query whether the totals are there, and all triggers on the sink table.
    pub fn exist(&self, sink_table: &str) -> String {
        let triggers = Event::ALL.map(|event| literal(&format!("{}_{}", self.0, event.as_str())));
        format!(
            "SELECT to_regclass({}) IS NOT NULL AND (SELECT count(*) FROM pg_trigger \
             WHERE tgrelid = to_regclass({}) AND tgenabled <> 'D' AND tgname IN ({})) = {}",
            literal(&quote(&self.0)),
            literal(&quote(sink_table)),
            triggers.join(", "),
            triggers.len(),
        )
    }

    /// The statements that drop all of it, with the triggers.
    pub fn drop(&self) -> Vec<String> {
        let functions = Event::ALL.map(|event| format!("DROP FUNCTION IF EXISTS {}() CASCADE", self.trigger(event)));
        let values = (0..MAX_VALUES).map(|position| format!("DROP TABLE IF EXISTS {}", self.values(position)));
        let totals = format!("DROP TABLE IF EXISTS {}", self.totals());
        // Earlier versions had one.
        let sequence = format!("DROP SEQUENCE IF EXISTS {}", quote(&format!("{}_revision", self.0)));
        functions.into_iter().chain(values).chain([totals, sequence]).collect()
    }
}
