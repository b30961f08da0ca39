//! What a large document has outside its arrays, without the memory that the whole document would take.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value as Json};

use crate::Reads;

/// Objects within each other that an outline enters.
const MAX_DEPTH: usize = 4;
const MAX_ENTRIES: usize = 200;
/// An outline enters an array that is the whole document if it has at most so many elements: `[meta, rows]`.
const MAX_ELEMENTS: usize = 4;

/// The members of a document that are not within arrays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    /// JSON pointers and values, in the order of the document.
    pub entries: Vec<(String, OutlineValue)>,
}

/// A value of an outline.
#[derive(Clone, Debug, PartialEq)]
pub enum OutlineValue {
    /// Null, a boolean, a number or a text.
    Scalar(Json),
    /// The number of elements.
    Array(usize),
    Object,
}

impl Outline {
    /// The outline of a document; an empty one if it is not JSON.
    pub fn of(document: &[u8]) -> Self {
        let mut outline = Self::default();
        let mut reader = serde_json::Deserializer::from_slice(document);
        let enter = Enter {
            outline: &mut outline,
            pointer: String::new(),
            depth: 0,
        };
        match enter.deserialize(&mut reader) {
            Ok(()) => outline,
            Err(_) => Self::default(),
        }
    }

    /// Its arrays: pointers and numbers of elements.
    pub fn arrays(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries.iter().filter_map(|(pointer, value)| match value {
            OutlineValue::Array(size) => Some((pointer.as_str(), *size)),
            _ => None,
        })
    }

    /// Its values that are neither arrays nor objects.
    pub fn scalars(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.entries.iter().filter_map(|(pointer, value)| match value {
            OutlineValue::Scalar(json) => Some((pointer.as_str(), json)),
            _ => None,
        })
    }
}

/// The parts of a document that an expression reads; what it does not read is absent, or null within arrays.
pub fn parts(document: &[u8], reads: &Reads) -> Result<Json, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(document);
    let json = Select(reads).deserialize(&mut reader)?;
    reader.end()?;
    Ok(json)
}

/// The visitor's methods for scalars.
macro_rules! scalars {
    ($self:ident, $json:ident => $value:expr) => {
        fn visit_bool<E>($self, truth: bool) -> Result<Self::Value, E> {
            let $json = Json::Bool(truth);
            Ok($value)
        }
        fn visit_i64<E>($self, number: i64) -> Result<Self::Value, E> {
            let $json = Json::from(number);
            Ok($value)
        }
        fn visit_u64<E>($self, number: u64) -> Result<Self::Value, E> {
            let $json = Json::from(number);
            Ok($value)
        }
        fn visit_f64<E>($self, number: f64) -> Result<Self::Value, E> {
            let $json = Number::from_f64(number).map_or(Json::Null, Json::Number);
            Ok($value)
        }
        fn visit_str<E>($self, text: &str) -> Result<Self::Value, E> {
            let $json = Json::from(text);
            Ok($value)
        }
        fn visit_unit<E>($self) -> Result<Self::Value, E> {
            let $json = Json::Null;
            Ok($value)
        }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
    };
}

struct Select<'a>(&'a Reads);

impl<'de> DeserializeSeed<'de> for Select<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Json, D::Error> {
        match self.0 {
            Reads::Nothing => IgnoredAny::deserialize(json).map(|_| Json::Null),
            Reads::Whole => Json::deserialize(json),
            Reads::Size | Reads::Parts(_) => json.deserialize_any(self),
        }
    }
}

impl<'a> Select<'a> {
    fn part(&self, name: &str) -> &'a Reads {
        match self.0 {
            Reads::Parts(parts) => parts.get(name).unwrap_or(&Reads::Nothing),
            _ => &Reads::Nothing,
        }
    }
}

/// Borrowed, unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Select<'_> {
    type Value = Json;

    scalars!(self, json => json);

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(Select(self.part(&array.len().to_string())))? {
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Map::new();
        while let Some(Name(name)) = members.next_key()? {
            let reads = self.part(&name);
            let json = members.next_value_seed(Select(reads))?;
            if *reads != Reads::Nothing || *self.0 == Reads::Size {
                object.insert(name.into_owned(), json);
            }
        }
        Ok(Json::Object(object))
    }
}

struct Enter<'a> {
    outline: &'a mut Outline,
    pointer: String,
    depth: usize,
}

impl Enter<'_> {
    fn child<'b>(&'b mut self, name: &str) -> Enter<'b> {
        Enter {
            pointer: format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1")),
            depth: self.depth + 1,
            outline: self.outline,
        }
    }

    fn add(&mut self, value: OutlineValue) {
        if self.outline.entries.len() < MAX_ENTRIES {
            self.outline.entries.push((self.pointer.clone(), value));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Enter<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.depth > MAX_DEPTH {
            return IgnoredAny::deserialize(json).map(drop);
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Enter<'_> {
    type Value = ();

    scalars!(self, json => { let mut this = self; this.add(OutlineValue::Scalar(json)) });

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let at = self.outline.entries.len();
        self.add(OutlineValue::Array(0));
        let mut size = 0;
        loop {
            let more = if self.depth == 0 && size < MAX_ELEMENTS {
                elements.next_element_seed(self.child(&size.to_string()))?.is_some()
            } else {
                elements.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
            size += 1;
        }
        if size > MAX_ELEMENTS {
            self.outline.entries.truncate(at + 1);
        }
        if let Some((_, value)) = self.outline.entries.get_mut(at) {
            *value = OutlineValue::Array(size);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.add(OutlineValue::Object);
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(self.child(&name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Expression;

    #[test]
    fn an_outline_has_what_is_not_within_arrays() {
        let document = json!({"a/b": {"next": null, "deep": {"total": 3}}, "data": [{"x": 1}, 2], "more": true}).to_string();
        let outline = Outline::of(document.as_bytes());
        assert_eq!(outline.arrays().collect::<Vec<_>>(), [("/data", 2)]);
        assert_eq!(
            outline.scalars().collect::<Vec<_>>(),
            [
                ("/a~1b/next", &json!(null)),
                ("/a~1b/deep/total", &json!(3)),
                ("/more", &json!(true))
            ]
        );
        let pair = Outline::of(br#"[{"pages": 2}, [1, 2, 3]]"#);
        assert_eq!(pair.arrays().collect::<Vec<_>>(), [("", 2), ("/1", 3)]);
        let rows = Outline::of(br#"[{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}, {"a": 5}]"#);
        assert_eq!(rows.entries, [(String::new(), OutlineValue::Array(5))]);
        assert_eq!(Outline::of(b"{\"a\": [1"), Outline::default());
    }

    #[test]
    fn an_expression_over_the_parts_has_the_value_that_it_has_over_the_whole() {
        let document = json!({"data": {"items": [{"id": 1}, {"id": 2}], "more": false}, "meta": [{"pages": 3}, null], "total": 1.5});
        for text in [
            "answer.data.more",
            "answer.meta[0].pages",
            "size(answer.data.items)",
            "size(answer.data)",
            "answer.data.items[1].id",
            "has(answer.data.none)",
            "has(answer.data.more)",
            "answer.data.none",
            "answer.total.none",
            "answer.meta[7]",
            "size(answer)",
            "answer.meta[1] == null",
            "answer",
            "1",
        ] {
            let expression = Expression::compile_over(&["answer"], text).unwrap();
            let part = parts(document.to_string().as_bytes(), &expression.reads("answer")).unwrap();
            assert_eq!(expression.evaluate_over(&[&part]), expression.evaluate_over(&[&document]), "{text}");
        }
    }
}
