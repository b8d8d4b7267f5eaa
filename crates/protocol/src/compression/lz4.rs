//! LZ4 frames, as far as the decoder leaves them to us.

const MAGIC: [u8; 4] = 0x184D_2204u32.to_le_bytes();
const BLOCK_CHECKSUM_BIT: u8 = 1 << 4;
const CONTENT_SIZE_BIT: u8 = 1 << 3;
const CONTENT_CHECKSUM_BIT: u8 = 1 << 2;
const DICTIONARY_BIT: u8 = 1;
/// A block that is stored as it is; not part of its size.
const UNCOMPRESSED_BIT: u32 = 1 << 31;

/// Whether the frame at the start of `input` goes on to its end mark and checksum.
///
/// The decoder takes the end of its input between two blocks for the end of the frame. Java's consumer does not: a batch
/// that is cut there would stop it for ever.
pub(super) fn is_whole(input: &[u8]) -> bool {
    frame_end(input).is_some()
}

/// What follows the frame.
fn frame_end(input: &[u8]) -> Option<&[u8]> {
    let (flags, mut rest) = input.strip_prefix(&MAGIC)?.split_first()?;
    let has = |bit| usize::from(flags & bit != 0);
    // Block descriptor and header checksum are always there.
    rest = rest.get(2 + 8 * has(CONTENT_SIZE_BIT) + 4 * has(DICTIONARY_BIT)..)?;
    loop {
        let (size, block) = rest.split_first_chunk()?;
        match u32::from_le_bytes(*size) & !UNCOMPRESSED_BIT {
            0 => return block.get(4 * has(CONTENT_CHECKSUM_BIT)..),
            size => {
                let size = usize::try_from(size).ok()?;
                rest = block.get(size.checked_add(4 * has(BLOCK_CHECKSUM_BIT))?..)?;
            }
        }
    }
}
