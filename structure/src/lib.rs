//! Reads the workspace's own source: which file of a crate imports from which other file, and which crate depends on which.
//!
//! The rules themselves are tests, in `tests/workspace.rs`.

mod cycles;
mod imports;
mod parse;
mod tree;
mod workspace;

pub use cycles::{Cycle, knots};
pub use imports::{Import, Imports};
pub use tree::ModuleTree;
pub use workspace::{Dependency, Package, Workspace};
