//! Why a datum is refused.

/// Bytes. A corrupt message may contain any length, so allocations are limited.
pub const MAX_ALLOCATION: usize = 16 << 20;
/// Bytes, and decimal places, of a decimal. The time to write it grows with the square.
pub const MAX_DECIMAL: usize = 512;

#[derive(Debug, thiserror::Error)]
pub enum AvroError {
    #[error("the writer's schema does not parse: {0}")]
    WriterSchema(#[source] Box<apache_avro::Error>),
    /// Recursive data is decoded on the stack, to any depth.
    #[error("the writer's schema is recursive, which is not supported: `{0}` contains itself")]
    Recursive(String),
    #[error("the writer's schema is not supported, because a few bytes could decode to many values: it has {0}")]
    TooMuch(String),
    #[error("the writer's schema is too large: it has {0}")]
    TextTooLarge(String),
    /// The bytes do not match the writer's schema, or it does not resolve to the pipeline's.
    #[error("the datum does not decode: {0}")]
    Decode(#[source] Box<apache_avro::Error>),
    #[error("{0} bytes follow the datum")]
    LeftOver(usize),
    #[error("field `{field}` has {found}")]
    Field { field: String, found: String },
    #[error("the record does not encode: {0}")]
    Encode(#[source] Box<apache_avro::Error>),
}
