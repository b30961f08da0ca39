//! Items as the source served them, without a copy of each.

use std::{ops::Range, sync::Arc};

use serde_json::value::RawValue;

/// The body of a response, which its items share.
pub type Body = Arc<Vec<u8>>;

/// JSON as the source served it.
#[derive(Clone, Debug)]
pub struct RawItem {
    body: Body,
    range: Range<usize>,
}

impl RawItem {
    /// A part of a body.
    pub fn part(body: &Body, json: &RawValue) -> Self {
        let length = json.get().len();
        let start = json.get().as_ptr().addr().checked_sub(body.as_ptr().addr());
        match start.filter(|start| start + length <= body.len()) {
            Some(start) => Self::at(body, start..start + length),
            // A parser may have copied it.
            None => Self::own(json.get().to_owned()),
        }
    }

    /// What a body has in a range, which is JSON.
    pub fn at(body: &Body, range: Range<usize>) -> Self {
        Self {
            body: Arc::clone(body),
            range,
        }
    }

    /// JSON that no body has.
    pub fn own(json: String) -> Self {
        let range = 0..json.len();
        Self {
            body: Arc::new(json.into_bytes()),
            range,
        }
    }

    pub fn get(&self) -> &str {
        // It was text before.
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.body[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_body_is_not_copied() {
        let body: Body = Arc::new("[{\"a\": \"é\"}, 2]".into());
        let items: Vec<&RawValue> = serde_json::from_slice(&body).unwrap();
        let parts: Vec<RawItem> = items.iter().map(|item| RawItem::part(&body, item)).collect();
        assert_eq!([parts[0].get(), parts[1].get()], [r#"{"a": "é"}"#, "2"]);
        assert_eq!(Arc::strong_count(&body), 3);
    }

    #[test]
    fn json_of_another_text_is_copied() {
        let body: Body = Arc::new(b"[1]".to_vec());
        let other = RawValue::from_string("[1, 2, 3, 4]".to_owned()).unwrap();
        assert_eq!(RawItem::part(&body, &other).get(), "[1, 2, 3, 4]");
        assert_eq!(RawItem::own("7".to_owned()).get(), "7");
        assert_eq!(Arc::strong_count(&body), 1);
    }
}
