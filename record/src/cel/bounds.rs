//! Bounds of an expression's text, checked before any parser sees it.
//!
//! A recursive parser overflows its stack, or repeats work at each level, on text that nests deeply. The scan below makes one pass,
//! keeps no text, and counts too much rather than too little.

/// Characters of an expression's text. The custom resource's schema has the same bound.
const MAX_LENGTH: usize = 1024;
/// Names, literals, operators and brackets.
const MAX_TOKENS: usize = 500;
/// Brackets, prefix operators and conditionals within each other.
const MAX_NESTING: usize = 32;

/// Refuses text that is too long, too dense, or nests too deeply. The error says which bound, without the field's name.
pub fn check(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if length > MAX_LENGTH {
        return Err(format!("is {length} characters long; at most {MAX_LENGTH} are allowed"));
    }
    let shape = Scan::of(text.as_bytes());
    if shape.tokens > MAX_TOKENS {
        return Err(format!(
            "has {} names, literals, operators and brackets; at most {MAX_TOKENS} are allowed",
            shape.tokens
        ));
    }
    if shape.nesting > MAX_NESTING {
        return Err(format!(
            "nests {} levels of brackets, `-`, `!` and `?`; at most {MAX_NESTING} are allowed",
            shape.nesting
        ));
    }
    Ok(())
}

/// Where a name stands first in the text of an expression, outside of texts and comments and not as a member: `line:column` from 1, as
/// the parser counts. Empty if it does not.
pub fn position(text: &str, name: &str) -> String {
    let bytes = text.as_bytes();
    let (mut at, mut is_member) = (0, false);
    while let Some(byte) = bytes.get(at) {
        let length = match byte {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line(&bytes[at..]),
            b'"' | b'\'' => literal(&bytes[at..], false),
            byte if is_word(*byte) => {
                let word = word(&bytes[at..]);
                if !is_member && &bytes[at..at + word] == name.as_bytes() {
                    return line_and_column(&text[..at]);
                }
                word
            }
            _ => 1,
        };
        if !byte.is_ascii_whitespace() {
            is_member = *byte == b'.';
        }
        at += length;
    }
    String::new()
}

/// Of what follows a text.
pub fn line_and_column(before: &str) -> String {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}

/// What is open at one level of brackets.
#[derive(Clone, Copy, Default)]
struct Level {
    /// `-` and `!` in front of an operand that has not ended.
    prefixes: usize,
    /// `?`: what follows it nests until the bracket closes.
    conditionals: usize,
}

#[derive(Default)]
struct Scan {
    tokens: usize,
    /// The deepest nesting so far.
    nesting: usize,
    outer: Vec<Level>,
    level: Level,
    /// Whether the last token ended an operand, so that a `-` is a subtraction.
    after_operand: bool,
}

impl Scan {
    fn of(text: &[u8]) -> Self {
        let mut scan = Self::default();
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            at += match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => 1,
                b'/' if text.get(at + 1) == Some(&b'/') => line(&text[at..]),
                b'"' | b'\'' => scan.operand(literal(&text[at..], false)),
                byte if is_word(*byte) => {
                    let word = word(&text[at..]);
                    match text.get(at + word) {
                        Some(b'"' | b'\'') => {
                            let raw = word <= 2 && text[at..at + word].iter().any(|byte| matches!(byte, b'r' | b'R'));
                            scan.operand(word + literal(&text[at + word..], raw))
                        }
                        _ if &text[at..at + word] == b"in" => scan.operator(word),
                        _ => scan.operand(word),
                    }
                }
                b'(' | b'[' | b'{' => scan.open(),
                b')' | b']' | b'}' => scan.close(),
                b'-' if !scan.after_operand => scan.prefix(),
                b'!' if text.get(at + 1) != Some(&b'=') => scan.prefix(),
                b'?' => scan.conditional(),
                b'.' => scan.member(),
                _ => scan.operator(1),
            };
        }
        scan
    }

    fn token(&mut self, ends_operand: bool) {
        self.tokens += 1;
        self.after_operand = ends_operand;
        let depth: usize = self
            .outer
            .iter()
            .chain([&self.level])
            .map(|level| level.prefixes + level.conditionals)
            .sum();
        self.nesting = self.nesting.max(depth + self.outer.len());
    }

    fn operand(&mut self, length: usize) -> usize {
        self.token(true);
        length
    }

    fn operator(&mut self, length: usize) -> usize {
        self.level.prefixes = 0;
        self.token(false);
        length
    }

    /// A `.`: the operand continues.
    fn member(&mut self) -> usize {
        self.token(false);
        1
    }

    fn prefix(&mut self) -> usize {
        self.level.prefixes += 1;
        self.token(false);
        1
    }

    fn conditional(&mut self) -> usize {
        self.level.prefixes = 0;
        self.level.conditionals += 1;
        self.token(false);
        1
    }

    fn open(&mut self) -> usize {
        self.outer.push(std::mem::take(&mut self.level));
        self.token(false);
        1
    }

    fn close(&mut self) -> usize {
        self.level = self.outer.pop().unwrap_or_default();
        self.token(true);
        1
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'`') || !byte.is_ascii()
}

