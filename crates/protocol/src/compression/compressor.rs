//! Compresses whole batches, with a context that is kept from batch to batch.

use std::io::Write;

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::{Compression, snappy};

/// Why a batch could not be compressed: out of memory, or a level the codec does not have.
#[derive(Debug, thiserror::Error)]
#[error("cannot compress with {codec}: {reason}")]
pub struct CompressError {
    codec: Compression,
    reason: String,
}

/// Compresses with one codec at one level. Not cheap to make: keep it.
pub struct Compressor {
    codec: Compression,
    level: Option<i32>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    /// Compresses with `codec` at `level`, or at the codec's default level.
    ///
    /// Levels are those of `compression.gzip.level` (1 to 9, -1 for the default) and `compression.zstd.level`
    /// (-131072 to 22); one that lies outside becomes the nearest that exists. Snappy has none,
    /// and LZ4 is always compressed the fast way.
    pub fn new(codec: Compression, level: Option<i32>) -> Self {
        Self { codec, level, zstd: None }
    }

    /// The codec.
    pub fn codec(&self) -> Compression {
        self.codec
    }

    /// Appends the compressed form of `input` to `output`.
    pub fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), CompressError> {
        let codec = self.codec;
        let outcome = match codec {
            Compression::None => {
                output.extend_from_slice(input);
                Ok(())
            }
            Compression::Gzip => self.gzip(input, output).map_err(|error| error.to_string()),
            Compression::Snappy => snappy::compress(input, output).map_err(|e| e.to_string()),
            Compression::Lz4 => lz4(input, output).map_err(|error| error.to_string()),
            Compression::Zstd => self.zstd(input, output).map_err(|error| error.to_string()),
        };
        outcome.map_err(|reason| CompressError { codec, reason })
    }

    fn gzip(&self, input: &[u8], output: &mut Vec<u8>) -> std::io::Result<()> {
        let level = match self.level {
            Some(level) if level >= 0 => flate2::Compression::new(level.clamp(1, 9) as u32),
            _ => flate2::Compression::default(),
        };
        let mut encoder = GzEncoder::new(output, level);
        encoder.write_all(input)?;
        encoder.finish()?;
        Ok(())
    }

    fn zstd(&mut self, input: &[u8], output: &mut Vec<u8>) -> std::io::Result<()> {
        let compressor = match &mut self.zstd {
            Some(compressor) => compressor,
            empty => {
                let levels = zstd::compression_level_range();
                let level = self.level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                let level = level.clamp(*levels.start(), *levels.end());
                empty.insert(zstd::bulk::Compressor::new(level)?)
            }
        };
        let start = output.len();
        output.resize(start + zstd::zstd_safe::compress_bound(input.len()), 0);
        let written = compressor.compress_to_buffer(input, &mut output[start..]);
        output.truncate(start + written.as_ref().copied().unwrap_or_default());
        written.map(|_| ())
    }
}

/// Java's reader takes nothing but independent blocks.
fn lz4(input: &[u8], output: &mut Vec<u8>) -> Result<(), lz4_flex::frame::Error> {
    let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, output);
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}
