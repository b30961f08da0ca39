//! Delays between attempts.

use std::time::Duration;

use userpipeline_runtime::BackOff;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

pub const fn back_off() -> BackOff {
    BackOff::new(FIRST, LONGEST)
}
