//! Texts: within a limit, and their digests.

use sha2::{Digest, Sha256};

/// SHA-256 of a text in 64 hexadecimal digits: nobody finds another text with the same one.
pub fn digest(text: &str) -> String {
    format!("{:x}", Sha256::digest(text.as_bytes()))
}

/// At most `limit` bytes of a text, followed by an ellipsis (three bytes) if it is cut.
pub fn truncate(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, limit, expected) in [
            ("", 0, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "abc…"),
            ("日本", 6, "日本"),
            ("日本", 5, "日…"),
            ("日本", 2, "…"),
        ] {
            assert_eq!(truncate(text, limit), expected, "{text} {limit}");
        }
    }
}
