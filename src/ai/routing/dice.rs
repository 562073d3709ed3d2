//! Random numbers for draws and jitter: small, fast, and repeatable from a seed. Not for secrets.

use std::sync::atomic::{AtomicU64, Ordering};

/// A generator (SplitMix64) that threads share without waiting for each other.
#[derive(Debug)]
pub struct Dice(AtomicU64);

impl Dice {
    /// The same draws for the same seed.
    pub fn seeded(seed: u64) -> Dice {
        Dice(AtomicU64::new(seed))
    }

    /// Draws that nobody can foresee.
    pub fn shaken() -> Dice {
        Dice::seeded(uuid::Uuid::new_v4().as_u64_pair().1)
    }

    /// A number above 0 and at most 1.
    pub fn draw(&self) -> f64 {
        let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 53 bits are what a double can hold.
        (((z ^ (z >> 31)) >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}
