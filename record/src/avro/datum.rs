//! A datum, read to its last byte.

use std::io::{Error, ErrorKind, Read, Result};

use apache_avro::{reader::datum::GenericDatumReader, types::Value as Avro};

use super::error::AvroError;

/// Decodes a datum, which must end with its value.
pub fn whole(reader: &GenericDatumReader<'_>, datum: &[u8]) -> std::result::Result<Avro, AvroError> {
    let mut rest = Rest(datum);
    let value = reader.read_value(&mut rest).map_err(|e| AvroError::Decode(Box::new(e)))?;
    match rest.0.len() {
        0 => Ok(value),
        left => Err(AvroError::LeftOver(left)),
    }
}

/// The rest of a datum. Reading beyond its end is not an `UnexpectedEof`, which the library would decode as null.
struct Rest<'a>(&'a [u8]);

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
