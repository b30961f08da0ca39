use std::path::Path;

use super::*;
use crate::knots;

fn imports(files: &[(&str, &str)]) -> Imports {
    let text = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    ModuleTree::read(Path::new(files[0].0), &text).unwrap().imports()
}

/// `a.rs -> b.rs (Name)`, one for each import.
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    let arrow = |((from, to), names): ((PathBuf, PathBuf), Import)| {
        let names: Vec<_> = names.into_iter().collect();
        format!("{} -> {} ({})", from.display(), to.display(), names.join(", "))
    };
    imports(files).into_iter().map(arrow).collect()
}

fn cycles(files: &[(&str, &str)]) -> Vec<String> {
    let knots = knots(&imports(files));
    knots.values().flatten().map(ToString::to_string).collect()
}

#[test]
fn two_files_that_import_each_other_are_a_cycle() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B; fn f(_: super::a::A) {}"),
    ];
    assert_eq!(cycles(&files), ["a.rs -> b.rs (B) -> a.rs (A)"]);
}

#[test]
fn a_cycle_of_three_files_is_printed_once_from_its_first_file() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("c.rs", "use crate::a::A; pub struct C(A);"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "use crate::c::C; pub struct B(C);"),
    ];
    assert_eq!(cycles(&files), ["a.rs -> b.rs (B) -> c.rs (C) -> a.rs (A)"]);
}

#[test]
fn a_child_that_uses_an_item_of_its_parent_is_a_cycle_if_the_parent_uses_the_child() {
    let parent = "mod child; pub struct Parent; fn f() { child::run(); }";
    let child = ("p/child.rs", "use super::Parent; pub fn run() -> Parent { Parent }");
    let files = [("lib.rs", "mod p;"), ("p/mod.rs", parent), child];
    assert_eq!(cycles(&files), ["p/child.rs -> p/mod.rs (Parent) -> p/child.rs (run)"]);

    // A parent that only declares its child does not use it.
    let files = [("lib.rs", "mod p;"), ("p/mod.rs", "mod child; pub struct Parent;"), child];
    assert_eq!(arrows(&files), ["p/child.rs -> p/mod.rs (Parent)"]);
    assert!(cycles(&files).is_empty());
}

#[test]
fn siblings_that_meet_at_a_facade_are_no_cycle() {
    let files = [
        ("lib.rs", "mod p; mod q; pub use p::One;"),
        ("p/mod.rs", "mod one; mod two; pub use one::One; pub use two::*;"),
        ("p/one.rs", "pub struct One; pub enum Kind { First }"),
        ("p/two.rs", "use super::One; pub struct Two(One);"),
        ("q.rs", "use crate::{One, p::{self, Two}}; fn f(_: One, _: Two, _: p::Two) {}"),
    ];
    let found = arrows(&files);
    let from_a_user: Vec<_> = found
        .iter()
        .filter(|arrow| !arrow.starts_with("p/mod") && !arrow.starts_with("lib"))
        .collect();
    assert_eq!(
        from_a_user,
        ["p/two.rs -> p/one.rs (One)", "q.rs -> p/one.rs (One)", "q.rs -> p/two.rs (Two)"]
    );
    assert!(cycles(&files).is_empty(), "{:?}", cycles(&files));
}

#[test]
fn imports_of_tests_do_not_count() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "pub struct A;
             #[cfg(test)] use crate::b::B;
             #[cfg(test)] mod tests { use crate::b::B; fn f(_: B) {} }
             #[cfg(all(test, unix))] fn f(_: crate::b::B) {}
             #[cfg(test)] mod in_a_file_that_is_not_even_read;",
        ),
        ("b.rs", "use crate::a::A; pub struct B(A);"),
    ];
    assert_eq!(arrows(&files), ["b.rs -> a.rs (A)"]);
}

#[test]
fn code_for_anything_else_than_tests_counts() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "#[cfg(not(test))] use crate::b::B; #[cfg(any(test, unix))] fn f(_: crate::b::C) {}",
        ),
        ("b.rs", "pub struct B; pub struct C;"),
    ];
    assert_eq!(arrows(&files), ["a.rs -> b.rs (B, C)"]);
}

#[test]
fn paths_are_found_wherever_code_has_them() {
    let user = r#"
        use super::b::{self, Kind as K};
        use b::deep;
        fn f() { use crate::b::in_a_body; in_a_body(); format!("{}", crate::b::in_a_macro(x.y::<z>())); }
        fn g() -> b::Return { b::Kind::First; b::deep::function(); }
        #[derive(Default)] #[arg(value_parser = crate::b::in_an_attribute)]
        struct S { #[serde(default = "crate::b::in_a_string")] field: Vec<crate::b::Generic<u8>> }
        impl crate::b::Trait for S {}
        pub(in crate::b) fn visibility() {}
    "#;
    let definitions =
        "pub enum Kind { First } pub struct Return; pub struct Generic<T>(T); pub trait Trait {} pub mod deep { pub fn function() {} }
        pub fn in_a_body() {} pub fn in_a_macro() {} pub fn in_an_attribute() {} pub fn in_a_string() {} pub fn visibility() {}";
    let files = [("lib.rs", "mod a; mod b;"), ("a.rs", user), ("b.rs", definitions)];
    assert_eq!(
        arrows(&files),
        ["a.rs -> b.rs (Generic, Kind, Return, Trait, function, in_a_body, in_a_macro, in_a_string, in_an_attribute)"]
    );
}

#[test]
fn a_glob_imports_the_names_that_are_used_and_no_other() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::*; fn f() { own(); Used; } fn own() {}"),
        ("b.rs", "pub use crate::c::*; pub struct Unused; pub fn own() {}"),
        ("c.rs", "pub struct Used;"),
    ];
    assert_eq!(arrows(&files), ["a.rs -> c.rs (Used)"]);
}

#[test]
fn names_of_other_crates_and_of_the_language_lead_nowhere() {
    let files = [
        ("lib.rs", "mod a; mod b; pub use serde::Serialize;"),
        (
            "a.rs",
            "use std::fmt; use serde::Deserialize; use super::Serialize; fn f(_: String, _: fmt::Error, _: ::b::B) { Self::g(); }",
        ),
        ("b.rs", "pub struct B; pub struct Serialize2;"),
    ];
    assert!(arrows(&files).is_empty(), "{:?}", arrows(&files));
}

#[test]
fn modules_are_found_in_folders_and_under_other_names() {
    let files = [
        (
            "src/main.rs",
            "mod a; mod inline { pub mod deep; } #[path = \"elsewhere.rs\"] mod named;",
        ),
        ("src/a.rs", "mod child; use child::C;"),
        ("src/a/child.rs", "pub struct C; use crate::named::N; use crate::inline::deep::D;"),
        ("src/inline/deep.rs", "pub struct D;"),
        ("src/elsewhere.rs", "pub struct N;"),
    ];
    assert_eq!(
        arrows(&files),
        [
            "src/a/child.rs -> src/elsewhere.rs (N)",
            "src/a/child.rs -> src/inline/deep.rs (D)",
            "src/a.rs -> src/a/child.rs (C)",
        ]
    );
}

#[test]
fn a_module_without_a_file_is_an_error() {
    let error = ModuleTree::read(Path::new("lib.rs"), &|path| {
        (path == Path::new("lib.rs")).then(|| "mod gone;".to_owned())
    });
    assert_eq!(error.unwrap_err(), "lib.rs: no file has the module gone");
}
