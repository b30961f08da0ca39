//! What every program does around its work: logs, the TLS provider, signals, panics, delays between attempts, the termination report.

mod back_off;
mod crypto;
mod logs;
mod panics;
mod signals;
mod termination;

pub use self::{
    back_off::{BackOff, doubled, random_between},
    crypto::install_crypto_provider,
    logs::init_logs,
    panics::{abort_on_panic, contain},
    signals::StopSignals,
    termination::{leave_report, termination_report},
};
