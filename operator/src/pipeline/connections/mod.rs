//! The connections that pipelines refer to: looked up in the cache, and which pipelines use each.

mod listener;
mod lookup;
mod named;
mod used;
mod uses;

pub use self::{
    listener::{AUTHORITIES_KEY, with_listener},
    lookup::{ConnectionLookup, usable, valid_spec},
    named::NamedConnections,
    uses::ConnectionUses,
};
