//! The trace of a run: from the fetch through the topic to the stores, as W3C's Trace Context writes it.
//!
//! A trace is that of the run that landed a record. Its ids follow from pipeline and run, so whoever publishes a record that an
//! interrupted run has left still says the right one, and nothing needs to be kept.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The header of a message that carries its trace: <https://www.w3.org/TR/trace-context/>.
pub const HEADER: &str = "traceparent";

/// The trace of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The run's own span: 16 hexadecimal digits.
    pub span: String,
}

impl Trace {
    /// The trace of a run of a pipeline.
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

    /// As the header carries it: version 00, sampled.
    pub fn header(&self) -> String {
        format!("00-{}-{}-01", self.id, self.span)
    }

    /// Reads a header; none where it is no trace context. One of a later version is read as far as it is known.
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
    fn a_run_has_one_trace_and_another_run_another() {
        let trace = Trace::of("demo/users", "scheduled-2026-11-21T00:00:00Z");
        assert_eq!(trace, Trace::of("demo/users", "scheduled-2026-11-21T00:00:00Z"));
        assert_ne!(trace.id, Trace::of("demo/users", "other").id);
        assert_eq!(Trace::read(trace.header().as_bytes()), Some(trace));
    }

    #[test]
    fn what_is_no_trace_context_is_none() {
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
