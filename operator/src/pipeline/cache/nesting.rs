//! How deeply JSON nests, without reading it. A parser's own limit refuses the whole text, and with it every object in a list.

/// Levels of a resource: the parser's own limit is 128.
const MAX: usize = 100;
/// Steps of a path that are written.
const SHOWN: usize = 8;

/// The place in valid JSON that nests too deeply, such as `spec.record.fields[0].default`, if there is one.
pub fn too_deep(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let mut path: Vec<Step> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' => path.push(Step::Member(String::new())),
            b'[' => path.push(Step::Item(0)),
            b'}' | b']' => drop(path.pop()),
            b',' => {
                if let Some(Step::Item(n)) = path.last_mut() {
                    *n += 1;
                }
            }
            b'"' => {
                let end = at + text_length(&bytes[at..]);
                // In an object, a text before a colon is a name.
                if let Some(Step::Member(name)) = path.last_mut()
                    && bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
                {
                    json[at + 1..end - 1].clone_into(name);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        if path.len() > MAX {
            return Some(written(&path));
        }
        at += 1;
    }
    None
}

enum Step {
    Member(String),
    Item(usize),
}

/// With both quotes.
fn text_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn written(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path.iter().take(SHOWN) {
        match step {
            Step::Member(name) if text.is_empty() => text.push_str(name),
            Step::Member(name) => text.extend([".", name]),
            Step::Item(n) => text.extend(["[", &n.to_string(), "]"]),
        }
    }
    format!("{text}… nests more than {MAX} lists and objects")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_that_nests_too_deeply_is_named() {
        let deep = |open: &str, close: &str, n: usize| {
            format!(
                r#"{{"kind": "X", "spec" : {{"text": "\"[[[[", "fields": [1, {{"name":"a:b","default": {}1{}}}]}}}}"#,
                open.repeat(n),
                close.repeat(n)
            )
        };
        assert_eq!(too_deep(&deep("[", "]", 90)), None);
        assert_eq!(too_deep(&"[],{},".repeat(1000)), None);
        assert_eq!(
            too_deep(&deep("[", "]", 1000)).as_deref(),
            Some("spec.fields[1].default[0][0][0][0]… nests more than 100 lists and objects")
        );
        assert!(
            too_deep(&deep("{\"x\":", "}", 100_000))
                .unwrap()
                .starts_with("spec.fields[1].default.x.x")
        );
    }
}
