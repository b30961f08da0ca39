//! What one module says: the names it defines, the names it imports, and the paths it uses. Code for tests is left out.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, ImplItem, Item, ItemMod, ItemUse, Macro, Meta, Token, UseTree, Visibility, punctuated::Punctuated, visit::Visit};

/// The segments of `a::b::c`.
pub(crate) type Path = Vec<String>;

/// One leaf of a `use`.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) path: Path,
    /// The name it has here; `None` for a glob and for `as _`.
    pub(crate) name: Option<String>,
    pub(crate) is_glob: bool,
}

#[derive(Default)]
pub(crate) struct ModuleSource {
    pub(crate) items: BTreeSet<String>,
    pub(crate) uses: Vec<Use>,
    /// Every path in the module's code, macros included.
    pub(crate) paths: BTreeSet<Path>,
    pub(crate) modules: Vec<ItemMod>,
}

impl ModuleSource {
    pub(crate) fn read(items: Vec<Item>) -> Self {
        let mut source = Self::default();
        for item in items {
            if is_for_tests(attributes(&item)) {
                continue;
            }
            match item {
                Item::Mod(module) => source.modules.push(module),
                item => {
                    source.items.extend(defined_name(&item));
                    source.visit_item(&item);
                }
            }
        }
        source
    }

    /// Finds paths in tokens that are not parsed, as macros have them.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path = Path::new();
        let mut colons = 0;
        let mut is_member = false;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    let continues = colons == 2;
                    if !continues {
                        self.end_of(&mut path);
                    }
                    // `.a` is a member, and `::a` with nothing before it is another crate.
                    if (continues && !path.is_empty()) || (!continues && !is_member) {
                        path.push(unraw(&ident));
                    }
                    (colons, is_member) = (0, false);
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end_of(&mut path);
                    self.scan(group.stream());
                    (colons, is_member) = (0, false);
                }
                TokenTree::Literal(literal) => {
                    self.end_of(&mut path);
                    self.paths.extend(quoted_path(&literal.to_string()));
                    (colons, is_member) = (0, false);
                }
                TokenTree::Punct(punct) => {
                    self.end_of(&mut path);
                    (colons, is_member) = (0, punct.as_char() == '.');
                }
            }
        }
        self.end_of(&mut path);
    }

    fn end_of(&mut self, path: &mut Path) {
        if !path.is_empty() {
            self.paths.insert(std::mem::take(path));
        }
    }
}

impl<'ast> Visit<'ast> for ModuleSource {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        // `::a` is another crate.
        if path.leading_colon.is_none() {
            self.paths
                .insert(path.segments.iter().map(|segment| unraw(&segment.ident)).collect());
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            leaves(&item.tree, &mut Path::new(), &mut self.uses);
        }
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        self.visit_path(&invocation.path);
        self.scan(invocation.tokens.clone());
    }

    // serde and clap name functions in attributes, some of them in strings.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::Path(_) => {}
            Meta::List(list) => self.scan(list.tokens.clone()),
            Meta::NameValue(pair) => self.visit_expr(&pair.value),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let is_for_tests = match item {
            ImplItem::Fn(item) => is_for_tests(&item.attrs),
            ImplItem::Const(item) => is_for_tests(&item.attrs),
            _ => false,
        };
        if !is_for_tests {
            syn::visit::visit_impl_item(self, item);
        }
    }

    // `pub(in path)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

fn leaves(tree: &UseTree, prefix: &mut Path, found: &mut Vec<Use>) {
    let mut leaf = |prefix: &Path, last: &str, name: &str| {
        let mut path = prefix.clone();
        if last != "self" || path.is_empty() {
            path.push(last.to_owned());
        }
        let name = if name == "self" {
            path.last().cloned()
        } else {
            Some(name.to_owned())
        };
        let name = name.filter(|name| name != "_");
        let is_glob = false;
        found.push(Use { path, name, is_glob });
    };
    match tree {
        UseTree::Name(tree) => leaf(prefix, &unraw(&tree.ident), &unraw(&tree.ident)),
        UseTree::Rename(tree) => leaf(prefix, &unraw(&tree.ident), &unraw(&tree.rename)),
        UseTree::Glob(_) => found.push(Use {
            path: prefix.clone(),
            name: None,
            is_glob: true,
        }),
        UseTree::Path(tree) => {
            prefix.push(unraw(&tree.ident));
            leaves(&tree.tree, prefix, found);
            prefix.pop();
        }
        UseTree::Group(tree) => {
            for tree in &tree.items {
                leaves(tree, prefix, found);
            }
        }
    }
}

fn unraw(ident: &proc_macro2::Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

/// The path in `"crate::a::b"`.
fn quoted_path(literal: &str) -> Option<Path> {
    let path: syn::Path = syn::parse_str(literal.strip_prefix('"')?.strip_suffix('"')?).ok()?;
    (path.segments.len() > 1).then(|| path.segments.iter().map(|segment| unraw(&segment.ident)).collect())
}

/// Whether `#[cfg(…)]` is true in tests only.
pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    let mut conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions.any(|attribute| attribute.parse_args().is_ok_and(|condition| requires_test(&condition)))
}

fn requires_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else {
        return condition.path().is_ident("test");
    };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    let Ok(parts) = parts else { return false };
    if list.path.is_ident("all") {
        parts.iter().any(requires_test)
    } else {
        list.path.is_ident("any") && parts.iter().all(requires_test)
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn defined_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(unraw(ident))
}
