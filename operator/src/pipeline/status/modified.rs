//! `Modified`: whether others than the operator changed children of the pipeline. Pure.

use super::verdict::Verdict;
use crate::pipeline::apply::Override;

/// Separate from `Ready`: a webhook of the cluster may be right, and nobody but its owner knows.
pub fn modified(overridden: &[Override]) -> Verdict {
    if overridden.is_empty() {
        return Verdict::no("NotModified", "the children are as the operator applied them");
    }
    let children: Vec<String> = overridden.iter().map(ToString::to_string).collect();
    Verdict::yes(
        "Overridden",
        &format!(
            "a mutating webhook changes what the operator applies: {}. The operator writes these objects again when the spec or the object changes",
            children.join("; ")
        ),
    )
}
