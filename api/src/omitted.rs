//! Values that are left out of documents and statuses.

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
pub(crate) const fn is_zero(n: &i32) -> bool {
    *n == 0
}
