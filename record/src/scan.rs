//! Reads the text of JSON without building it. What it does not read, a parser has to, which then refuses it or not: the result is
//! the same, and most documents are read at once.

/// Arrays and objects within each other, far below the 127 that parsers accept.
const MAX_DEPTH: u32 = 100;
/// Bytes. A shorter number without a large exponent is a finite one of 64 bits.
const MAX_NUMBER: usize = 100;
const MAX_EXPONENT: usize = 2;

/// The same byte in all eight places.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Reads JSON from the start of a text. Each method returns None for what it does not read.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// A text without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    pub raw: &'a str,
    pub has_escapes: bool,
}

impl<'a> Scanner<'a> {
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub const fn position(&self) -> usize {
        self.at
    }

    pub fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The next byte that is not blank.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            let byte = *bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    pub fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// The next byte that is not blank, if it is this one.
    pub fn skip(&mut self, byte: u8) -> Option<()> {
        let found = self.peek()? == byte;
        self.at += usize::from(found);
        found.then_some(())
    }

    /// What follows an element or a member: whether another one does.
    pub fn has_more(&mut self, end: u8) -> Option<bool> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            byte if byte == end => Some(false),
            _ => None,
        }
    }

    /// The beginning of an array or object: whether it has anything.
    pub fn open(&mut self, end: u8) -> Option<bool> {
        self.at += 1;
        let is_empty = self.peek()? == end;
        self.at += usize::from(is_empty);
        Some(!is_empty)
    }

    /// The name of a member, and its colon.
    pub fn name(&mut self) -> Option<Text<'a>> {
        self.peek()?;
        let name = self.text()?;
        self.skip(b':')?;
        Some(name)
    }

    /// A value, of which all is valid, with its text.
    pub fn value(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        self.skip_value()?;
        Some(self.since(start))
    }

    fn skip_value(&mut self) -> Option<()> {
        // The innermost array or object is the last bit, which is set for an object.
        let (mut objects, mut depth) = (0_u128, 0);
        loop {
            let opened = match self.peek()? {
                b'"' => self.text().map(|_| false)?,
                b'{' => self.open(b'}')?.then(|| objects = objects << 1 | 1).is_some(),
                b'[' => self.open(b']')?.then(|| objects <<= 1).is_some(),
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                _ => self.number()?,
            };
            depth += u32::from(opened);
            if depth > MAX_DEPTH {
                return None;
            }
            if !opened {
                loop {
                    if depth == 0 {
                        return Some(());
                    }
                    let end = if objects & 1 == 1 { b'}' } else { b']' };
                    if self.has_more(end)? {
                        break;
                    }
                    objects >>= 1;
                    depth -= 1;
                }
            }
            if objects & 1 == 1 {
                self.name()?;
            }
        }
    }

    /// It opens nothing.
    fn literal(&mut self, literal: &str) -> Option<bool> {
        let found = self.text.as_bytes()[self.at..].starts_with(literal.as_bytes());
        self.at += literal.len();
        found.then_some(false)
    }

    fn digits(&mut self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        digits
    }

    fn is_next(&self, bytes: &[u8]) -> bool {
        let next = self.text.as_bytes().get(self.at);
        next.is_some_and(|next| bytes.contains(next))
    }

    /// A number that is finite. It opens nothing.
    fn number(&mut self) -> Option<bool> {
        let start = self.at;
        self.at += usize::from(self.is_next(b"-"));
        let starts_with_zero = self.is_next(b"0");
        let digits = self.digits();
        if digits == 0 || digits > 1 && starts_with_zero {
            return None;
        }
        if self.is_next(b".") {
            self.at += 1;
            if self.digits() == 0 {
                return None;
            }
        }
        if self.is_next(b"eE") {
            self.at += 1;
            self.at += usize::from(self.is_next(b"+-"));
            if !(1..=MAX_EXPONENT).contains(&self.digits()) {
                return None;
            }
        }
        (self.at - start <= MAX_NUMBER).then_some(false)
    }

    /// A text, whose quote is next.
    fn text(&mut self) -> Option<Text<'a>> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) != Some(&b'"') {
            return None;
        }
        let start = self.at + 1;
        let mut at = start;
        let mut has_escapes = false;
        loop {
            at = special(bytes, at)?;
            match bytes[at] {
                b'"' => {
                    self.at = at + 1;
                    let raw = &self.text[start..at];
                    return Some(Text { raw, has_escapes });
                }
                b'\\' => {
                    has_escapes = true;
                    at += escape(&bytes[at + 1..])?;
                }
                // A control character.
                _ => return None,
            }
        }
    }
}

