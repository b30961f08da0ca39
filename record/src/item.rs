//! Parses an item as far as its record needs it: most members of most items are not mapped.

use memchr::{memchr2_iter, memmem};
use serde_json::Value as Json;

use crate::{Field, Origin, Reads, RecordSchema, outline, pointer::tokens};

/// A parser refuses more than 127 arrays and objects within each other.
const MAX_DEPTH: usize = 127;

impl RecordSchema {
    /// What a record needs of an item.
    pub fn item_reads(&self) -> Reads {
        let mut reads = Reads::Nothing;
        for field in &self.fields {
            reads.add_all(&field_reads(field));
        }
        if let Some(expression) = &self.delete_when {
            reads.add_all(&expression.reads("item"));
        }
        reads
    }
}

/// What a field needs of an item.
pub(crate) fn field_reads(field: &Field) -> Reads {
    let mut reads = Reads::Nothing;
    match &field.from {
        Origin::Pointer(pointer) => add_pointer(&mut reads, pointer),
        Origin::Template(template) => pointers(template).for_each(|pointer| add_pointer(&mut reads, pointer)),
        Origin::Expression(expression) => reads.add_all(&expression.reads("item")),
    }
    reads
}

/// Parses an item. `reads`: see [`RecordSchema::item_reads`]; the rest may be absent. Invalid JSON is refused in every part of it.
pub fn parse_item(text: &str, reads: &Reads) -> Result<Json, serde_json::Error> {
    // What is skipped is not checked for half of a surrogate pair, and may be nested to any depth. PostgreSQL would refuse both.
    let bytes = text.as_bytes();
    let may_be_refused = memmem::find(bytes, b"\\u").is_some() || memchr2_iter(b'[', b'{', bytes).nth(MAX_DEPTH).is_some();
    if may_be_refused {
        serde_json::from_str(text)
    } else {
        outline::parts(bytes, reads)
    }
}

fn add_pointer(reads: &mut Reads, pointer: &str) {
    let path: Vec<String> = tokens(pointer).map(std::borrow::Cow::into_owned).collect();
    reads.add_whole(&path);
}

/// The pointers of a template.
fn pointers(template: &str) -> impl Iterator<Item = &str> {
    template
        .split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}'))
        .map(|(pointer, _)| pointer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schema() -> RecordSchema {
        let record = json!({"key": ["id"], "deleteWhen": "has(item.gone)", "fields": [
            {"name": "id", "type": "string", "from": "/id"},
            {"name": "first", "type": "string", "from": "/list/0/a", "optional": true},
            {"name": "second", "type": "json", "from": "/list/1", "optional": true},
            {"name": "name", "type": "string", "template": "{/name/first} {/na~1me}", "optional": true},
            {"name": "sum", "type": "long", "expr": "size(item.list) + size(item.name)", "optional": true},
        ]});
        RecordSchema::read(Some(&serde_json::from_value(record).unwrap())).unwrap()
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let scalar = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            "[a-c\u{e9}\"\\\\\n]{0,4}".prop_map(Json::from),
        ];
        let name = prop::sample::select(vec!["id", "list", "name", "na/me", "first", "a", "gone", "other"]);
        scalar.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..6)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_record_is_the_same_whether_all_of_its_item_is_parsed_or_what_it_needs(item in any_json()) {
            let schema = schema();
            let text = item.to_string();
            let parsed = parse_item(&text, &schema.item_reads()).unwrap();
            prop_assert_eq!(schema.map(&parsed, Some(text.as_bytes())), schema.map(&item, Some(text.as_bytes())), "{}", parsed);
        }
    }

    #[test]
    fn members_that_no_field_needs_are_not_parsed() {
        let parsed = parse_item(
            r#"{"id": "1", "more": {"a": [1, 2]}, "list": [{"a": 1, "b": 2}]}"#,
            &schema().item_reads(),
        )
        .unwrap();
        assert_eq!(
            parsed,
            json!({"id": "1", "list": [{"a": 1, "b": 2}]}),
            "an expression reads the list"
        );
    }

    #[test]
    fn what_postgresql_refuses_is_refused_in_members_that_no_field_needs() {
        for (more, accepted) in [
            ("[".repeat(126) + &"]".repeat(126), true),
            ("[".repeat(127) + &"]".repeat(127), false),
            (r#""\ud800""#.to_owned(), false),
            (r#""\ud83d\ude00""#.to_owned(), true),
            (r#""\x""#.to_owned(), false),
            ("[1,]".to_owned(), false),
            ("01".to_owned(), false),
        ] {
            let text = format!(r#"{{"id": "1", "more": {more}}}"#);
            assert_eq!(parse_item(&text, &schema().item_reads()).is_ok(), accepted, "{text}");
        }
    }
}
