//! The system's randomness.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::Rng;

/// `getrandom(2)`.
pub(crate) struct OsRng;

impl Rng for OsRng {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        loop {
            match getrandom(&mut bytes, GetRandomFlags::empty()) {
                Ok(count) if count == bytes.len() => return u64::from_ne_bytes(bytes),
                // Interrupted by a signal while the pool is filled, early at boot.
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the system gives no randomness: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn draws_do_not_repeat() {
        let drawn: BTreeSet<u64> = (0..1000).map(|_| OsRng.next_u64()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
