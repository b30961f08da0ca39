//! Random numbers from a seed. SplitMix64 is written out here, because a seed must yield the same users in every build.

/// <https://prng.di.unimi.it/splitmix64.c>
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Both bounds are included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// Both bounds are included.
    pub(crate) fn signed_between(&mut self, low: i64, high: i64) -> i64 {
        low.saturating_add_unsigned(self.between(0, high.abs_diff(low)))
    }

    /// `items` must not be empty.
    pub(crate) fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// `words` must not be empty.
    pub(crate) fn word<'a>(&mut self, words: &'a [String]) -> &'a str {
        let word: &String = self.choose(words);
        word
    }

    /// An index below `len`, which must not be 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.next() % len as u64).unwrap_or_default()
    }

    pub(crate) fn ascii_text(&mut self, alphabet: &[u8], len: usize) -> String {
        (0..len).map(|_| char::from(*self.choose(alphabet))).collect()
    }

    /// Replaces every `#` with a digit and every `?` with a capital letter.
    pub(crate) fn fill_pattern(&mut self, pattern: &str) -> String {
        let mut filled = String::with_capacity(pattern.len());
        for c in pattern.chars() {
            match c {
                '#' => filled.push_str(&self.ascii_text(b"0123456789", 1)),
                '?' => filled.push_str(&self.ascii_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 1)),
                other => filled.push(other),
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::SplitMix64;

    #[test]
    fn the_numbers_are_those_of_the_reference_implementation() {
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_filled_pattern_keeps_its_other_characters() {
        let filled = SplitMix64::new(7).fill_pattern("(0##) ?-#");
        assert!(filled.starts_with("(0") && filled.contains(") "));
        assert_eq!(filled.len(), "(0##) ?-#".len());
        assert!(!filled.contains(['#', '?']));
    }

    #[test]
    fn both_bounds_of_a_range_are_reached() {
        let mut random = SplitMix64::new(1);
        let drawn: std::collections::BTreeSet<_> = (0..200).map(|_| random.signed_between(-2, 2)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2]);
    }
}
