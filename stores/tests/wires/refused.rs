//! What a refusal must say.

use std::fmt::Debug;

use userpipeline_stores::StoreError;

#[track_caller]
pub fn assert_refused<T: Debug>(result: Result<T, StoreError>, reason: &str, says: &[&str]) {
    let error = result.expect_err("refused");
    assert_eq!(error.reason, reason, "{error}");
    for text in says {
        assert!(error.message.contains(text), "{text}: {error}");
    }
}
