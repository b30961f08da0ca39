//! Items of lists have no defaults in the CRDs. The apiserver would add them to what a user wrote, and `kubectl apply` and Argo CD,
//! which compare lists as a whole, would see a difference that never settles. The programs apply the default when they read.

use schemars::Schema;

/// Removes the default of a field.
pub fn without_default(schema: &mut Schema) {
    schema.remove("default");
}
