//! Snappy as Kafka frames it: a header of 16 bytes, then blocks, each with a 32-bit length.
//!
//! The framing is that of the Java library `xerial`. librdkafka sends a single block without any
//! framing, which Java reads too, and so does this.

use super::DecompressError;

/// What a stream of blocks begins with.
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The version of the framing, and the oldest that can read it.
const VERSION: u32 = 1;
const HEADER_LENGTH: usize = 16;
/// How much of the input goes into one block.
const BLOCK_SIZE: usize = 32 * 1024;
/// No element of a block produces more than 64 bytes from 3.
const MAX_EXPANSION: usize = 22;

/// Appends `input` to `output`, framed and compressed.
pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) -> Result<(), snap::Error> {
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&VERSION.to_be_bytes());
    output.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(BLOCK_SIZE) {
        let length_at = output.len();
        let start = length_at + 4;
        output.resize(start + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder.compress(block, &mut output[start..])?;
        output.truncate(start + written);
        output[length_at..start].copy_from_slice(&(written as u32).to_be_bytes());
    }
    Ok(())
}

/// Reads blocks one after the other.
pub(super) struct SnappyReader<'a> {
    input: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    read: usize,
    limit: usize,
}

impl<'a> SnappyReader<'a> {
    /// Reads `input`, refusing blocks larger than `limit` bytes.
    pub(super) fn new(input: &'a [u8], limit: usize) -> Self {
        let framed = input.len() >= HEADER_LENGTH && input.starts_with(&MAGIC);
        let input = if framed { &input[HEADER_LENGTH..] } else { input };
        Self { input, framed, block: Vec::new(), read: 0, limit }
    }

    /// Fills `buffer` from the front; 0 is the end of the stream.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DecompressError> {
        while self.read == self.block.len() {
            if self.input.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let unread = &self.block[self.read..];
        let length = unread.len().min(buffer.len());
        buffer[..length].copy_from_slice(&unread[..length]);
        self.read += length;
        Ok(length)
    }

    fn next_block(&mut self) -> Result<(), DecompressError> {
        let compressed = if self.framed {
            let truncated = || DecompressError::corrupt("a snappy block is cut off");
            let (length, rest) = self.input.split_first_chunk().ok_or_else(truncated)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (compressed, rest) = rest.split_at_checked(length).ok_or_else(truncated)?;
            self.input = rest;
            compressed
        } else {
            std::mem::take(&mut self.input)
        };
        let length = snap::raw::decompress_len(compressed).map_err(DecompressError::corrupt)?;
        if length > compressed.len().saturating_mul(MAX_EXPANSION) {
            return Err(DecompressError::corrupt("a snappy block claims an impossible length"));
        }
        if length > self.limit {
            return Err(DecompressError::TooLarge { limit: self.limit });
        }
        self.read = 0;
        self.block.clear();
        self.block.resize(length, 0);
        snap::raw::Decoder::new()
            .decompress(compressed, &mut self.block)
            .map_err(DecompressError::corrupt)?;
        Ok(())
    }
}
