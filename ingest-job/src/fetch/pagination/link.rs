//! The header `Link` (RFC 8288).

use reqwest::{
    Url,
    header::{HeaderMap, LINK},
};

/// The target of the first link with `rel="next"`.
pub fn next_link(headers: &HeaderMap, requested: &Url) -> Result<Option<Url>, String> {
    for value in headers.get_all(LINK) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for link in Links(&text) {
            if link.has_relation("next") {
                let url = requested.join(link.target);
                return url
                    .map(Some)
                    .map_err(|e| format!("the header Link with rel=\"next\" has no valid URL: {e}"));
            }
        }
    }
    Ok(None)
}

/// A link of the header.
#[derive(Debug, PartialEq)]
struct Link<'a> {
    target: &'a str,
    /// Names in lower case, and values without their quotes.
    parameters: Vec<(String, String)>,
}

impl Link<'_> {
    /// Only the first `rel` counts (section 3.3).
    fn has_relation(&self, relation: &str) -> bool {
        let rel = self.parameters.iter().find(|(name, _)| name == "rel");
        rel.is_some_and(|(_, value)| value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case(relation)))
    }
}

/// The links that are left of a header's value. What cannot be read ends at the next comma outside of quotes.
struct Links<'a>(&'a str);

impl<'a> Iterator for Links<'a> {
    type Item = Link<'a>;

    fn next(&mut self) -> Option<Link<'a>> {
        loop {
            self.0 = self.0.trim_start_matches([' ', '\t', ',']);
            if self.0.is_empty() {
                return None;
            }
            let link = self.0.strip_prefix('<').and_then(|rest| rest.split_once('>'));
            let Some((target, rest)) = link else {
                // No target: not a link.
                self.0 = self.0.split_once(',').map_or("", |(_, rest)| rest);
                continue;
            };
            self.0 = rest;
            return Some(Link {
                target: target.trim(),
                parameters: self.parameters(),
            });
        }
    }
}

impl Links<'_> {
    fn parameters(&mut self) -> Vec<(String, String)> {
        let mut parameters = Vec::new();
        loop {
            self.skip_space();
            let Some(rest) = self.0.strip_prefix(';') else { break };
            self.0 = rest;
            self.skip_space();
            let name = self.until(&['=', ';', ',']).trim().to_ascii_lowercase();
            let mut value = String::new();
            if let Some(rest) = self.0.strip_prefix('=') {
                self.0 = rest;
                self.skip_space();
                value = self.value();
            }
            parameters.push((name, value));
        }
        // Whatever follows, up to the next link.
        self.until(&[',']);
        parameters
    }

    /// A token, or a quoted text with escapes. Some servers use the apostrophe as a quote, which the RFC does not allow.
    fn value(&mut self) -> String {
        let Some(quote) = self.0.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            return self.until(&[';', ',']).trim().to_owned();
        };
        let mut value = String::new();
        let mut characters = self.0.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            if c == quote {
                self.0 = &self.0[at + 1..];
                return value;
            }
            let c = if c == '\\' && quote == '"' {
                characters.next().map_or(c, |(_, escaped)| escaped)
            } else {
                c
            };
            value.push(c);
        }
        // The quote has no end.
        if quote == '\'' {
            return self.until(&[';', ',']).trim().to_owned();
        }
        self.0 = "";
        value
    }

    fn until(&mut self, ends: &[char]) -> &str {
        let (found, rest) = self.0.split_at(self.0.find(ends).unwrap_or(self.0.len()));
        self.0 = rest;
        found
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(headers: &[&str]) -> Option<String> {
        let headers: HeaderMap = headers.iter().map(|link| (LINK, link.parse().unwrap())).collect();
        let url = next_link(&headers, &"http://a/x".parse().unwrap()).unwrap();
        url.map(Into::into)
    }

    #[test]
    fn the_next_page_is_found_among_other_links() {
        for (headers, expected) in [
            (
                &[r#"<http://a/x?p=1>; rel="prev", </y?p=3>; title="x"; rel="next last""#][..],
                Some("http://a/y?p=3"),
            ),
            (&["<z>;rel=next"], Some("http://a/z")),
            (&[r#"<http://a/x?page=2>; title="a; b, c"; rel="next""#], Some("http://a/x?page=2")),
            (&["<http://a/x?page=2>; rel='next'"], Some("http://a/x?page=2")),
            (&[r"<http://a/x?p=2> ; REL = Next ; title=a"], Some("http://a/x?p=2")),
            (
                &[r#"<http://a/?q=a,b;rel="next">; rel="first", <http://a/?q=c,d>; rel="next""#],
                Some("http://a/?q=c,d"),
            ),
            (
                &[r#"<b>; title="a \"; rel=next, <c>; \" d"; rel=prev,<e>;rel="next""#],
                Some("http://a/e"),
            ),
            (&["<b>; rel=first", "<c>; rel=next"], Some("http://a/c")),
            // Only the first rel counts.
            (&[r"<b>; rel=prev; rel=next"], None),
            (&["<b>; rel=nextpage, <c>; title=next, d; rel=next"], None),
            (&["garbage, <b>; rel=next"], Some("http://a/b")),
            (&["<b>; crossorigin; rel=next"], Some("http://a/b")),
            (&["<b>; title=it's; rel=next"], Some("http://a/b")),
            (&["<b>; title='it; rel=next"], Some("http://a/b")),
            (&["<b; rel=next", "", ","], None),
            (&["<>; rel=next"], Some("http://a/x")),
        ] {
            assert_eq!(next(headers).as_deref(), expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(links in prop::collection::vec(
            ("[a-z0-9/?=&,;%. ']{1,20}", prop::collection::vec(("[a-z]{1,8}", "[ -~]{0,12}"), 0..4)), 0..5))
        {
            let quoted = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
            let text = links.iter().map(|(target, parameters)| {
                let parameters = parameters.iter().fold(String::new(), |text, (name, value)| text + "; " + name + "=" + &quoted(value));
                format!("<{target}>{parameters}")
            });
            let text = text.collect::<Vec<_>>().join(", ");
            let read: Vec<Link<'_>> = Links(&text).collect();
            let expected: Vec<Link<'_>> = links
                .iter()
                .map(|(target, parameters)| Link { target: target.trim(), parameters: parameters.clone() })
                .collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_text_is_read_to_its_end(text in ".{0,60}") {
            prop_assert!(Links(&text).count() <= text.len());
        }
    }
}
