//! Rows for `COPY … FROM STDIN BINARY`, in large pieces: each piece is a message to the connection and a write to its socket.

use std::{error::Error, pin::Pin};

use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::{
    CopyInSink,
    types::{IsNull, ToSql, Type},
};

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;
const NULL: i32 = -1;
/// Bytes. What a TLS session encrypts at a time.
const PIECE: usize = 64 << 10;

/// Why rows were not copied.
#[derive(Debug)]
pub enum CopyError {
    /// A value is not one of its column.
    Value(Box<dyn Error + Sync + Send>),
    Store(tokio_postgres::Error),
}

/// Writes rows. Without [`CopyRows::finish`], nothing is copied.
pub struct CopyRows {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    piece: BytesMut,
}

impl CopyRows {
    pub fn new(sink: CopyInSink<Bytes>) -> Self {
        let mut piece = BytesMut::with_capacity(PIECE);
        piece.put_slice(HEADER);
        Self {
            sink: Box::pin(sink),
            piece,
        }
    }

    /// Begins a row, with the types of the copied columns.
    pub fn row<'a>(&'a mut self, columns: &'a [Type]) -> Result<Row<'a>, CopyError> {
        Row::begin(&mut self.piece, columns)
    }

    /// Sends the rows before, if there are enough of them.
    pub async fn send_full(&mut self) -> Result<(), CopyError> {
        if self.piece.len() < PIECE {
            return Ok(());
        }
        self.send().await
    }

    /// Sends the last rows.
    pub async fn finish(mut self) -> Result<(), CopyError> {
        self.piece.put_i16(END);
        self.send().await?;
        self.sink.as_mut().finish().await.map(drop).map_err(CopyError::Store)
    }

    async fn send(&mut self) -> Result<(), CopyError> {
        let piece = self.piece.split().freeze();
        self.piece.reserve(PIECE);
        self.sink.as_mut().send(piece).await.map_err(CopyError::Store)
    }
}

/// A row that is being written: the values of all columns, in their order.
pub struct Row<'a> {
    piece: &'a mut BytesMut,
    columns: std::slice::Iter<'a, Type>,
}

impl<'a> Row<'a> {
    fn begin(piece: &'a mut BytesMut, columns: &'a [Type]) -> Result<Self, CopyError> {
        piece.put_i16(i16::try_from(columns.len()).map_err(|e| CopyError::Value(e.into()))?);
        Ok(Self {
            piece,
            columns: columns.iter(),
        })
    }

    /// The value of the next column.
    pub fn put(&mut self, value: &impl ToSql) -> Result<&mut Self, CopyError> {
        let column = self
            .columns
            .next()
            .ok_or_else(|| CopyError::Value("more values than columns".into()))?;
        let start = self.piece.len();
        self.piece.put_i32(NULL);
        if let IsNull::No = value.to_sql_checked(column, self.piece).map_err(CopyError::Value)? {
            let length = self.piece.len() - start - size_of::<i32>();
            let length = i32::try_from(length).map_err(|e| CopyError::Value(e.into()))?;
            self.piece[start..start + size_of::<i32>()].copy_from_slice(&length.to_be_bytes());
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use userpipeline_record::Value;

    use super::*;
    use crate::postgres::PgParam;

    #[test]
    fn each_value_of_a_row_follows_its_length() {
        let mut piece = BytesMut::new();
        let mut row = Row::begin(&mut piece, &[Type::TEXT, Type::TEXT, Type::BOOL]).unwrap();
        for value in [Value::String("Zo\u{eb}".into()), Value::Null, Value::Boolean(true)] {
            row.put(&PgParam(&value)).unwrap();
        }
        assert!(matches!(row.put(&true), Err(CopyError::Value(_))), "one value too many");
        assert_eq!(piece, b"\0\x03\0\0\0\x04Zo\xc3\xab\xff\xff\xff\xff\0\0\0\x01\x01"[..]);
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let mut piece = BytesMut::new();
        let mut row = Row::begin(&mut piece, &[Type::INT4]).unwrap();
        assert!(matches!(row.put(&PgParam(&Value::Long(1))), Err(CopyError::Value(_))));
    }
}
