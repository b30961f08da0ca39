//! What is left of a datum while it is read.

use std::io::{Error, ErrorKind, Read, Result};

/// What is left of a datum. Where there is less of it than is read, that is an error of another kind than the end of a file: the library
/// takes what is missing behind that for null.
pub struct Rest<'a>(pub &'a [u8]);

impl Rest<'_> {
    fn holds(&self, bytes: usize) -> Result<()> {
        if self.0.len() < bytes {
            return Err(Error::new(ErrorKind::InvalidData, "it ends too soon"));
        }
        Ok(())
    }
}

impl Read for Rest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.holds(buffer.len().min(1))?;
        self.0.read(buffer)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.holds(buffer.len())?;
        self.0.read_exact(buffer)
    }
}
