//! From the topic to the sinks, and what must be there before: topic, subject and tables.

pub mod apply_schema;
