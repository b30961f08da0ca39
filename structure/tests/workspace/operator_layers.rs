//! Within the operator's `pipeline/`, a file imports from its own layer or from a lower one.

use std::path::Path;

use userpipeline_structure::Imports;

use crate::{CRATES, WORKSPACE};

const ROOT: &str = "operator/src/lib.rs";
const FOLDER: &str = "operator/src/pipeline";

/// From the lowest to the highest: a folder, or a file without its extension. A layer takes effect when it exists.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["cache"],
    &["children"],
    &["caches"],
    &["observe"],
    &["validate"],
    &["connections"],
    &["task"],
    &["decide"],
    &["desired"],
    &["apply"],
    &["status"],
    &["reconcile_back_off", "context", "reconcile_error"],
    &["connection_turn", "kafka_user_turn", "topics_turn"],
    &["deletion", "unreadable", "upgrade_turn"],
    &["reconcile"],
    &["controller", "plan"],
];

/// The layer of a file of the folder, by its place in it.
fn layer(file: &Path) -> Option<(usize, &str)> {
    let within = file.strip_prefix(FOLDER).ok()?;
    let place = Path::new(within.components().next()?.as_os_str());
    let name = place.file_stem()?.to_str()?;
    let layer = LAYERS.iter().position(|names| names.contains(&name))?;
    Some((layer, LAYERS[layer].iter().find(|known| **known == name)?))
}

/// Imports of a higher layer. What is in no layer yet may import anything, but the lowest layer imports nothing else of the folder.
fn violations(imports: &Imports) -> Vec<String> {
    let mut violations = Vec::new();
    for ((from, to), names) in imports {
        if !from.starts_with(FOLDER) || !to.starts_with(FOLDER) {
            continue;
        }
        let is_upward = match (layer(from), layer(to)) {
            (Some((from, _)), Some((to, _))) => from < to,
            (Some((0, _)), None) => true,
            _ => false,
        };
        if is_upward {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            violations.push(format!("{} -> {} ({})", from.display(), to.display(), names.join(", ")));
        }
    }
    violations
}

#[test]
fn no_file_of_the_operator_imports_from_a_higher_layer() {
    let operator = CRATES.iter().find(|one| one.root == Path::new(ROOT)).unwrap();
    let violations = violations(&operator.imports);
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn once_all_layers_exist_everything_in_the_folder_has_a_layer() {
    let folder = WORKSPACE.root.join(FOLDER);
    let exists = |name: &&str| folder.join(name).is_dir() || folder.join(format!("{name}.rs")).is_file();
    if !LAYERS.iter().flat_map(|names| names.iter()).all(exists) {
        return;
    }
    for entry in folder.read_dir().unwrap() {
        let name = entry.unwrap().file_name();
        let is_listed = layer(&Path::new(FOLDER).join(&name)).is_some();
        assert!(
            is_listed || ["example.rs", "mod.rs", "tests"].contains(&name.to_str().unwrap()),
            "{name:?} is in no layer"
        );
    }
}

#[test]
fn an_import_of_a_higher_layer_is_reported() {
    let import = |from: &str, to: &str| {
        let path = |name: &str| Path::new(FOLDER).join(name);
        ((path(from), path(to)), ["Name".to_owned()].into())
    };
    let allowed = Imports::from([
        import("apply/mod.rs", "desired/job.rs"),
        import("status/mod.rs", "status/ready.rs"),
        import("not_placed_yet.rs", "controller.rs"),
        import("observe/mod.rs", "not_placed_yet.rs"),
    ]);
    assert!(violations(&allowed).is_empty());
    let refused = Imports::from([
        import("decide/schedule.rs", "reconcile.rs"),
        import("model/labels.rs", "validate/mod.rs"),
        import("model/labels.rs", "not_placed_yet.rs"),
    ]);
    let found = violations(&refused);
    assert_eq!(found.len(), 3);
    assert_eq!(
        found[0],
        "operator/src/pipeline/decide/schedule.rs -> operator/src/pipeline/reconcile.rs (Name)"
    );
}
