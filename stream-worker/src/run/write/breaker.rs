//! Suspends a worker where most messages would be dead letters: then their producer or the pipeline's declaration is wrong,
//! not single messages. Pure.

use std::collections::VecDeque;

/// A share of fewer messages is not significant.
const ENOUGH: usize = 100;
/// Messages in the window.
const REMEMBERED: usize = 1000;

/// The share of dead letters among the messages read last.
#[derive(Debug)]
pub struct Breaker {
    most: f64,
    /// Read and bad, of each batch.
    batches: VecDeque<(usize, usize)>,
}

impl Breaker {
    /// Opens when a share greater than `most` is bad.
    pub const fn new(most: f64) -> Self {
        Self {
            most,
            batches: VecDeque::new(),
        }
    }

    fn sums(&self) -> (usize, usize) {
        self.batches.iter().fold((0, 0), |sums, batch| (sums.0 + batch.0, sums.1 + batch.1))
    }

    /// Whether a batch may pass; else how many messages would be bad, of how many. A batch within the limit passes whatever came
    /// before: a fixed topic must not wait for ever.
    pub fn admits(&self, read: usize, bad: usize) -> Result<(), (usize, usize)> {
        let (before, bad_before) = self.sums();
        let (all, all_bad) = (read + before, bad + bad_before);
        if all >= ENOUGH && self.too_many(read, bad) && self.too_many(all, all_bad) {
            Err((all_bad, all))
        } else {
            Ok(())
        }
    }

    #[allow(clippy::cast_precision_loss)] // Some thousands.
    fn too_many(&self, read: usize, bad: usize) -> bool {
        bad as f64 > self.most * read as f64
    }

    /// A batch has passed.
    pub fn passed(&mut self, read: usize, bad: usize) {
        self.batches.push_back((read, bad));
        while self.sums().0 - self.batches.front().map_or(0, |batch| batch.0) >= REMEMBERED {
            self.batches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_when_most_of_enough_messages_are_bad() {
        for (most, before, batch, admitted) in [
            // Too few.
            (0.5, vec![], (99, 99), true),
            (0.5, vec![], (100, 50), true),
            (0.5, vec![], (100, 51), false),
            (0.5, vec![(50, 50)], (50, 50), false),
            // What was good before counts, for a while.
            (0.5, vec![(1000, 0)], (500, 500), true),
            (0.5, vec![(1000, 0), (900, 900)], (500, 500), false),
            // What was bad before keeps nothing good waiting.
            (0.5, vec![(99, 99)], (1, 0), true),
            (0.5, vec![(99, 99)], (50, 10), true),
            (0.5, vec![(99, 99)], (50, 50), false),
            (0.0, vec![(50, 1)], (100, 0), true),
            (0.0, vec![], (100, 1), false),
            (1.0, vec![(1000, 1000)], (500, 500), true),
        ] {
            let mut breaker = Breaker::new(most);
            for (read, bad) in before {
                breaker.passed(read, bad);
            }
            assert_eq!(
                breaker.admits(batch.0, batch.1).is_ok(),
                admitted,
                "{most} {batch:?} after {breaker:?}"
            );
        }
    }

    #[test]
    fn it_forgets() {
        let mut breaker = Breaker::new(0.5);
        for _ in 0..1000 {
            breaker.passed(10, 10);
        }
        assert_eq!(breaker.sums().0, REMEMBERED);
        for _ in 0..100 {
            breaker.passed(10, 0);
        }
        assert_eq!(breaker.admits(10, 0), Ok(()));
        assert_eq!(breaker.sums(), (REMEMBERED, 0));
    }
}
