#![allow(missing_docs)]
#![warn(clippy::too_many_lines)]

//! What every program does around its work: logs, the TLS provider, signals, panics, the termination report.

mod crypto;
mod logs;
mod panics;
mod signals;
mod termination;

pub use self::{
    crypto::install_crypto_provider,
    logs::init_logs,
    panics::{abort_on_panic, contain},
    signals::StopSignals,
    termination::{leave_report, termination_report},
};