fn word(text: &[u8]) -> usize {
    text.iter().take_while(|byte| is_word(**byte)).count()
}

fn line(text: &[u8]) -> usize {
    text.iter().take_while(|byte| **byte != b'\n').count()
}

/// The length of a literal that begins with its quote; one without an end takes the rest.
fn literal(text: &[u8], raw: bool) -> usize {
    let quote = &text[..1];
    let end = if text.starts_with(&quote.repeat(3)) {
        quote.repeat(3)
    } else {
        quote.to_vec()
    };
    let mut at = end.len();
    while at < text.len() {
        if text[at..].starts_with(&end) {
            return at + end.len();
        }
        at += if text[at] == b'\\' && !raw { 2 } else { 1 };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_within_the_bounds_passes() {
        let longest = format!("'{}'", "é".repeat(MAX_LENGTH - 2));
        let nested = format!("{}1{}", "(".repeat(MAX_NESTING), ")".repeat(MAX_NESTING));
        let negated = vec!["!item.a"; 60].join(" && ");
        let differences = vec!["-1 - -1"; 60].join(" - ");
        for text in [
            "",
            "item.a > 1 ? 'x' : 'y'",
            "'((((((((((((((((((((((((((((((((((((((((((' == item.a",
            r#"'\'((((((((((((((((((((((((((((((((((((((((' + r'\' + "" + """"((((""" "#,
            "1 // ((((((((((((((((((((((((((((((((((((((((((((",
            longest.as_str(),
            nested.as_str(),
            negated.as_str(),
            differences.as_str(),
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_name_is_found_where_it_is_a_variable() {
        for (text, expected) in [
            ("age > 1", "1:1"),
            ("'age' + item.age == \"age\" || é == age", "1:35"),
            ("pages == 1 &&\n  age > 1", "2:3"),
            ("1 // age\n== age", "2:4"),
            ("item. age", ""),
            ("ages == 1", ""),
        ] {
            assert_eq!(position(text, "age"), expected, "{text}");
        }
    }

    #[test]
    fn text_beyond_a_bound_names_the_bound() {
        let nest = |open: &str, close: &str| format!("{}1{}", open.repeat(33), close.repeat(33));
        for (text, bound) in [
            ("x".repeat(MAX_LENGTH + 1), "at most 1024"),
            ("1+".repeat(251), "at most 500"),
            (nest("(", ")"), "at most 32"),
            (nest("[", "]"), "at most 32"),
            (nest("{1:", "}"), "at most 32"),
            (nest("-", ""), "at most 32"),
            (nest("- -", ""), "at most 32"),
            (nest("!", ""), "at most 32"),
            (format!("{}x{}", "--(".repeat(25), ")".repeat(25)), "at most 32"),
            (nest("true?1:", ""), "at most 32"),
            (nest("true?", ":1"), "at most 32"),
            (nest("f(", ")"), "at most 32"),
            (nest("[1].map(x,", ")"), "at most 32"),
        ] {
            let error = check(&text).unwrap_err();
            assert!(error.contains(bound), "{text}: {error}");
        }
    }
}
