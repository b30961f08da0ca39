//! The way of a record through a worker: consume, decode, batch, write. Around it, the session and what runs beside it.

pub mod arbitration;
pub mod batch;
pub mod consume;
pub mod decode;
mod mirror;
mod retention;
mod session;
mod supervisor;
mod watch;
pub mod write;

pub use self::supervisor::run;
