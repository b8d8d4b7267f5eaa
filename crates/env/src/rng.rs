//! Randomness.

/// Source of randomness; the simulator seeds it.
pub trait Rng: Send + Sync {
    /// Sixty-four random bits.
    fn next_u64(&self) -> u64;
}
