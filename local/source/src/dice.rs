//! Numbers that follow from a seed: the same in every build, so no crate's generator is used (SplitMix64).

/// A stream of numbers given by its start.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(start: u64) -> Self {
        Self(start)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low + 1)
    }

    /// A signed number from `low` to `high`, both included.
    pub(crate) fn signed(&mut self, low: i64, high: i64) -> i64 {
        low.saturating_add_unsigned(self.between(0, high.abs_diff(low)))
    }

    /// One of the items, of which there is at least one.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.index(items.len())]
    }

    /// A position below `len`, which is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.roll() % len as u64).unwrap_or_default()
    }

    /// Some characters out of an ASCII alphabet.
    pub(crate) fn text(&mut self, alphabet: &[u8], len: usize) -> String {
        (0..len).map(|_| char::from(alphabet[self.index(alphabet.len())])).collect()
    }

    /// A pattern with every `#` made a digit and every `?` a capital letter.
    pub(crate) fn fill(&mut self, pattern: &str) -> String {
        let mut filled = String::with_capacity(pattern.len());
        for c in pattern.chars() {
            match c {
                '#' => filled.push_str(&self.text(b"0123456789", 1)),
                '?' => filled.push_str(&self.text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 1)),
                other => filled.push(other),
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn the_stream_is_the_published_one() {
        // SplitMix64's reference values for the seed 1234567.
        let mut dice = Dice::new(1_234_567);
        assert_eq!(dice.roll(), 6_457_827_717_110_365_317);
        assert_eq!(dice.roll(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_pattern_keeps_what_is_not_a_place_holder() {
        let filled = Dice::new(7).fill("(0##) ?-#");
        assert!(filled.starts_with("(0") && filled.contains(") "));
        assert_eq!(filled.len(), "(0##) ?-#".len());
        assert!(!filled.contains(['#', '?']));
    }

    #[test]
    fn both_ends_of_a_range_are_reached() {
        let mut dice = Dice::new(1);
        let seen: std::collections::BTreeSet<_> = (0..200).map(|_| dice.signed(-2, 2)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2]);
    }
}
