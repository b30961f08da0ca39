//! Reads some members of a datum and passes over the others, without the library's values: they copy each text and each name.
//!
//! What it does not read is left to the library, which then has the result or the reason. So it may only read what the library reads.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{DecimalSchema, InnerDecimalSchema, Name, UuidSchema},
    types::Value as Avro,
};
use userpipeline_api::FieldType;
use uuid::Uuid;

use super::{
    cursor::Cursor,
    error::{MAX_ALLOCATION, MAX_DECIMAL},
};
use crate::{
    members::{Members, Place},
    scalar::Scalar,
};

/// Types of a writer's schema, where a named one counts at each of its uses.
const MAX_TYPES: usize = 2_000;
/// Items of an array or a map that the library always accepts.
const MAX_ITEMS: usize = MAX_ALLOCATION / size_of::<(String, Avro)>();

/// Named schemas, to which others refer.
pub type Names = HashMap<Name, &'static Schema>;

/// A type of a writer's schema, with the members that are read.
pub struct Shape(Kind);

enum Kind {
    Null,
    Boolean,
    Int,
    Date,
    Long,
    Millis,
    /// A number in another unit: so many of them are what an item has.
    Units(i64),
    Float,
    Double,
    Bytes,
    Text,
    Uuid,
    Enum(Vec<String>),
    Fixed(usize),
    Decimal,
    Array(Box<Kind>),
    Map(Box<Kind>),
    Union(Vec<Kind>),
    Record(Vec<Kind>),
    /// A scalar that is read, and its position.
    Read(usize, Box<Kind>),
}

impl Shape {
    /// None if data of the schema, or what is read of them, are left to the library.
    pub fn new(schema: &Schema, names: &Names, members: &Members) -> Option<Self> {
        let mut compiler = Compiler {
            names,
            members,
            left: MAX_TYPES,
        };
        compiler.kind(schema, None, Some(0)).map(Self)
    }

    /// What is read of a datum, by position; null where there is nothing. None if the library has to read it.
    pub fn read<'a>(&'a self, datum: &'a [u8], members: &Members) -> Option<Vec<Scalar<'a>>> {
        // The library refuses longer values.
        if datum.len() > MAX_ALLOCATION {
            return None;
        }
        let mut cursor = Cursor::new(datum);
        let mut found = vec![Scalar::Null; members.len()];
        self.0.walk(&mut cursor, &mut found)?;
        cursor.is_at_end().then_some(found)
    }

    /// The positions that a record reads, with whether each has values of a field's type, or null.
    pub fn reads<'a>(&'a self, of_type: impl Fn(usize) -> FieldType + 'a) -> Option<impl Iterator<Item = (usize, bool)> + 'a> {
        let Kind::Record(fields) = &self.0 else { return None };
        Some(fields.iter().filter_map(move |field| match field {
            Kind::Read(position, kind) => Some((*position, kind.is_of(of_type(*position)))),
            _ => None,
        }))
    }
}

impl Kind {
    /// Whether all of its values are null or of the type that our own schema has for a field.
    fn is_of(&self, field_type: FieldType) -> bool {
        match self {
            Self::Union(variants) => variants.iter().all(|variant| variant.is_of(field_type)),
            Self::Null => true,
            _ => matches!(
                (self, field_type),
                (Self::Text, FieldType::String | FieldType::Json)
                    | (Self::Boolean, FieldType::Boolean)
                    | (Self::Long, FieldType::Int | FieldType::Long)
                    | (Self::Double, FieldType::Double)
                    | (Self::Date, FieldType::Date)
                    | (Self::Millis, FieldType::Timestamp)
                    | (Self::Uuid, FieldType::Uuid)
                    | (Self::Bytes, FieldType::Bytes)
            ),
        }
    }

    fn is_scalar(&self) -> bool {
        match self {
            Self::Union(variants) => variants.iter().all(Self::is_scalar),
            // A decimal is text that the library's number makes.
            Self::Array(_) | Self::Map(_) | Self::Record(_) | Self::Read(..) | Self::Decimal => false,
            _ => true,
        }
    }

