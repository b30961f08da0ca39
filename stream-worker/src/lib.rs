//! From the topic to the sinks, and what must be there before: topic, subject and tables.

pub mod apply_schema;
pub mod batch;
pub mod bookkeeping;
pub mod breaker;
pub mod claims;
pub mod consume;
pub mod dead_letters;
pub mod decode;
pub mod delete_data;
pub mod http;
pub mod lag;
pub mod message;
pub mod metrics;
pub mod ownership;
pub mod report;
pub mod retention;
pub mod retry;
pub mod shared;
pub mod supervise;
pub mod verify_drained;
pub mod write;
