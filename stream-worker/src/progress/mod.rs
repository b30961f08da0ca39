//! The fenced progress rows, and the PostgreSQL transaction that a batch shares with them.

mod connection;
mod leases;
mod table;
mod totals;

pub use self::{
    connection::{BatchTransaction, ProgressConnection},
    leases::PartitionLeases,
    table::{Advance, ProgressTable, TakenOver},
    totals::totals,
};
