//! Faults: for one request through its query, or for later requests through the admin API.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::query;

const MAX_ACTIVE_FAULTS: usize = 1_000;

/// A way to fault_response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FaultKind {
    /// An error status.
    Status,
    /// The body of an outage, `{"error":"Uh oh, …"}`.
    Outage,
    /// An empty list of users, which outages of the real API have returned too.
    Empty,
    /// No response.
    Hang,
    /// Half of the body, then the connection closes.
    Truncate,
    /// An HTML page.
    NotJson,
    /// The previous page again.
    Repeat,
}

impl FaultKind {
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

/// The fault of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) status: Option<u16>,
    pub(crate) seconds: Option<u64>,
}

impl Fault {
    fn check(self) -> Result<Self, String> {
        match (self.kind, self.status) {
            (FaultKind::Status, None) => return Err("a fault `status` needs a status".into()),
            (FaultKind::Status, Some(status)) if !(300..600).contains(&status) => {
                return Err(format!("status {status} is not from 300 to 599"));
            }
            (FaultKind::Outage, Some(status)) if !(200..600).contains(&status) => {
                return Err(format!("status {status} is not from 200 to 599"));
            }
            (FaultKind::Status | FaultKind::Outage, _) | (_, None) => {}
            (kind, Some(_)) => return Err(format!("a fault `{}` has no status", kind.as_str())),
        }
        if self.kind != FaultKind::Hang && self.seconds.is_some() {
            return Err(format!("a fault `{}` has no seconds", self.kind.as_str()));
        }
        Ok(self)
    }
}

/// The fault in the query of a request: `fault.status=503`, `fault.outage`, `fault.outage=500`, `fault.hang`, `fault.hang=30`,
/// `fault.empty`, `fault.truncate`, `fault.not-json`, `fault.repeat`. The real API has none of these, so a mistake in one is an error.
pub(crate) fn from_query(pairs: &[(String, String)]) -> Result<Option<Fault>, String> {
    let mut found = None;
    for (key, _) in pairs {
        let Some(name) = key.strip_prefix("fault.") else {
            continue;
        };
        let kind = FaultKind::ALL.into_iter().find(|kind| kind.as_str() == name);
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
        FaultKind::Hang => Fault {
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

/// A fault as a client of the admin API specifies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultSpec {
    kind: FaultKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Duration of `hang`. Default: as long as the server allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    /// Number of requests that receive the fault. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    /// Number of requests that pass first.
    #[serde(default)]
    after: u64,
    /// Only requests with this seed receive the fault. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
}

/// A fault in force, or an exhausted one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ActiveFault {
    #[serde(flatten)]
    spec: FaultSpec,
    /// Requests that passed first.
    passed: u64,
    /// Requests that received the fault.
    hits: u64,
}

impl ActiveFault {
    fn hit(&mut self) -> Option<Fault> {
        if self.passed < self.spec.after {
            self.passed += 1;
            return None;
        }
        if self.spec.times.is_some_and(|times| self.hits >= times) {
            return None;
        }
        self.hits += 1;
        Some(Fault {
            kind: self.spec.kind,
            status: self.spec.status,
            seconds: self.spec.seconds,
        })
    }
}

/// The faults of the admin API: one for all requests, and one per seed, which takes precedence.
#[derive(Debug, Default)]
pub(crate) struct Faults(HashMap<Option<String>, ActiveFault>);

impl Faults {
    /// Replaces the fault of the same seed, or the one without a seed.
    pub(crate) fn put(&mut self, spec: FaultSpec) -> Result<(), String> {
        let fault = Fault {
            kind: spec.kind,
            status: spec.status,
            seconds: spec.seconds,
        };
        fault.check()?;
        if self.0.len() >= MAX_ACTIVE_FAULTS && !self.0.contains_key(&spec.seed) {
            return Err(format!("more than {MAX_ACTIVE_FAULTS} faults; delete some"));
        }
        let active = ActiveFault {
            spec: spec.clone(),
            passed: 0,
            hits: 0,
        };
        self.0.insert(spec.seed, active);
        Ok(())
    }

    /// Removes the fault of a seed, or the one without a seed.
    pub(crate) fn remove(&mut self, seed: Option<&str>) {
        self.0.remove(&seed.map(str::to_owned));
    }

    pub(crate) fn list(&self) -> Vec<ActiveFault> {
        let mut active: Vec<_> = self.0.values().cloned().collect();
        active.sort_by(|a, b| a.spec.seed.cmp(&b.spec.seed));
        active
    }

    /// The fault of the next request, which is counted.
    pub(crate) fn take(&mut self, seed: Option<&str>) -> Option<Fault> {
        let of_seed = seed.and_then(|seed| self.0.get_mut(&Some(seed.to_owned())));
        of_seed
            .and_then(ActiveFault::hit)
            .or_else(|| self.0.get_mut(&None).and_then(ActiveFault::hit))
    }
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
