//! The checksum of record batches and snapshots.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// CRC-32C of `parts`, one after the other.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let sum = match parts {
        [whole] => checksum(CrcAlgorithm::Crc32Iscsi, whole),
        _ => {
            let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
            for part in parts {
                digest.update(part);
            }
            digest.finalize()
        }
    };
    // The algorithm is 32 bits wide.
    sum as u32
}