/// The position of the next quote, backslash or control character.
fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    const HIGH: u64 = all(0x80);
    while let Some(eight) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        // The lowest of the set bits is exact, those above it may be too many.
        let below = |word: u64, limit: u8| word.wrapping_sub(all(limit)) & !word & HIGH;
        let found = below(word ^ all(b'"'), 1) | below(word ^ all(b'\\'), 1) | below(word, 0x20);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20))?;
    Some(at + rest)
}

/// The length of an escape with its backslash, which is before `rest`. Half of a surrogate pair, which may be a whole one, is none.
fn escape(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(2),
        [b'u', digits @ ..] => {
            let digits = digits.first_chunk::<4>()?;
            let is_surrogate = matches!(digits, [b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F', ..]);
            (digits.iter().all(u8::is_ascii_hexdigit) && !is_surrogate).then_some(6)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, value::RawValue};

    use super::*;

    /// What it reads of a whole text.
    fn scan(text: &str) -> Option<&str> {
        let mut scanner = Scanner::new(text);
        let value = scanner.value()?;
        scanner.is_at_end().then_some(value)
    }

    /// Texts that are nearly JSON.
    fn nearly_json() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\\u",
            "00e9",
            "d800",
            "\"a\"",
            "\"\\u0041\"",
            "\"\\n\"",
            "\"\\x\"",
            "\u{e9}",
            "\u{1}",
            " ",
            "\n",
            "0",
            "1",
            "-",
            ".",
            "e",
            "E+",
            "1.5",
            "true",
            "false",
            "null",
            "nul",
            "{\"a\":",
            "[1,",
            "\"long enough for a word\"",
        ]);
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn what_it_reads_is_what_a_parser_reads(text in nearly_json()) {
            if let Some(value) = scan(&text) {
                let parsed: Result<&RawValue, _> = serde_json::from_str(&text);
                prop_assert_eq!(parsed.map(RawValue::get).ok(), Some(value));
                prop_assert!(serde_json::from_str::<Json>(&text).is_ok(), "{}", text);
            }
        }
    }

    #[test]
    fn json_is_read() {
        for text in [
            "1",
            "-0",
            "0.5",
            "1e9",
            "-1.25E-10",
            "true",
            "false",
            "null",
            "\"\"",
            "\"a\"",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[1,2 , [3],{}]",
            "{\"a\" : {\"b\":[{}]}, \"c\":null}",
            "\"1234567\"",
            "\"12345678\"",
            "\"123456789\\n\"",
            "\"\\\\\"",
            "\"1234567\\\"\"",
            "\"\\u00e9\u{e9}\u{1f600}\\/\"",
            "[[[[]]],[]]",
            "{\"\\\"\":1}",
        ] {
            assert_eq!(scan(text), Some(text));
            assert_eq!(scan(&format!(" \n{text}\t\r")), Some(text));
        }
    }

    #[test]
    fn what_a_parser_may_refuse_is_not_read() {
        let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
        // The innermost one is empty.
        assert!(scan(&deep(101)).is_some() && scan(&deep(102)).is_none());
        for text in [
            "",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e999",
            "+1",
            "tru",
            "nulL",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\u{1}\"",
            "\"12345678\u{1f}\"",
            "\"\\ud800\"",
            "\"\\uDFFF\"",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{1:2}",
            "{\"a\" 1}",
            "[1 2]",
            "[}",
            "{]",
            "1 2",
            "[1}",
            "{\"a\":1]",
        ] {
            assert_eq!(scan(text), None, "{text}");
        }
        assert_eq!(scan(&"1".repeat(101)), None);
    }
}
