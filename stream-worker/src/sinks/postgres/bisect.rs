//! Finds which of many items are refused, where only a whole set can be tried. Pure: the caller tries.

use std::ops::Range;

/// A search for refused items among `0..len`.
#[derive(Debug)]
pub struct Bisect {
    /// Sets to try, the next one last.
    left: Vec<Range<usize>>,
    refused: Vec<(usize, String)>,
}

impl Bisect {
    pub fn new(len: usize) -> Self {
        let mut left = Vec::new();
        if len > 0 {
            left.push(0..len);
        }
        Self { left, refused: Vec::new() }
    }

    /// The next set to try; answer with [`Bisect::accepted`] or [`Bisect::refused`].
    pub fn next(&self) -> Option<Range<usize>> {
        self.left.last().cloned()
    }

    /// The set was accepted, and stays accepted.
    pub fn accepted(&mut self) {
        self.left.pop();
    }

    /// The set was refused as a whole.
    pub fn refused(&mut self, why: String) {
        let Some(range) = self.left.pop() else { return };
        if range.len() == 1 {
            self.refused.push((range.start, why));
        } else {
            let middle = range.start + range.len() / 2;
            self.left.push(middle..range.end);
            self.left.push(range.start..middle);
        }
    }

    pub fn into_refused(self) -> Vec<(usize, String)> {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn search(len: usize, bad: &BTreeSet<usize>) -> (Vec<usize>, Vec<usize>, usize) {
        let (mut bisect, mut kept, mut tries) = (Bisect::new(len), Vec::new(), 0);
        while let Some(range) = bisect.next() {
            tries += 1;
            if range.clone().any(|i| bad.contains(&i)) {
                bisect.refused("no".into());
            } else {
                kept.extend(range);
                bisect.accepted();
            }
        }
        (bisect.into_refused().into_iter().map(|(i, _)| i).collect(), kept, tries)
    }

    #[test]
    fn one_bad_item_among_many_is_found_with_few_tries() {
        for (len, bad) in [(1, 0), (2, 1), (1000, 0), (1000, 999), (1000, 500)] {
            let (refused, kept, tries) = search(len, &BTreeSet::from([bad]));
            assert_eq!(refused, [bad]);
            assert_eq!(kept.len(), len - 1);
            assert!(tries <= 22, "{tries} tries");
        }
        assert_eq!(search(0, &BTreeSet::new()), (vec![], vec![], 0));
    }

    proptest! {
        #[test]
        fn exactly_the_bad_items_are_refused_and_all_others_kept_in_order(len in 0..200_usize, bad in prop::collection::btree_set(0..200_usize, 0..20)) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|i| *i < len).collect();
            let (refused, kept, _) = search(len, &bad);
            prop_assert_eq!(refused, bad.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(kept, (0..len).filter(|i| !bad.contains(i)).collect::<Vec<_>>());
        }
    }
}
