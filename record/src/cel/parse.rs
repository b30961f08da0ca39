//! From a text to a tree of bounded depth.

use cel::{IdedExpr, parser::PrattParser};

use super::{bounds, rewrite};

/// The library's own bound on brackets within each other; ours is below and comes first.
const PARSER_DEPTH: u16 = 64;

/// Parses text within the bounds. The error is for its author and does not name the field.
pub fn parse(text: &str) -> Result<IdedExpr, String> {
    bounds::check(text)?;
    // Of the library's two parsers the one whose time is linear in the text: https://github.com/cel-rust/cel-rust/pull/324.
    let parser = PrattParser::new().max_recursion_depth(PARSER_DEPTH).error_recovery_limit(1);
    let tree = parser
        .parse(text)
        .map_err(|error| format!("`{text}` is not a CEL expression: {}", first_line(&error.to_string())))?;
    rewrite::check_depth(&tree).map_err(|why| format!("`{text}` {why}"))?;
    Ok(tree)
}

/// Line and column, and what is wrong, of a message that also draws the text.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("ERROR: ").trim_start_matches("<input>:")
}
