//! How long schema, drain, deletion and check Jobs wait before they are retried: the same for all of them.

use std::time::Duration;

use userpipeline_runtime::doubled;

const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The time between the failure of attempt `failed_attempts` and the next attempt.
pub fn back_off(failed_attempts: i32) -> Duration {
    doubled(FIRST_RETRY, LONGEST_RETRY, u32::try_from(failed_attempts).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_up_to_a_minute() {
        let seconds: Vec<u64> = [0, 1, 2, 3, 4, 5, 6, 7, 1000, i32::MAX]
            .into_iter()
            .map(|n| back_off(n).as_secs())
            .collect();
        assert_eq!(seconds, [2, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    }
}
