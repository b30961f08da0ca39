//! What a panic ends: the whole process, because a program that lost one of its tasks would look healthy. In the operator, which
//! serves many authors, it ends only the work on one author's text.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    process::abort,
};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic on any thread ends the process, except within [`contain`].
pub fn abort_on_panic() {
    let report = take_hook();
    set_hook(Box::new(move |panic| {
        report(panic);
        if !CONTAINED.get() {
            abort();
        }
    }));
}

/// Does `work`; the error is the panic that ended it. Other threads and later work must not depend on what it changed.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    CONTAINED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_is_an_error_and_the_next_work_is_done() {
        abort_on_panic();
        let index = std::hint::black_box(7);
        assert!(contain(|| [1, 2, 3][index]).unwrap_err().contains("out of bounds"));
        assert_eq!(contain(|| 7), Ok(7));
    }
}