    /// Recursive: a writer's schema has limited depth.
    fn walk<'a>(&'a self, cursor: &mut Cursor<'a>, found: &mut [Scalar<'a>]) -> Option<()> {
        match self {
            Self::Read(position, kind) => {
                found[*position] = kind.scalar(cursor)?;
                Some(())
            }
            Self::Record(fields) => fields.iter().try_for_each(|field| field.walk(cursor, found)),
            Self::Union(variants) => variant(variants, cursor)?.walk(cursor, found),
            Self::Array(items) => blocks(cursor, |cursor| items.walk(cursor, found)),
            Self::Map(values) => blocks(cursor, |cursor| {
                cursor.text()?;
                values.walk(cursor, found)
            }),
            Self::Decimal => (cursor.bytes()?.len() <= MAX_DECIMAL).then_some(()),
            scalar => scalar.scalar(cursor).map(drop),
        }
    }

    fn scalar<'a>(&'a self, cursor: &mut Cursor<'a>) -> Option<Scalar<'a>> {
        Some(match self {
            Self::Null => Scalar::Null,
            Self::Boolean => Scalar::Boolean(cursor.boolean()?),
            Self::Int => Scalar::Number(cursor.int()?.into()),
            Self::Date => Scalar::Date(cursor.int()?),
            Self::Long | Self::Millis => Scalar::Number(cursor.long()?),
            Self::Units(units) => Scalar::Number(cursor.long()?.div_euclid(*units)),
            Self::Float => Scalar::Single(f32::from_le_bytes(cursor.array()?)),
            Self::Double => Scalar::Double(f64::from_le_bytes(cursor.array()?)),
            Self::Bytes => Scalar::Bytes(cursor.bytes()?),
            Self::Text => Scalar::Text(cursor.text()?),
            Self::Uuid => Scalar::Uuid(Uuid::try_parse(cursor.text()?).ok()?),
            Self::Enum(symbols) => Scalar::Text(symbols.get(usize::try_from(cursor.int()?).ok()?)?),
            Self::Fixed(size) => Scalar::Bytes(cursor.take(*size)?),
            Self::Union(variants) => variant(variants, cursor)?.scalar(cursor)?,
            Self::Decimal | Self::Array(_) | Self::Map(_) | Self::Record(_) | Self::Read(..) => return None,
        })
    }
}

fn variant<'a>(variants: &'a [Kind], cursor: &mut Cursor<'_>) -> Option<&'a Kind> {
    variants.get(usize::try_from(cursor.long()?).ok()?)
}

fn blocks<'a>(cursor: &mut Cursor<'a>, mut item: impl FnMut(&mut Cursor<'a>) -> Option<()>) -> Option<()> {
    let mut left = MAX_ITEMS;
    loop {
        let count = cursor.block()?;
        if count == 0 {
            return Some(());
        }
        left = left.checked_sub(count)?;
        for _ in 0..count {
            item(cursor)?;
        }
    }
}

struct Compiler<'a> {
    names: &'a Names,
    members: &'a Members,
    /// Types that it may still have.
    left: usize,
}

impl Compiler<'_> {
    /// `namespace`: around the schema. `object`: of the members, if some of the value's are read.
    fn kind(&mut self, schema: &Schema, namespace: Option<&str>, object: Option<usize>) -> Option<Kind> {
        self.left = self.left.checked_sub(1)?;
        Some(match schema {
            Schema::Null => Kind::Null,
            Schema::Boolean => Kind::Boolean,
            Schema::Int | Schema::TimeMillis => Kind::Int,
            Schema::Date => Kind::Date,
            Schema::Long => Kind::Long,
            Schema::TimestampMillis => Kind::Millis,
            Schema::TimeMicros | Schema::LocalTimestampMillis => Kind::Units(1),
            Schema::TimestampMicros | Schema::LocalTimestampMicros => Kind::Units(1_000),
            Schema::TimestampNanos | Schema::LocalTimestampNanos => Kind::Units(1_000_000),
            Schema::Float => Kind::Float,
            Schema::Double => Kind::Double,
            Schema::Bytes => Kind::Bytes,
            Schema::String => Kind::Text,
            Schema::Uuid(UuidSchema::String) => Kind::Uuid,
            Schema::Enum(schema) => Kind::Enum(schema.symbols.clone()),
            Schema::Fixed(schema) => Kind::Fixed(schema.size),
            Schema::Decimal(DecimalSchema {
                inner: InnerDecimalSchema::Bytes,
                scale,
                ..
            }) if *scale <= MAX_DECIMAL => Kind::Decimal,
            // A pointer may lead into an element.
            Schema::Array(_) | Schema::Map(_) if object.is_some() => return None,
            Schema::Array(schema) => Kind::Array(Box::new(self.kind(&schema.items, namespace, None)?)),
            Schema::Map(schema) => Kind::Map(Box::new(self.kind(&schema.types, namespace, None)?)),
            Schema::Union(schema) => {
                let variants = schema.variants().iter().map(|variant| self.kind(variant, namespace, object));
                Kind::Union(variants.collect::<Option<_>>()?)
            }
            Schema::Record(schema) => {
                let name = schema.name.fully_qualified_name(namespace);
                let fields = schema.fields.iter();
                let fields = fields.map(|field| self.field(&field.name, &field.schema, name.namespace(), object));
                Kind::Record(fields.collect::<Option<_>>()?)
            }
            Schema::Ref { name } => {
                let name = name.fully_qualified_name(namespace);
                let named = *self.names.get(&*name)?;
                self.kind(named, name.namespace(), object)?
            }
            _ => return None,
        })
    }

    fn field(&mut self, name: &str, schema: &Schema, namespace: Option<&str>, object: Option<usize>) -> Option<Kind> {
        match object.and_then(|object| self.members.place(object, name)) {
            None => self.kind(schema, namespace, None),
            Some(Place::Object(object)) => self.kind(schema, namespace, Some(object)),
            Some(Place::Value(position)) => {
                let kind = self.kind(schema, namespace, None)?;
                kind.is_scalar().then(|| Kind::Read(position, Box::new(kind)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
