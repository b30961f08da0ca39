//! Dead letters: the message as it came, and in headers its origin and what is wrong with it.

mod letter;
pub mod print;
mod producer;
mod read;
mod redrive;
mod select;
mod writer;

pub use self::{
    letter::Letter,
    read::DeadLetterTopic,
    redrive::Redrive,
    select::{Distinct, Selection},
    writer::DeadLetters,
};
