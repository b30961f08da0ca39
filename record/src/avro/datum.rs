//! A datum, read to its last byte.

use std::io::{Error, ErrorKind, Read, Result};

use apache_avro::{reader::datum::GenericDatumReader, types::Value as Avro};

use super::error::AvroError;

/// The value in a datum, which is all of it.
pub fn whole(reader: &GenericDatumReader<'_>, datum: &[u8]) -> std::result::Result<Avro, AvroError> {
    let mut rest = Rest(datum);
    let value = reader.read_value(&mut rest).map_err(|e| AvroError::Decode(Box::new(e)))?;
    match rest.0.len() {
        0 => Ok(value),
        left => Err(AvroError::LeftOver(left)),
    }
}

/// What is left of a datum. Where there is less of it than is read, that is an error of another kind than the end of a file: the library
/// takes what is missing behind that for null.
struct Rest<'a>(&'a [u8]);

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
