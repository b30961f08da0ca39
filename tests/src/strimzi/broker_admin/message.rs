//! The encoding of messages: the older, with lengths of two or four bytes, and the compact one of newer requests.

use anyhow::{Context, Result, bail, ensure};

#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn i8(&mut self, value: i8) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn string(&mut self, text: &str) -> Result<&mut Self> {
        Ok(self.i16(i16::try_from(text.len())?).bytes(text.as_bytes()))
    }

    pub(super) fn nullable(&mut self, text: Option<&str>) -> Result<&mut Self> {
        match text {
            Some(text) => self.string(text),
            None => Ok(self.i16(-1)),
        }
    }

    pub(super) fn length(&mut self, length: usize) -> Result<&mut Self> {
        Ok(self.i32(i32::try_from(length)?))
    }

    /// A length of the compact encoding, which is one more than the length; 0 is null.
    pub(super) fn compact_length(&mut self, length: Option<usize>) -> &mut Self {
        self.varint(length.map_or(0, |length| length + 1))
    }

    pub(super) fn compact(&mut self, bytes: &[u8]) -> &mut Self {
        self.compact_length(Some(bytes.len())).bytes(bytes)
    }

    /// No tagged fields.
    pub(super) fn no_tags(&mut self) -> &mut Self {
        self.i8(0)
    }

    fn varint(&mut self, value: usize) -> &mut Self {
        let [.., low] = value.to_be_bytes();
        if value < 0x80 {
            return self.bytes(&[low]);
        }
        self.bytes(&[low | 0x80]).varint(value >> 7)
    }
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("the answer ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    pub(super) fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(super) fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn length(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.i32()?.max(0))?)
    }

    /// Empty where it is null.
    pub(super) fn string(&mut self) -> Result<String> {
        let length = usize::try_from(self.i16()?.max(0))?;
        Ok(String::from_utf8(self.take(length)?.to_vec())?)
    }

    /// 0 where it is null.
    pub(super) fn compact_length(&mut self) -> Result<usize> {
        Ok(self.varint()?.saturating_sub(1))
    }

    pub(super) fn compact_string(&mut self) -> Result<String> {
        let length = self.compact_length()?;
        Ok(String::from_utf8(self.take(length)?.to_vec())?)
    }

    pub(super) fn tags(&mut self) -> Result<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.take(length)?;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a number that is too long")
    }
}

/// Fails with the broker's error.
pub(super) fn check(what: &str, code: i16, message: &str) -> Result<()> {
    ensure!(code == 0, "{what}: error {code} of Kafka: {message}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        // Given values of both encodings, one of them with a length of two bytes
        let long = "x".repeat(300);
        let mut writer = Writer::default();
        writer.i8(-1).i16(500).i32(70_000).string("topic").unwrap().nullable(None).unwrap();
        writer.compact(long.as_bytes()).compact_length(None).no_tags();

        // When they are read, Then they are the same, null is empty, and nothing is left
        let mut reader = Reader(&writer.0);
        assert_eq!(
            (reader.i8().unwrap(), reader.i16().unwrap(), reader.i32().unwrap()),
            (-1, 500, 70_000)
        );
        assert_eq!(
            (reader.string().unwrap().as_str(), reader.string().unwrap().as_str()),
            ("topic", "")
        );
        assert_eq!((reader.compact_string().unwrap(), reader.compact_length().unwrap()), (long, 0));
        reader.tags().unwrap();
        assert!(reader.0.is_empty());
        assert!(reader.i8().is_err(), "there is nothing more");
    }
}
