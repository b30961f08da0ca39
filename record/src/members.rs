//! The members of an item that a record is made of, found in one pass over its text.

use std::mem;

use crate::{Origin, RecordSchema, pointer::tokens, scan::Scanner};

/// More objects than that are left to a parser.
const MAX_OBJECTS: usize = 64;
/// Names of a pointer. With what a scanner reads below them, it is less deep than a parser accepts.
const MAX_NAMES: usize = 20;

/// The members of an item that a record is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    /// The first one is the item.
    objects: Vec<Names>,
    pointers: Vec<String>,
    /// Of the record.
    fields: Vec<Source>,
}

/// What a field is made of: positions of values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Value(usize),
    /// Values with what is before each, and what is after the last one.
    Template(Vec<(String, usize)>, String),
}

type Names = Vec<(String, Place)>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// The position of the value.
    Value(usize),
    /// The position of the object.
    Object(usize),
}

/// The texts of the members of an item, empty where there is none.
pub(crate) type Texts<'a> = Vec<&'a str>;

impl Members {
    /// None if a record needs something else: the item as a whole, or expressions.
    pub fn of(schema: &RecordSchema) -> Option<Self> {
        let mut members = Self {
            objects: vec![Names::new()],
            pointers: Vec::new(),
            fields: Vec::new(),
        };
        if schema.delete_when.is_some() {
            return None;
        }
        for field in &schema.fields {
            let source = match &field.from {
                Origin::Pointer(pointer) => Source::Value(members.add(pointer)?),
                Origin::Template(template) => members.add_template(template)?,
                Origin::Expression(_) => return None,
            };
            members.fields.push(source);
        }
        Some(members)
    }

    /// The members with the names of the fields, in their order.
    pub(crate) fn of_fields(schema: &RecordSchema) -> Self {
        let names = schema.fields.iter().enumerate();
        Self {
            objects: vec![
                names
                    .map(|(position, field)| (field.name.clone(), Place::Value(position)))
                    .collect(),
            ],
            pointers: schema.fields.iter().map(|field| format!("/{}", field.name)).collect(),
            fields: (0..schema.fields.len()).map(Source::Value).collect(),
        }
    }

    pub(crate) fn fields(&self) -> &[Source] {
        &self.fields
    }

    /// The number of values.
    pub(crate) fn len(&self) -> usize {
        self.pointers.len()
    }

    /// What a member of an object is, if it is read. The item is the object 0.
    pub(crate) fn place(&self, object: usize, name: &str) -> Option<Place> {
        self.objects[object]
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, place)| *place)
    }

    fn add_template(&mut self, mut rest: &str) -> Option<Source> {
        let mut parts = Vec::new();
        while let Some((before, after)) = rest.split_once('{') {
            let (pointer, after) = after.split_once('}')?;
            parts.push((before.to_owned(), self.add(pointer)?));
            rest = after;
        }
        Some(Source::Template(parts, rest.to_owned()))
    }

    /// The position of the value at a pointer.
    fn add(&mut self, pointer: &str) -> Option<usize> {
        if let Some(known) = self.pointers.iter().position(|known| known == pointer) {
            return Some(known);
        }
        let path: Vec<String> = tokens(pointer).map(std::borrow::Cow::into_owned).collect();
        let (last, before) = path.split_last().filter(|(_, before)| before.len() < MAX_NAMES)?;
        let mut object = 0;
        for name in before {
            object = self.object(object, name)?;
        }
        // A value within which another one is read.
        if self.objects[object].iter().any(|(name, _)| name == last) {
            return None;
        }
        let position = self.pointers.len();
        self.objects[object].push((last.clone(), Place::Value(position)));
        self.pointers.push(pointer.to_owned());
        Some(position)
    }

    /// The position of the object with a name.
    fn object(&mut self, at: usize, name: &str) -> Option<usize> {
        match self.objects[at].iter().find(|(known, _)| known == name) {
            Some((_, Place::Object(object))) => Some(*object),
            Some((_, Place::Value(_))) => None,
            None if self.objects.len() == MAX_OBJECTS => None,
            None => {
                let object = self.objects.len();
                self.objects[at].push((name.to_owned(), Place::Object(object)));
                self.objects.push(Names::new());
                Some(object)
            }
        }
    }

    /// The members of an item. None if a parser has to decide: the text is not JSON, for example, or has a name twice.
    pub(crate) fn find<'a>(&self, item: &'a str) -> Option<Texts<'a>> {
        let mut scanner = Scanner::new(item);
        let mut found = vec![""; self.pointers.len()];
        self.enter(0, &mut scanner, &mut found, &mut 0)?;
        scanner.is_at_end().then_some(found)
    }

    /// Recursive: pointers have few names. `entered`: a bit for each object.
    fn enter<'a>(&self, object: usize, scanner: &mut Scanner<'a>, found: &mut Texts<'a>, entered: &mut u64) -> Option<()> {
        let bit = 1_u64 << object;
        if *entered & bit != 0 {
            return None;
        }
        *entered |= bit;
        match scanner.peek()? {
            b'{' => {}
            // A name may be an index.
            b'[' => return None,
            _ => return scanner.value().map(drop),
        }
        let names = &self.objects[object];
        let mut more = scanner.open(b'}')?;
        while more {
            let name = scanner.name()?;
            if name.has_escapes {
                return None;
            }
            match names.iter().find(|(known, _)| known == name.raw) {
                None => {
                    scanner.value()?;
                }
                Some((_, Place::Object(object))) => self.enter(*object, scanner, found, entered)?,
                Some((_, Place::Value(value))) => {
                    let text = scanner.value()?;
                    if !mem::replace(&mut found[*value], text).is_empty() {
                        return None;
                    }
                }
            }
            more = scanner.has_more(b'}')?;
        }
        Some(())
    }
}
