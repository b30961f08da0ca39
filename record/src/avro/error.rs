//! Why a datum is refused.

/// No length inside a message makes us allocate more than this: garbage may claim any.
pub const MAX_ALLOCATION: usize = 16 << 20;

/// Why a datum is no record, or a record no datum.
#[derive(Debug, thiserror::Error)]
pub enum AvroError {
    /// The writer's schema does not parse.
    #[error("the writer's schema does not parse: {0}")]
    WriterSchema(#[source] Box<apache_avro::Error>),
    /// A type of the writer's schema holds itself: its data may be as deep as they are long, and are decoded on the stack.
    #[error("the writer's schema is recursive, which is not supported: `{0}` holds itself")]
    Recursive(String),
    /// By the writer's schema a few bytes could stand for any number of values, or for any depth.
    #[error("the writer's schema is not supported, for a few bytes could stand for much: it has {0}")]
    TooMuch(String),
    /// The writer's schema is larger than any that is read.
    #[error("the writer's schema is too large: it has {0}")]
    TextTooLarge(String),
    /// The bytes are not of the writer's schema, or that does not resolve to ours.
    #[error("the datum does not decode: {0}")]
    Decode(#[source] Box<apache_avro::Error>),
    /// Bytes are left over behind the datum.
    #[error("{0} bytes are left over behind the datum")]
    LeftOver(usize),
    /// A value that the schema does not promise.
    #[error("field `{field}` holds {found}")]
    Field {
        /// The field.
        field: String,
        /// What it holds.
        found: String,
    },
    /// The record does not fit the schema.
    #[error("the record does not encode: {0}")]
    Encode(#[source] Box<apache_avro::Error>),
}
