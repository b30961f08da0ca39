//! Budgets, regular expressions, and the stack.

use serde_json::json;

use super::{super::Expression, value};

#[test]
fn an_evaluation_beyond_its_budget_ends_with_the_bound() {
    let numbers: Vec<u32> = (0..2000).collect();
    let item = json!({"n": numbers, "text": "x".repeat(1 << 20), "all": vec!["y".repeat(400); 2000]});
    for (text, bound) in [
        ("item.n.map(x, item.n.map(y, item.n.map(z, x + y + z)))", "32 MiB"),
        (
            "item.n.all(x, item.n.all(y, item.n.all(z, item.n.all(w, true))))",
            "1,000,000 steps",
        ),
        (
            "item.n.exists(x, item.n.exists(y, item.n.exists(z, false))) || true",
            "1,000,000 steps",
        ),
        (
            "item.n.filter(x, item.n.exists_one(y, item.n.exists_one(z, z == y)))",
            "1,000,000 steps",
        ),
        ("item.n.map(x, item.text)", "32 MiB"),
        ("item.n.map(x, {'a': item.text})", "32 MiB"),
        ("item.text.replace('x', item.text)", "32 MiB"),
        ("item.text.split('')", "32 MiB"),
        (
            "[1].map(a, item.text + item.text).map(b, b + b + b + b).map(c, c + c + c + c).map(d, d + d + d)",
            "32 MiB",
        ),
        ("item.n.all(x, item.all == item.all + [] || item.text == item.text)", "32 MiB"),
        ("item.n.exists(x, item.n.exists(y, item.all != item.all))", "CPU time"),
    ] {
        let error = value(text, &item).expect_err(text);
        assert!(error.contains(bound) && !error.contains("xxx"), "{text}: {error}");
    }
    // Steps that fail count as well, and a loop that catches their errors ends.
    let failing = json!({"l": (0..4000).collect::<Vec<u32>>()});
    for text in [
        "item.l.exists(x, item.l.exists(y, x.id == y.id))",
        "item.l.all(x, item.l.all(y, item.l.all(z, x.id == z.id)))",
        "item.l.exists(x, item.l.exists(y, x.id == y.id) || item.l.all(z, z.id == 1)) || true",
    ] {
        let error = value(text, &failing).expect_err(text);
        assert!(error.contains("1,000,000 steps"), "{text}: {error}");
    }
    // The next evaluation has a budget of its own.
    assert_eq!(value("item.n.map(x, x + 1)[1999]", &item), Ok(json!(2000)));
}

#[test]
fn a_regular_expression_of_an_item_is_bounded() {
    let long = "a".repeat(2000);
    for (pattern, fits) in [
        ("^a+$", true),
        (long.as_str(), false),
        ("(((a{100}){100}){100}){100}", false),
        (&format!("{}a{}", "(".repeat(100), ")".repeat(100)), false),
        (r"[\p{L}]{5000}", false),
        ("(", false),
    ] {
        let found = value("item.text.matches(item.pattern)", &json!({"text": "aaaa", "pattern": pattern}));
        assert_eq!(found.is_ok(), fits, "{pattern}: {found:?}");
    }
}

/// What the threads of our programs have. The tests are built without optimisation, and need several times as much as the programs.
const STACK: usize = 512 << 10;

fn on_a_small_stack(check: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK).spawn(check).unwrap().join().unwrap();
}

/// Texts that nest or chain, of every length.
fn nested_texts() -> impl Iterator<Item = String> {
    let nest = |open: &str, inner: &str, close: &str| -> Vec<String> {
        (1..1024)
            .step_by(7)
            .map(|n| format!("{}{inner}{}", open.repeat(n), close.repeat(n)))
            .collect()
    };
    let chain = |first: &str, next: &str| -> Vec<String> { (1..500).step_by(7).map(|n| format!("{first}{}", next.repeat(n))).collect() };
    [
        nest("(", "1", ")"),
        nest("[", "1", "]"),
        nest("{1:", "1", "}"),
        nest("-(", "item.a", ")"),
        nest("--(", "item.a", ")"),
        nest("!(", "item.t", ")"),
        nest("-", "item.a", ""),
        nest("-!", "item.a", ""),
        nest("!-", "item.a", ""),
        nest("item.t?", "1", ":2"),
        nest("item.t?1:", "1", ""),
        nest("size([", "1", "])"),
        nest("item.l.map(x,", "x", ")"),
        nest("item.l[", "0", "]"),
        nest("has(", "item.a", ")"),
        nest("item{a:", "1", "}"),
        nest("(", "", ""),
        nest("", "", ")"),
        nest("'", "", ""),
        nest("'\\", "", "'"),
        nest("\"\"\"", "(", ""),
        nest("r'", "(", "\\'"),
        nest("`", "(", "`"),
        nest(".", "a", ""),
        nest("?", "a", ":"),
        nest("item.l.map(x,item.l.map(y,", "x", "))"),
        chain("item.a", "+1"),
        chain("item.a", "*-1"),
        chain("item.a", ".a"),
        chain("item.l", "[0]"),
        chain("item.t", "&&item.t"),
        chain("item.t", "||!item.t"),
        chain("item.a", " in[1]"),
        chain("item.a", "<2"),
        chain("'a'", ".trim()"),
        chain("[1]", ".map(x,x)"),
        chain("9", "9"),
        chain("0x", "f"),
        chain("1e", "9"),
        chain("\u{1F388}", "\u{1F388}"),
    ]
    .into_iter()
    .flatten()
}

#[test]
fn no_text_overflows_the_stack_or_takes_long() {
    on_a_small_stack(|| {
        let item = json!({"a": 1, "l": [1, 2], "t": true});
        let mut compiled = 0;
        for text in nested_texts() {
            if let Ok(expression) = Expression::compile(&text) {
                compiled += 1;
                let _ = expression.evaluate(&item);
            }
        }
        assert!(compiled > 100, "{compiled}");
    });
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    /// Pieces that nest, in any order: whatever passes the bounds is parsed, evaluated and dropped on a small stack.
    #[test]
    fn random_pieces_neither_panic_nor_overflow(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "(", ")", "[", "]", "{", "}", "-", "!", "?", ":", ",", ".", "'", "\"", "'''", "r'", "b\"", "\\", "//", "\n", " ", "item", "item.a", "x", "1", "1u", "1.5", "0x1f",
        "true", "null", " in ", "&&", "||", "==", "<", "+", "*", "%", ".map(x,", ".all(x,", ".exists_one(x,", "has(", "size(", "[0]", "{'a':", "\u{e9}", "`",
    ]), 1..200)) {
        let text = pieces.concat();
        on_a_small_stack(move || {
            if let Ok(expression) = Expression::compile(&text) {
                let _ = expression.evaluate(&json!({"a": [1, 2, {"b": "c"}]}));
            }
        });
    }
}
