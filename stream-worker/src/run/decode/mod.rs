//! From messages to records. A bad message is a fault; a registry that fails is an error, and retried.

mod decoded;
mod decoders;
mod envelope;
mod external;
#[cfg(test)]
mod tests;

pub use self::{decoded::Decoded, decoders::Decoders};
