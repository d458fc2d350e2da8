//! The small generator inside a core's state: the same seed always gives the same election waits.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Enough to keep
/// candidates apart; not for secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Random(u64);

impl Random {
    /// A generator that each seed starts elsewhere.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next of 2^64 numbers.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `low..high`; `low` must be below `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low < high, "an empty range: {low}..{high}");
        low + self.draw() % (high - low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that the published SplitMix64 draws from this seed: a repeated seed repeats on every
    /// machine and in every version.
    #[test]
    fn draws_what_splitmix64_draws() {
        let mut random = Random::new(1_234_567);
        let drawn = [(); 3].map(|()| random.draw());
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    /// Every number of the range comes, and no other.
    #[test]
    fn stays_in_its_range() {
        let mut random = Random::new(1);
        let drawn: std::collections::BTreeSet<_> = (0..100).map(|_| random.between(5, 8)).collect();
        assert_eq!(drawn, [5, 6, 7].into());
    }
}
