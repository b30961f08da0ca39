//! Misbehaviour on request: of one request through its query, or of all through the admin API.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::query;

/// How many seeds may have a fault of their own at a time.
const MAX_STANDING: usize = 1_000;

/// A way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// An error status.
    Status,
    /// The body of an outage, `{"error":"Uh oh, …"}`.
    Outage,
    /// No users at all: the other body that outages have shown.
    Empty,
    /// No answer.
    Hang,
    /// Half of the body, then the connection is cut.
    Truncate,
    /// A page in HTML.
    NotJson,
    /// The page served before, again.
    Repeat,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Status,
        Self::Outage,
        Self::Empty,
        Self::Hang,
        Self::Truncate,
        Self::NotJson,
        Self::Repeat,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Outage => "outage",
            Self::Empty => "empty",
            Self::Hang => "hang",
            Self::Truncate => "truncate",
            Self::NotJson => "not-json",
            Self::Repeat => "repeat",
        }
    }
}

/// What one request is to suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) status: Option<u16>,
    pub(crate) seconds: Option<u64>,
}

impl Fault {
    fn check(self) -> Result<Self, String> {
        match (self.kind, self.status) {
            (Kind::Status, None) => return Err("a fault `status` needs a status".into()),
            (Kind::Status, Some(status)) if !(300..600).contains(&status) => {
                return Err(format!("status {status} is not from 300 to 599"));
            }
            (Kind::Outage, Some(status)) if !(200..600).contains(&status) => {
                return Err(format!("status {status} is not from 200 to 599"));
            }
            (Kind::Status | Kind::Outage, _) | (_, None) => {}
            (kind, Some(_)) => return Err(format!("a fault `{}` has no status", kind.as_str())),
        }
        if self.kind != Kind::Hang && self.seconds.is_some() {
            return Err(format!("a fault `{}` has no seconds", self.kind.as_str()));
        }
        Ok(self)
    }
}

/// The fault in the query of a request: `fault.status=503`, `fault.outage`, `fault.outage=500`, `fault.hang`, `fault.hang=30`,
/// `fault.empty`, `fault.truncate`, `fault.not-json`, `fault.repeat`. These are ours, so a mistake in them is an error.
pub(crate) fn from_query(pairs: &[(String, String)]) -> Result<Option<Fault>, String> {
    let mut found = None;
    for (key, _) in pairs {
        let Some(name) = key.strip_prefix("fault.") else {
            continue;
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
        let kind = kind.ok_or_else(|| format!("`{key}` is not a fault"))?;
        if found.is_some_and(|found| found != kind) {
            return Err("one fault at a time".into());
        }
        found = Some(kind);
    }
    let Some(kind) = found else { return Ok(None) };
    let value = query::value(pairs, &format!("fault.{}", kind.as_str())).unwrap_or_default();
    let number = match value {
        "" | "true" => None,
        digits => Some(digits.parse().map_err(|_| format!("`{digits}` is not a number"))?),
    };
    let status = |number| u16::try_from(number).map_err(|_| format!("{number} is not a status"));
    let fault = match kind {
        Kind::Hang => Fault {
            kind,
            status: None,
            seconds: number,
        },
        _ => Fault {
            kind,
            status: number.map(status).transpose()?,
            seconds: None,
        },
    };
    fault.check().map(Some)
}

/// A fault as the admin API takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// How long a hang hangs; else as long as the server allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    /// Only so many requests; else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    /// So many requests pass first.
    #[serde(default)]
    after: u64,
    /// Only requests with this seed; else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
}

/// A fault in force, or one that has had its times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    #[serde(flatten)]
    order: Order,
    /// Requests that passed before it began.
    passed: u64,
    /// Requests it has hit.
    hits: u64,
}

impl Standing {
    fn hit(&mut self) -> Option<Fault> {
        if self.passed < self.order.after {
            self.passed += 1;
            return None;
        }
        if self.order.times.is_some_and(|times| self.hits >= times) {
            return None;
        }
        self.hits += 1;
        Some(Fault {
            kind: self.order.kind,
            status: self.order.status,
            seconds: self.order.seconds,
        })
    }
}

/// The faults of the admin API: one for all requests, and one per seed which goes before it.
#[derive(Debug, Default)]
pub(crate) struct Faults(HashMap<Option<String>, Standing>);

impl Faults {
    /// Puts a fault in the place of the one with the same seed, or of the one without.
    pub(crate) fn put(&mut self, order: Order) -> Result<(), String> {
        let fault = Fault {
            kind: order.kind,
            status: order.status,
            seconds: order.seconds,
        };
        fault.check()?;
        if self.0.len() >= MAX_STANDING && !self.0.contains_key(&order.seed) {
            return Err(format!("more than {MAX_STANDING} faults; delete some"));
        }
        let standing = Standing {
            order: order.clone(),
            passed: 0,
            hits: 0,
        };
        self.0.insert(order.seed, standing);
        Ok(())
    }

    /// Ends the fault of a seed, or the one without.
    pub(crate) fn remove(&mut self, seed: Option<&str>) {
        self.0.remove(&seed.map(str::to_owned));
    }

    pub(crate) fn list(&self) -> Vec<Standing> {
        let mut standing: Vec<_> = self.0.values().cloned().collect();
        standing.sort_by(|a, b| a.order.seed.cmp(&b.order.seed));
        standing
    }

    /// The fault that hits the next request, counted.
    pub(crate) fn take(&mut self, seed: Option<&str>) -> Option<Fault> {
        let own = seed.and_then(|seed| self.0.get_mut(&Some(seed.to_owned())));
        own.and_then(Standing::hit)
            .or_else(|| self.0.get_mut(&None).and_then(Standing::hit))
    }
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
