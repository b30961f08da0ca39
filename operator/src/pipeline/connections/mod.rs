//! The connections that pipelines refer to: looked up in the cache, and which pipelines use each.

mod lookup;
mod named;
mod used;
mod uses;

pub use self::{
    lookup::{ConnectionLookup, usable},
    named::NamedConnections,
    uses::ConnectionUses,
};
