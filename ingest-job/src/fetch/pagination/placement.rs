//! Where a request has its page number, offset or cursor.

use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Map, Value as Json};
use userpipeline_api::Pagination;

use super::position::{Position, Token};

const FIELD: &str = "spec.source.http.pagination";

pub enum Placement {
    /// The position is a URL, or every request is the same.
    None,
    Query(String),
    Header(String),
    /// A JSON pointer.
    Json(String),
    Form(String),
}

impl Placement {
    pub fn of(pagination: &Pagination) -> Self {
        let Pagination {
            parameter,
            header,
            body_pointer,
            form_field,
            ..
        } = pagination.clone();
        (parameter.map(Self::Query))
            .or(header.map(Self::Header))
            .or(body_pointer.map(Self::Json))
            .or(form_field.map(Self::Form))
            .unwrap_or(Self::None)
    }

    /// The URL of a page.
    pub fn url(&self, url: &Url, position: &Position) -> Url {
        match (self, position, value(position)) {
            (_, Position::Url(url), _) => url.clone(),
            (Self::Query(parameter), _, Some(value)) => with_parameter(url, parameter, &value.text),
            _ => url.clone(),
        }
    }

    /// The header of a page. Errors name the field.
    pub fn header(&self, position: &Position) -> Result<Option<(HeaderName, HeaderValue)>, String> {
        let (Self::Header(name), Some(value)) = (self, value(position)) else {
            return Ok(None);
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{FIELD}.header is not a valid header name"))?;
        let value = HeaderValue::from_str(&value.text)
            .map_err(|_| format!("{FIELD}.header: the cursor has characters that a header cannot contain"))?;
        Ok(Some((name, value)))
    }

    /// The body of a page. Errors name the field.
    pub fn body(&self, body: &str, position: &Position) -> Result<String, String> {
        match (self, value(position)) {
            (Self::Json(pointer), Some(value)) => {
                let mut json: Json = serde_json::from_str(body)
                    .map_err(|e| format!("spec.source.http.body is not JSON, which {FIELD}.bodyPointer needs: {e}"))?;
                set(&mut json, pointer, value.json()).map_err(|problem| format!("{FIELD}.bodyPointer: {problem}"))?;
                Ok(json.to_string())
            }
            (Self::Form(field), Some(value)) => {
                let mut form = Url::parse("form://x").map_err(|e| e.to_string())?;
                form.set_query(Some(body));
                Ok(with_parameter(&form, field, &value.text).query().unwrap_or_default().to_owned())
            }
            _ => Ok(body.to_owned()),
        }
    }
}

impl Token {
    fn json(&self) -> Json {
        let number = self.is_number.then(|| serde_json::from_str(&self.text).ok()).flatten();
        number.unwrap_or_else(|| self.text.clone().into())
    }
}

fn value(position: &Position) -> Option<Token> {
    match position {
        Position::First | Position::Url(_) => None,
        Position::Number(number) => Some(Token {
            text: number.to_string(),
            is_number: true,
        }),
        Position::Cursor(token) => Some(token.clone()),
    }
}

/// The URL may set the parameter for the first page; it is replaced.
fn with_parameter(url: &Url, parameter: &str, value: &str) -> Url {
    let pairs = url.query_pairs().filter(|(name, _)| *name != parameter);
    let others: Vec<(String, String)> = pairs.map(|(n, v)| (n.into(), v.into())).collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(parameter, value);
    url
}

/// Sets the value at a pointer. Missing objects are created.
fn set(json: &mut Json, pointer: &str, value: Json) -> Result<(), String> {
    let mut at = json;
    for name in pointer.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        if at.is_null() {
            *at = Json::Object(Map::new());
        }
        at = match at {
            Json::Object(object) => object.entry(name).or_insert(Json::Null),
            Json::Array(elements) => {
                let element = name.parse::<usize>().ok().and_then(|i| elements.get_mut(i));
                element.ok_or_else(|| format!("the body has no element {name} in an array of {pointer}"))?
            }
            _ => return Err(format!("the body has neither an object nor an array above {name} of {pointer}")),
        };
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(text: &str, is_number: bool) -> Position {
        Position::Cursor(Token {
            text: text.to_owned(),
            is_number,
        })
    }

    #[test]
    fn a_position_is_sent_where_the_api_expects_it() {
        let url: Url = "http://a/x?size=2&page=0".parse().unwrap();
        let place = |spec: Json| Placement::of(&serde_json::from_value(spec).unwrap());
        let query = place(json!({"type": "Page", "parameter": "page"}));
        assert_eq!(query.url(&url, &Position::Number(3)).as_str(), "http://a/x?size=2&page=3");
        assert_eq!(query.url(&url, &Position::First), url);

        let header = place(json!({"type": "Cursor", "header": "X-After"}));
        assert_eq!(header.url(&url, &token("a", false)), url);
        assert_eq!(header.header(&token("a", false)).unwrap().unwrap().1, "a");
        assert_eq!(header.header(&Position::First), Ok(None));
        assert!(header.header(&token("a\n", false)).is_err());

        let form = place(json!({"type": "Page", "formField": "p"}));
        assert_eq!(form.body("a=b+c&p=1", &Position::Number(2)).unwrap(), "a=b+c&p=2");
    }

    #[test]
    fn a_cursor_in_a_json_body_keeps_its_type() {
        for (body, pointer, position, expected) in [
            (
                r#"{"query":"q"}"#,
                "/variables/after",
                token("x\"y", false),
                r#"{"query":"q","variables":{"after":"x\"y"}}"#,
            ),
            (
                r#"{"v":{"after":null,"n":5}}"#,
                "/v/after",
                token("7", true),
                r#"{"v":{"after":7,"n":5}}"#,
            ),
            (r#"{"v":{"after":null}}"#, "/v/after", token("7", false), r#"{"v":{"after":"7"}}"#),
            (r#"{"v":{"after":null}}"#, "/v/after", Position::First, r#"{"v":{"after":null}}"#),
            (r#"[{"page":1}]"#, "/0/page", Position::Number(2), r#"[{"page":2}]"#),
        ] {
            let placement = Placement::Json(pointer.to_owned());
            assert_eq!(placement.body(body, &position).unwrap(), expected);
        }
        let placement = Placement::Json("/a/b".to_owned());
        for body in ["{", "[1]", r#"{"a": 1}"#] {
            let error = placement.body(body, &Position::Number(2)).unwrap_err();
            assert!(error.contains("bodyPointer"), "{error}");
        }
    }
}
