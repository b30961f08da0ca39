//! The fenced progress rows, and the PostgreSQL transaction that a batch shares with them.

mod connection;
mod owner_tokens;
mod table;
mod totals;

pub use self::{
    connection::{BatchTransaction, ProgressConnection},
    owner_tokens::OwnerTokens,
    table::{Advance, ProgressTable, TakenOver},
    totals::totals,
};
