//! Randomness.

/// Source of randomness; the simulator seeds it.
pub trait Rng: Send + Sync {
    /// Sixty-four random bits.
    fn next_u64(&self) -> u64;

    /// A hundred and twenty-eight: enough that nobody else ever draws the same.
    fn next_u128(&self) -> u128 {
        u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())
    }
}
