//! The codecs of record batches. Kafka: `org.apache.kafka.common.compress`.
//!
//! Compression happens in memory that the caller sizes; decompression reads through a window and
//! stops at a limit, so that no batch, however well it compresses, can make the broker allocate
//! more than it chose to.

mod compressor;
mod decompressor;
mod lz4;
mod snappy;

use std::fmt;

pub use compressor::{CompressError, Compressor};
pub use decompressor::{DecompressError, DecompressReader, Decompressor};

/// How the records of a batch are compressed. Kafka: `CompressionType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in the framing of the library `xerial`, which is Kafka's.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
}

impl Compression {
    /// Every codec, ascending by id.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with the id that the lowest three bits of a batch's attributes give.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The id that a batch's attributes carry.
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The name that `compression.type` uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec that `compression.type` calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
