//! The modules of a crate, read from its root file on.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use syn::{Expr, ExprLit, ItemMod, Lit, Meta};

use crate::parse::{self, ModuleSource, Use};

/// What a name means in a module. One name can mean a module and a function at the same time.
#[derive(Debug, Clone)]
pub(crate) enum Binding {
    Item,
    Module(usize),
    Use(parse::Path),
}

#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) file: PathBuf,
    pub(crate) parent: Option<usize>,
    pub(crate) bindings: BTreeMap<String, Vec<Binding>>,
    pub(crate) uses: Vec<Use>,
    pub(crate) paths: Vec<parse::Path>,
}

/// The modules of one crate. The first one is its root.
#[derive(Debug, Default)]
pub struct ModuleTree {
    pub(crate) modules: Vec<Module>,
}

/// A file to read, and the folder in which the files of its modules are.
struct Place {
    file: PathBuf,
    folder: PathBuf,
}

impl ModuleTree {
    /// Reads a crate. `read` gives the text of a file, or nothing where there is none.
    pub fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Self, String> {
        let mut tree = Self::default();
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        let file = root.to_owned();
        tree.add_file(&Place { file, folder }, None, read)?;
        Ok(tree)
    }

    fn add_file(&mut self, place: &Place, parent: Option<usize>, read: &dyn Fn(&Path) -> Option<String>) -> Result<usize, String> {
        let file = place.file.display();
        let text = read(&place.file).ok_or_else(|| format!("{file} cannot be read"))?;
        let parsed = syn::parse_file(&text).map_err(|error| format!("{file}: {error}"))?;
        self.add_module(ModuleSource::read(parsed.items), place, parent, read)
    }

    fn add_module(
        &mut self,
        source: ModuleSource,
        place: &Place,
        parent: Option<usize>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<usize, String> {
        let this = self.modules.len();
        let mut bindings: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
        for name in source.items {
            bindings.entry(name).or_default().push(Binding::Item);
        }
        for import in &source.uses {
            if let Some(name) = &import.name {
                bindings.entry(name.clone()).or_default().push(Binding::Use(import.path.clone()));
            }
        }
        self.modules.push(Module {
            file: place.file.clone(),
            parent,
            bindings,
            uses: source.uses,
            paths: source.paths.into_iter().collect(),
        });
        for module in source.modules {
            let name = module.ident.to_string().trim_start_matches("r#").to_owned();
            let child = self.add_child(module, &name, place, this, read)?;
            let bindings = &mut self.modules[this].bindings;
            bindings.entry(name).or_default().push(Binding::Module(child));
        }
        Ok(this)
    }

    fn add_child(
        &mut self,
        module: ItemMod,
        name: &str,
        place: &Place,
        parent: usize,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<usize, String> {
        let folder = place.folder.join(name);
        if let Some((_, items)) = module.content {
            let file = place.file.clone();
            return self.add_module(ModuleSource::read(items), &Place { file, folder }, Some(parent), read);
        }
        if let Some((beside, path)) = place.file.parent().zip(path_attribute(&module)) {
            let file = beside.join(path);
            let folder = file.parent().unwrap_or(beside).to_owned();
            return self.add_file(&Place { file, folder }, Some(parent), read);
        }
        let candidates = [folder.with_extension("rs"), folder.join("mod.rs")];
        let Some(file) = candidates.iter().find(|file| read(file).is_some()).cloned() else {
            return Err(format!("{}: no file has the module {name}", place.file.display()));
        };
        self.add_file(&Place { file, folder }, Some(parent), read)
    }
}

/// The value of `#[path = "…"]`.
fn path_attribute(module: &ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    })
}
