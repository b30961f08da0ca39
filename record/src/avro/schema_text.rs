//! Bounds of a writer's schema as text.

use super::error::AvroError;

/// Bytes of a schema's text: a record of 1,000 documented fields has about 100 KiB.
const MAX_TEXT: usize = 512 << 10;
/// Members and items of all lists and objects in it.
const MAX_NODES: usize = 50_000;
/// Lists and objects within each other.
const MAX_NESTING: usize = 100;

/// Refuses a text before a parser sees it.
pub fn check_text(text: &str) -> Result<(), AvroError> {
    if text.len() > MAX_TEXT {
        return Err(AvroError::TextTooLarge(format!(
            "{} bytes; at most {MAX_TEXT} are read",
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
            "{nodes} members and items; at most {MAX_NODES} are read"
        )));
    }
    if deepest > MAX_NESTING {
        return Err(AvroError::TextTooLarge(format!(
            "{deepest} lists and objects within each other; at most {MAX_NESTING} are read"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_beyond_a_bound_is_refused_before_it_is_parsed() {
        let deep = format!("{}\"null\"{}", "[".repeat(200), "]".repeat(200));
        let many = format!("[{}\"null\"]", "\"null\",".repeat(50_001));
        let long = format!("{{\"type\": \"null\", \"doc\": \"{}\"}}", "x".repeat(MAX_TEXT));
        for (text, says) in [(deep, "200 lists"), (many, "50001 members"), (long, "bytes; at most 524288")] {
            let error = check_text(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let brackets = json!({"type": "string", "doc": "\\\"[[[".repeat(1000)}).to_string();
        assert!(check_text(&brackets).is_ok());
    }
}
