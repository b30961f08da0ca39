//! Files that import each other in a circle.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    path::{Path, PathBuf},
};

use crate::imports::{Import, Imports};

/// A circle of imports: each file imports the names from the next one, and the last one from the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cycle(Vec<(PathBuf, Import)>);

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (file, _)) in self.0.iter().enumerate() {
            let (next, _) = &self.0[(position + 1) % self.0.len()];
            if position == 0 {
                write!(f, "{}", file.display())?;
            }
            let names: Vec<_> = self.0[position].1.iter().map(String::as_str).collect();
            write!(f, " -> {} ({})", next.display(), names.join(", "))?;
        }
        Ok(())
    }
}

/// The largest sets of files in which each one reaches each other one, and the shortest cycle through each import within.
pub fn knots(imports: &Imports) -> BTreeMap<BTreeSet<PathBuf>, BTreeSet<Cycle>> {
    let mut knots: BTreeMap<BTreeSet<PathBuf>, BTreeSet<Cycle>> = BTreeMap::new();
    let next = neighbours(imports);
    for (from, to) in imports.keys() {
        let Some(path) = shortest_path(&next, to, from) else {
            continue;
        };
        let files = reachable(&next, from)
            .into_iter()
            .filter(|file| reachable(&next, file).contains(from.as_path()));
        let files = files.map(Path::to_owned).collect();
        knots.entry(files).or_default().insert(cycle(path, imports));
    }
    knots
}

/// The first file is the smallest one, so the same cycle is always written the same way.
fn cycle(mut files: Vec<PathBuf>, imports: &Imports) -> Cycle {
    let smallest = (0..files.len()).min_by_key(|position| &files[*position]);
    files.rotate_left(smallest.unwrap_or_default());
    let names = |position: usize| {
        let next = &files[(position + 1) % files.len()];
        imports.get(&(files[position].clone(), next.clone())).cloned().unwrap_or_default()
    };
    Cycle(
        (0..files.len())
            .map(|position| (files[position].clone(), names(position)))
            .collect(),
    )
}

type Neighbours<'a> = BTreeMap<&'a Path, Vec<&'a Path>>;

fn neighbours(imports: &Imports) -> Neighbours<'_> {
    let mut next = Neighbours::new();
    for (from, to) in imports.keys() {
        next.entry(from).or_default().push(to);
    }
    next
}

fn reachable<'a>(next: &Neighbours<'a>, from: &'a Path) -> BTreeSet<&'a Path> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for file in next.get(file).into_iter().flatten() {
            if found.insert(*file) {
                open.push(file);
            }
        }
    }
    found
}

/// Both ends included.
fn shortest_path(next: &Neighbours<'_>, from: &Path, to: &Path) -> Option<Vec<PathBuf>> {
    let mut before: BTreeMap<&Path, Option<&Path>> = BTreeMap::from([(from, None)]);
    let mut open = VecDeque::from([from]);
    while let Some(file) = open.pop_front() {
        if file == to {
            let mut path = vec![file.to_owned()];
            let mut at = file;
            while let Some(Some(previous)) = before.get(at) {
                path.push((*previous).to_owned());
                at = previous;
            }
            path.reverse();
            return Some(path);
        }
        for neighbour in next.get(file).into_iter().flatten().copied() {
            if let std::collections::btree_map::Entry::Vacant(entry) = before.entry(neighbour) {
                entry.insert(Some(file));
                open.push_back(neighbour);
            }
        }
    }
    None
}
