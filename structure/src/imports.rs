//! Which file of a crate imports from which other file.
//!
//! A path is followed to the file that defines the item at its end, through every re-export. So a façade is not what its
//! users import from, unless they use what it defines itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use crate::tree::{Binding, ModuleTree};

/// What one file imports from another one: the names.
pub type Import = BTreeSet<String>;

/// By the importing file and the imported one.
pub type Imports = BTreeMap<(PathBuf, PathBuf), Import>;

/// Where a path leads within the crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Module(usize),
    Item { module: usize, name: String },
}

/// The names that are being looked up, so that a circle of re-exports ends.
type Visited = BTreeSet<(usize, String)>;

impl ModuleTree {
    /// What the files of the crate import from each other.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (number, module) in self.modules.iter().enumerate() {
            let used = module.uses.iter().map(|leaf| &leaf.path).chain(&module.paths);
            for target in used.flat_map(|path| self.resolve(number, path, &mut Visited::new())) {
                let Target::Item { module: owner, name } = target else {
                    continue;
                };
                let (from, to) = (&module.file, &self.modules[owner].file);
                if from != to {
                    imports.entry((from.clone(), to.clone())).or_default().insert(name);
                }
            }
        }
        imports
    }

    /// Where a path in a module leads: nowhere if it leaves the crate.
    fn resolve(&self, from: usize, path: &[String], visited: &mut Visited) -> Vec<Target> {
        let Some((first, mut rest)) = path.split_first() else {
            return Vec::new();
        };
        let mut targets = match first.as_str() {
            "crate" => vec![Target::Module(0)],
            "self" => vec![Target::Module(from)],
            "super" => self.modules[from].parent.map(Target::Module).into_iter().collect(),
            name => self.look_up(from, name, visited),
        };
        while let Some((name, others)) = rest.split_first() {
            targets = targets.into_iter().flat_map(|target| self.step(target, name, visited)).collect();
            rest = others;
        }
        targets
    }

    fn step(&self, target: Target, name: &str, visited: &mut Visited) -> Vec<Target> {
        match target {
            // A variant, or an associated function.
            Target::Item { .. } => vec![target],
            Target::Module(module) if name == "super" => self.modules[module].parent.map(Target::Module).into_iter().collect(),
            Target::Module(module) => self.look_up(module, name, visited),
        }
    }

    fn look_up(&self, module: usize, name: &str, visited: &mut Visited) -> Vec<Target> {
        if !visited.insert((module, name.to_owned())) {
            return Vec::new();
        }
        let mut found = Vec::new();
        let bindings = self.modules[module].bindings.get(name);
        for binding in bindings.into_iter().flatten() {
            match binding {
                Binding::Item => found.push(Target::Item {
                    module,
                    name: name.to_owned(),
                }),
                Binding::Module(child) => found.push(Target::Module(*child)),
                Binding::Use(path) => found.extend(self.resolve(module, path, visited)),
            }
        }
        if bindings.is_none() {
            let globs = self.modules[module].uses.iter().filter(|leaf| leaf.is_glob);
            for target in globs.flat_map(|glob| self.resolve(module, &glob.path, visited)).collect::<Vec<_>>() {
                if let Target::Module(other) = target {
                    found.extend(self.look_up(other, name, visited));
                }
            }
        }
        visited.remove(&(module, name.to_owned()));
        found
    }
}

#[cfg(test)]
#[path = "imports_tests.rs"]
mod tests;
