//! One run of a pipeline: HTTP API to PostgreSQL's landing table to Kafka.
//!
//! [`run::execute`] is the whole of it; the program around it reads arguments and leaves the report where Kubernetes
//! looks for it.

pub mod cursor;
pub mod fetch;
pub mod land;
pub mod ledger;
pub mod outcome;
pub mod page;
pub mod publish;
pub mod report;
pub mod run;
pub mod run_id;
