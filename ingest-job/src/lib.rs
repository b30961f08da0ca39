//! One run of a pipeline: HTTP API to landing table to topic.
//!
//! [`run::execute`] performs a run and returns its report.

pub mod attempt;
pub mod cli;
pub mod cursor;
pub mod fetch;
pub mod land;
pub mod ledger;
pub mod outcome;
pub mod page;
pub mod pending;
pub mod publish;
pub mod raw_item;
pub mod report;
pub mod run;
pub mod run_id;
