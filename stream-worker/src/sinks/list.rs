//! The list of sinks.

use super::{cassandra::Cassandra, postgres::Postgres, sink::Sink};

/// In the order in which they are opened and their figures are recorded.
pub const ALL: [&dyn Sink; 2] = [&Postgres, &Cassandra];
