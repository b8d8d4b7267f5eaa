//! Zigzag varints, as records use them. Kafka: `ByteUtils.readVarint`.

/// Reads from the front of `bytes`, which moves on; `None` if they end too early or the number
/// has more than ten bytes.
#[inline]
pub(super) fn read_i64(bytes: &mut &[u8]) -> Option<i64> {
    match read_short(bytes) {
        Some(value) => Some(zigzag(value)),
        None => read_long(bytes),
    }
}

/// As [`read_i64`], for numbers of 32 bits.
#[inline]
pub(super) fn read_i32(bytes: &mut &[u8]) -> Option<i32> {
    match read_short(bytes) {
        Some(value) => Some(zigzag(value) as i32),
        None => i32::try_from(read_long(bytes)?).ok(),
    }
}

/// The number of up to three bytes that `word` begins with, and how many those are; its zigzag is
/// not undone. The bytes come in a register: nothing is loaded or bounded anew for each.
#[inline(always)]
pub(super) fn plain(word: u64) -> Option<(u32, usize)> {
    let groups = [word & 0x7f, word >> 1 & 0x7f << 7, word >> 2 & 0x7f << 14];
    if word & 0x80 == 0 {
        Some((groups[0] as u32, 1))
    } else if word & 0x8000 == 0 {
        Some(((groups[0] | groups[1]) as u32, 2))
    } else if word & 0x80_0000 == 0 {
        Some(((groups[0] | groups[1] | groups[2]) as u32, 3))
    } else {
        None
    }
}

/// Nearly every number of a record takes one or two bytes.
#[inline]
fn read_short(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    let (&second, rest) = rest.split_first()?;
    if second < 0x80 {
        *bytes = rest;
        return Some(u64::from(second) << 7 | u64::from(first & 0x7f));
    }
    None
}

#[inline(never)]
fn read_long(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (position, &byte) in bytes.iter().take(10).enumerate() {
        // The tenth byte has room for one bit.
        if position == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte < 0x80 {
            *bytes = &bytes[position + 1..];
            return Some(zigzag(value));
        }
    }
    None
}

/// Undoes the zigzag.
#[inline]
pub(super) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends `value` to `output`.
pub(super) fn write(value: i64, output: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        output.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    output.push(rest as u8);
}

/// How many bytes [`write`] takes for `value`.
pub(super) fn size(value: i64) -> usize {
    let rest = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (rest | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(value: i64, small in -100_000i64..100_000) {
            for value in [value, small, value >> 32] {
                let mut bytes = Vec::new();
                write(value, &mut bytes);
                prop_assert_eq!(bytes.len(), size(value));
                let mut unread = bytes.as_slice();
                prop_assert_eq!(read_i64(&mut unread), Some(value));
                prop_assert!(unread.is_empty());
                let mut unread = bytes.as_slice();
                prop_assert_eq!(read_i32(&mut unread), i32::try_from(value).ok());
                prop_assert_eq!(read_i64(&mut &bytes[..bytes.len() - 1]), None);
            }
        }

        #[test]
        fn never_reads_past_the_end(bytes: Vec<u8>) {
            let mut unread = bytes.as_slice();
            let _ = read_i64(&mut unread);
            let _ = read_i32(&mut unread);
        }
    }

    #[test]
    fn eleven_bytes_are_too_many() {
        assert_eq!(read_i64(&mut [0x80; 11].as_slice()), None);
        assert_eq!(
            read_i64(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2].as_slice()),
            None
        );
    }
}
