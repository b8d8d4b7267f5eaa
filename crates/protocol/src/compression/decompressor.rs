//! Decompresses through a window, up to a limit.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use zstd::zstd_safe::{DCtx, ResetDirective};

use super::snappy::SnappyReader;
use super::{Compression, lz4};

/// How much [`Decompressor::decompress`] reads at a time.
const CHUNK: usize = 64 * 1024;

/// Why bytes could not be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The bytes are not what the codec makes.
    #[error("corrupt compressed data: {0}")]
    Corrupt(String),
    /// The decompressed data is larger than the limit, by how much is not known.
    #[error("the decompressed data is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

impl DecompressError {
    pub(super) fn corrupt(reason: impl fmt::Display) -> Self {
        Self::Corrupt(reason.to_string())
    }
}

/// Decompresses with any codec. Keeps what is expensive to make: use one for many batches.
#[derive(Default)]
pub struct Decompressor {
    zstd: Option<DCtx<'static>>,
}

impl Decompressor {
    /// A decompressor that has not allocated anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `input` piece by piece, and fails once there are more than `limit` bytes.
    pub fn reader<'a>(
        &'a mut self,
        codec: Compression,
        input: &'a [u8],
        limit: usize,
    ) -> DecompressReader<'a> {
        let source = match codec {
            Compression::None => Source::Plain(input),
            Compression::Gzip => Source::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Snappy => Source::Snappy(SnappyReader::new(input, limit)),
            Compression::Lz4 => Source::Lz4(Box::new(FrameDecoder::new(input)), input),
            Compression::Zstd => {
                let context = self.zstd.get_or_insert_with(DCtx::create);
                // A batch that was corrupt, or not read to its end, leaves its traces.
                let _ = context.reset(ResetDirective::SessionOnly);
                Source::Zstd(zstd::stream::read::Decoder::with_context(input, context))
            }
        };
        DecompressReader { source, limit, produced: 0 }
    }

    /// Decompresses `input` at once, to at most `limit` bytes. What is not compressed is borrowed.
    pub fn decompress<'i>(
        &mut self,
        codec: Compression,
        input: &'i [u8],
        limit: usize,
    ) -> Result<Cow<'i, [u8]>, DecompressError> {
        if codec == Compression::None {
            return match input.len() <= limit {
                true => Ok(Cow::Borrowed(input)),
                false => Err(DecompressError::TooLarge { limit }),
            };
        }
        let mut reader = self.reader(codec, input, limit);
        let mut output = Vec::new();
        let mut filled = 0;
        loop {
            if filled == output.len() {
                output.resize(filled + filled.clamp(CHUNK, 1 << 20), 0);
            }
            match reader.read(&mut output[filled..])? {
                0 => break,
                length => filled += length,
            }
        }
        output.truncate(filled);
        Ok(Cow::Owned(output))
    }
}

enum Source<'a> {
    Plain(&'a [u8]),
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyReader<'a>),
    /// The decoder, and all that it is to decode.
    Lz4(Box<FrameDecoder<&'a [u8]>>, &'a [u8]),
    Zstd(zstd::stream::read::Decoder<'a, &'a [u8]>),
}

/// Decompressed bytes, piece by piece.
pub struct DecompressReader<'a> {
    source: Source<'a>,
    limit: usize,
    produced: usize,
}

impl DecompressReader<'_> {
    /// Fills `buffer` from the front and answers how much of it; 0 is the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DecompressError> {
        // One byte more than allowed tells a stream of exactly `limit` bytes from a longer one.
        let wanted = buffer.len().min((self.limit - self.produced).saturating_add(1));
        let buffer = &mut buffer[..wanted];
        let length = match &mut self.source {
            Source::Plain(input) => input.read(buffer).map_err(DecompressError::corrupt)?,
            Source::Gzip(decoder) => decoder.read(buffer).map_err(DecompressError::corrupt)?,
            Source::Snappy(reader) => reader.read(buffer)?,
            Source::Lz4(decoder, input) => {
                let length = decoder.read(buffer).map_err(DecompressError::corrupt)?;
                if length == 0 && wanted > 0 && !lz4::is_whole(input) {
                    return Err(DecompressError::corrupt("the LZ4 frame has no end"));
                }
                length
            }
            Source::Zstd(decoder) => decoder.read(buffer).map_err(DecompressError::corrupt)?,
        };
        if length > self.limit - self.produced {
            return Err(DecompressError::TooLarge { limit: self.limit });
        }
        self.produced += length;
        Ok(length)
    }
}
