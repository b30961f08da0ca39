//! Bounds of a writer's schema as text.

use super::error::AvroError;

/// Bytes of a schema's text: a record of 1,000 documented fields has about 100 KiB.
pub const MAX_TEXT: usize = 512 << 10;
/// Members and items of all lists and objects in it.
const MAX_NODES: usize = 50_000;
/// Lists and objects within each other.
const MAX_NESTING: usize = 100;

/// Runs before the parser, whose memory and stack grow with the text.
pub fn check_text(text: &str) -> Result<(), AvroError> {
    if text.len() > MAX_TEXT {
        return Err(AvroError::TextTooLarge(format!(
            "{} bytes; at most {MAX_TEXT} are supported",
            text.len()
        )));
    }
    let (mut nodes, mut depth, mut deepest, mut in_text, mut escaped) = (0, 0_usize, 0, false, false);
    for byte in text.bytes() {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => nodes += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if nodes > MAX_NODES {
        return Err(AvroError::TextTooLarge(format!(
            "{nodes} items and members; at most {MAX_NODES} are supported"
        )));
    }
    if deepest > MAX_NESTING {
        return Err(AvroError::TextTooLarge(format!(
            "{deepest} nested arrays and objects; at most {MAX_NESTING} are supported"
        )));
    }
    Ok(())
}
