//! The rest of a datum while it is read.

use std::io::{Error, ErrorKind, Read, Result};

/// The rest of a datum. Reading beyond its end is not an `UnexpectedEof`, which the library would decode as null.
pub struct Rest<'a>(pub &'a [u8]);

impl Rest<'_> {
    fn check(&self, bytes: usize) -> Result<()> {
        if self.0.len() < bytes {
            return Err(Error::new(ErrorKind::InvalidData, "it ends too early"));
        }
        Ok(())
    }
}

impl Read for Rest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.check(buffer.len().min(1))?;
        self.0.read(buffer)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.check(buffer.len())?;
        self.0.read_exact(buffer)
    }
}
