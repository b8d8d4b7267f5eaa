//! Seeded randomness.

use std::hash::{DefaultHasher, Hash, Hasher};

use ottla_env::Rng;
use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A stream of random numbers of its own for every purpose: drawing from one shifts no other.
pub struct SimRng(Mutex<ChaCha8Rng>);

impl SimRng {
    /// The stream of `seed` for `purpose`.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, purpose).hash(&mut hasher);
        Self(Mutex::new(ChaCha8Rng::seed_from_u64(hasher.finish())))
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        // The bias of the remainder is far below what a simulation could notice.
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// True with the given probability, 0 to 1.
    pub fn chance(&self, probability: f64) -> bool {
        // Draws nothing for the impossible, so that switching a fault off is free.
        probability > 0.0 && (self.next_u64() >> 11) as f64 / ((1_u64 << 53) as f64) < probability
    }
}

impl Rng for SimRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}
