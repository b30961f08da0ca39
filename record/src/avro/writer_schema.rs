//! Writer's schemas, refused if a few bytes of data could decode to many values or to great depth.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{DecimalSchema, InnerDecimalSchema, Name, ResolvedSchema},
};

use super::{
    error::{AvroError, MAX_ALLOCATION},
    schema_text::check_text,
};

/// Values that a byte may decode to. A byte of an optional value decodes to two.
const VALUES_PER_BYTE: i64 = 8;
/// Further values that a datum may decode to.
const MAX_EXCESS: i64 = 10_000;
/// Nesting of types. Their data are decoded on the stack.
const MAX_DEPTH: usize = 128;
/// A field's name or an enum's symbol is part of each decoded value: this many of its bytes count as a value.
const NAME: usize = 64;

/// Parses a schema, unless its data may take much more memory or stack than their bytes.
pub fn parse(text: &str) -> Result<&'static Schema, AvroError> {
    check_text(text)?;
    let wrong = |e| AvroError::WriterSchema(Box::new(e));
    let schema = Schema::parse_str(text).map_err(wrong)?;
    // Verifies that each name is defined, before or around its use.
    ResolvedSchema::new(&schema).map_err(wrong)?;
    let cost = cost(&schema, None, &mut HashMap::new())?;
    if cost.peak > MAX_EXCESS {
        return Err(AvroError::TooMuch(format!("more than {MAX_EXCESS} values that take no bytes")));
    }
    if cost.depth > MAX_DEPTH {
        return Err(AvroError::TooMuch(format!("more than {MAX_DEPTH} nested types")));
    }
    // A reader borrows its schema. Leaked: there is one per version of the subject, in use until the process ends.
    Ok(Box::leak(Box::new(schema)))
}

/// The named schemas within one.
pub fn names(schema: &'static Schema) -> Result<HashMap<Name, &'static Schema>, AvroError> {
    let resolved = ResolvedSchema::new(schema).map_err(|e| AvroError::WriterSchema(Box::new(e)))?;
    Ok(resolved.get_names().iter().map(|(name, schema)| (name.clone(), *schema)).collect())
}

/// The worst case of a datum.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Decoded values beyond those that its bytes account for.
    excess: i64,
    /// The maximum of the excess during decoding: later bytes may be missing, so they do not count.
    peak: i64,
    /// Nesting of types.
    depth: usize,
}

impl Cost {
    /// A value of at least `bytes` bytes that counts as `values` values.
    fn value(bytes: usize, values: usize) -> Self {
        let count = |of: usize| i64::try_from(of).unwrap_or(i64::MAX);
        let excess = count(values).saturating_sub(count(bytes).saturating_mul(VALUES_PER_BYTE));
        Self {
            excess,
            peak: excess.max(0),
            depth: 1,
        }
    }

    /// One after the other.
    fn then(self, next: Self) -> Self {
        Self {
            excess: self.excess.saturating_add(next.excess),
            peak: self.peak.max(self.excess.saturating_add(next.peak)),
            depth: self.depth.max(next.depth),
        }
    }

    /// One or the other.
    fn or(self, other: Self) -> Self {
        Self {
            excess: self.excess.max(other.excess),
            peak: self.peak.max(other.peak),
            depth: self.depth.max(other.depth),
        }
    }

    /// Nested in another type.
    const fn within(self) -> Self {
        Self {
            depth: self.depth.saturating_add(1),
            ..self
        }
    }

    /// Any number of times.
    fn repeated(self) -> Result<Self, AvroError> {
        if self.excess > 0 {
            return Err(AvroError::TooMuch(format!(
                "an array or a map of values that take less than a byte for {VALUES_PER_BYTE} values, such as null"
            )));
        }
        Ok(Self { excess: 0, ..self })
    }
}

/// The cost of a datum. `named` has the types that are defined before this one, and without a cost those around it.
fn cost(schema: &Schema, namespace: Option<&str>, named: &mut HashMap<Name, Option<Cost>>) -> Result<Cost, AvroError> {
    let name = schema.name().map(|name| name.fully_qualified_name(namespace).into_owned());
    if let (Schema::Ref { .. }, Some(name)) = (schema, &name) {
        let found = named.get(name).copied().flatten();
        return found.ok_or_else(|| AvroError::Recursive(name.to_string()));
    }
    named.extend(name.clone().map(|name| (name, None)));
    let found = match schema {
        Schema::Null => Cost::value(0, 1),
        Schema::Array(array) => Cost::value(1, 1).then(cost(&array.items, namespace, named)?.repeated()?.within()),
        Schema::Map(map) => {
            // The key is a value too.
            let entry = Cost::value(1, 1).then(cost(&map.types, namespace, named)?);
            Cost::value(1, 1).then(entry.repeated()?.within())
        }
        Schema::Union(union) => {
            let mut any = Cost::default();
            for (n, variant) in union.variants().iter().enumerate() {
                let variant = cost(variant, namespace, named)?;
                any = if n == 0 { variant } else { any.or(variant) };
            }
            Cost::value(1, 1).then(any.within())
        }
        Schema::Record(record) => {
            let mut all = Cost::value(0, 1);
            for field in &record.fields {
                let value = cost(&field.schema, name.as_ref().and_then(Name::namespace), named)?;
                all = all.then(Cost::value(0, field.name.len() / NAME)).then(value.within());
            }
            all
        }
        Schema::Enum(symbols) => Cost::value(1, 1 + symbols.symbols.iter().map(String::len).max().unwrap_or(0) / NAME),
        Schema::Fixed(fixed)
        | Schema::Decimal(DecimalSchema {
            inner: InnerDecimalSchema::Fixed(fixed),
            ..
        }) => sized(fixed.size)?,
        _ => Cost::value(1, 1),
    };
    named.extend(name.map(|name| (name, Some(found))));
    Ok(found)
}

/// The decoder allocates the memory of a fixed type before it reads the value.
fn sized(bytes: usize) -> Result<Cost, AvroError> {
    if bytes > MAX_ALLOCATION {
        return Err(AvroError::TooMuch(format!("a fixed type of {bytes} bytes")));
    }
    Ok(Cost::value(bytes, 1))
}

#[cfg(test)]
mod tests;
