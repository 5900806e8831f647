//! The hashes that placement rests on: the same on every machine and in every release, because a change moves sessions.

use xxhash_rust::xxh3::xxh3_64;

/// 2^64 divided by the golden ratio, made odd: the step of `SplitMix64`, so that `mix64(seed + k * GOLDEN)` is its k-th
/// output.
pub const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014;
/// variant 13 of Stafford's mixers). A bijection, so that different keys never collide; not keyed, not for secrets.
#[inline]
pub const fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// XXH3-64 without a seed: of names for the ring, and of what a session is recognised by when there is no token.
/// Not keyed: whoever chooses the input can make it collide.
#[inline]
pub fn name_hash(name: impl AsRef<[u8]>) -> u64 {
    xxh3_64(name.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published outputs of `SplitMix64` for the seed 1234567.
    #[test]
    fn mix64_is_splitmix() {
        let outputs = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        let mut state: u64 = 1_234_567;
        for expected in outputs {
            state = state.wrapping_add(GOLDEN);
            assert_eq!(mix64(state), expected);
        }
    }

    /// Frozen: another value here moves every hashed session and every place on the ring.
    #[test]
    fn name_hash_is_frozen() {
        let cases = [("", 0x2D06_8005_38D3_94C2), ("a", 0xE6C6_32B6_1E96_4E1F), ("abc", 0x78AF_5F94_892F_3950)];
        for (name, expected) in cases {
            assert_eq!(name_hash(name), expected, "{name:?}");
        }
        assert_eq!(name_hash([192, 0, 2, 1]), 0x2C1C_901E_ED9A_DC4A);
    }
}
