//! Messages: Confluent's wire format (a zero byte, the schema's id in four bytes, big-endian, the Avro datum), and headers.

/// The header with the record's version, in decimal.
pub const VERSION_HEADER: &str = "version";
/// The header with the time of landing, in milliseconds since 1970, in decimal.
pub const FETCHED_HEADER: &str = "fetched";
/// Length in bytes.
pub const FRAME: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the message has no value")]
    Empty,
    #[error("the message has {0} bytes, too few for the five of the schema registry's frame")]
    Short(usize),
    #[error("the message starts with the byte {0:#04x}, not with the 0x00 of the schema registry's frame")]
    Magic(u8),
}

/// The schema's id and the Avro datum.
pub fn split(payload: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    match payload {
        [] => Err(FrameError::Empty),
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [0, ..] => Err(FrameError::Short(payload.len())),
        [magic, ..] => Err(FrameError::Magic(*magic)),
    }
}

/// The frame of a schema's id, which the datum follows.
pub fn frame(schema_id: u32) -> [u8; FRAME] {
    let [a, b, c, d] = schema_id.to_be_bytes();
    [0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framed_message_is_split() {
        let mut message = frame(0x0102_0304).to_vec();
        message.extend(b"datum");
        assert_eq!(split(&message), Ok((0x0102_0304, b"datum".as_slice())));
    }

    #[test]
    fn an_invalid_frame_is_an_error() {
        assert_eq!(split(b""), Err(FrameError::Empty));
        assert_eq!(split(&[0, 1]), Err(FrameError::Short(2)));
        assert_eq!(split(b"{\"json\":1}"), Err(FrameError::Magic(b'{')));
    }
}
