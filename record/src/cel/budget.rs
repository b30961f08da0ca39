//! What one evaluation may use. CEL always ends, but a `map` within a `map` within a `map` ends too late, and a text that is joined
//! with itself in a loop needs too much memory.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use cel::{
    ExecutionError,
    common::{
        types::{CelBytes, CelList, CelMap, CelString},
        value::Val,
    },
};
use rustix::time::{ClockId, clock_gettime};

/// Iterations of all loops, and values written into lists and maps.
const MAX_STEPS: u64 = 1_000_000;
/// Bytes of all values that are made: as many as an item may take in memory.
const MAX_BYTES: usize = 32 << 20;
/// CPU time of the thread, so that a busy node does not reject records. Tests are built without optimisation, so that a million steps
/// may take longer than they do in a program.
const MAX_CPU: Duration = Duration::from_secs(if cfg!(test) { 10 } else { 2 });
/// Bytes of a value without its contents.
const VALUE: usize = 32;

thread_local! {
    static BUDGET: RefCell<Budget> = RefCell::default();
}

#[derive(Default)]
struct Budget {
    steps: u64,
    bytes: usize,
    /// None until the first evaluation of the thread.
    started: Option<Start>,
    exceeded: Option<&'static str>,
}

#[derive(Clone, Copy)]
struct Start {
    /// Never behind the CPU clock, and read without a system call.
    elapsed: Instant,
    cpu: Duration,
}

/// Evaluates with a full budget. An evaluation that exceeded it fails, even where the expression ignores the error: `… || true`.
pub fn within<T>(evaluate: impl FnOnce() -> Result<T, ExecutionError>) -> Result<Result<T, ExecutionError>, String> {
    BUDGET.set(Budget {
        started: Some(Start {
            elapsed: Instant::now(),
            cpu: cpu_time(),
        }),
        ..Budget::default()
    });
    let value = evaluate();
    BUDGET.with_borrow(|budget| match budget.exceeded {
        Some(bound) => Err(format!(
            "it needs more than {bound}: loop over less, or make shorter texts and lists"
        )),
        None => Ok(value),
    })
}

/// Counts a step that makes `bytes`.
pub fn spend(bytes: usize) -> Result<(), ExecutionError> {
    BUDGET.with_borrow_mut(|budget| {
        budget.steps += 1;
        budget.bytes = budget.bytes.saturating_add(bytes);
        if budget.steps > MAX_STEPS {
            budget.exceeded = Some("1,000,000 steps");
        } else if budget.bytes > MAX_BYTES {
            budget.exceeded = Some("32 MiB of memory");
        } else if budget
            .started
            .is_some_and(|start| start.elapsed.elapsed() > MAX_CPU && cpu_time() > start.cpu + MAX_CPU)
        {
            budget.exceeded = Some("2 s of CPU time");
        }
        match budget.exceeded {
            Some(bound) => Err(ExecutionError::function_error("budget", bound)),
            None => Ok(()),
        }
    })
}

/// Whether loops should end: they catch errors of their steps.
pub fn is_exceeded() -> bool {
    BUDGET.with_borrow(|budget| budget.exceeded.is_some())
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// About how many bytes a value takes.
pub fn size(value: &dyn Val) -> usize {
    let contents = if let Some(text) = value.downcast_ref::<CelString>() {
        text.inner().len()
    } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        bytes.inner().len()
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().iter().map(|item| size(item.as_ref())).sum()
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        map.inner().iter().map(|(key, item)| size(key.inner()) + size(item.as_ref())).sum()
    } else {
        0
    };
    VALUE + contents
}
