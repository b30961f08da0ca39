//! The trace of a run, from the fetch through the topic to the stores, in W3C's Trace Context.
//!
//! The trace of a record is that of the run that landed it. The ids derive from pipeline and run, so a later run that publishes
//! the record uses the same ones.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The header of a message: <https://www.w3.org/TR/trace-context/>.
pub const HEADER: &str = "traceparent";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The span of the run: 16 hexadecimal digits.
    pub span: String,
}

impl Trace {
    pub fn of(pipeline: &str, run: &str) -> Self {
        let hash = Sha256::digest(format!("{pipeline}\n{run}"));
        let hexadecimal = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                // Writing to a String does not fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        Self {
            id: hexadecimal(&hash[..16]),
            span: hexadecimal(&hash[16..24]),
        }
    }

    /// Version 00, sampled.
    pub fn header(&self) -> String {
        format!("00-{}-{}-01", self.id, self.span)
    }

    /// Parses a header. Later versions have the same first fields.
    pub fn read(header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let mut parts = text.split('-');
        let (version, id, span) = (parts.next()?, parts.next()?, parts.next()?);
        let hexadecimal = |text: &str, digits: usize| {
            text.len() == digits
                && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                && text.bytes().any(|b| b != b'0')
        };
        let valid = version.len() == 2 && version != "ff" && hexadecimal(id, 32) && hexadecimal(span, 16);
        valid.then(|| Self {
            id: id.to_owned(),
            span: span.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_its_trace() {
        let trace = Trace::of("demo/users", "scheduled-2026-11-21T00:00:00Z");
        assert_eq!(trace, Trace::of("demo/users", "scheduled-2026-11-21T00:00:00Z"));
        assert_ne!(trace.id, Trace::of("demo/users", "other").id);
        assert_eq!(Trace::read(trace.header().as_bytes()), Some(trace));
    }

    #[test]
    fn an_invalid_header_is_no_trace() {
        let zeros = "0".repeat(32);
        for header in [
            "",
            "00-abc-def-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            &format!("00-{zeros}-b7ad6b7169203331-01"),
        ] {
            assert_eq!(Trace::read(header.as_bytes()), None, "{header}");
        }
        assert!(Trace::read(b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some());
    }
}
