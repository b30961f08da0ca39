//! What runs once: the Jobs of the operator, and the commands for people.

pub mod apply_schema;
mod bookkeeping;
pub mod check_connection;
pub mod dead_letters;
pub mod delete_data;
pub mod inspect_topics;
mod runner;
pub mod verify_drained;

pub use self::runner::TaskFiles;
