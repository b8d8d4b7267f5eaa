use proptest::prelude::*;

use super::*;

fn compress(codec: Compression, input: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    Compressor::new(codec, None).compress(input, &mut output).unwrap();
    output
}

fn text(length: usize) -> Vec<u8> {
    let line = b"{\"order\":4711,\"customer\":\"a-b-c\",\"lines\":[1,2,3,5,8]}\n";
    line.iter().copied().cycle().take(length).collect()
}

proptest! {
    #[test]
    fn what_is_compressed_comes_back(input: Vec<u8>, repeat in 1usize..200) {
        let input = input.repeat(repeat);
        let mut decompressor = Decompressor::new();
        for codec in Compression::ALL {
            let compressed = compress(codec, &input);
            let output = decompressor.decompress(codec, &compressed, input.len()).unwrap();
            prop_assert_eq!(output.as_ref(), input.as_slice(), "{}", codec);
        }
    }

    #[test]
    fn random_bytes_are_an_error_or_bounded(input: Vec<u8>, limit in 0usize..100_000) {
        let mut decompressor = Decompressor::new();
        for codec in Compression::ALL {
            if let Ok(output) = decompressor.decompress(codec, &input, limit) {
                prop_assert!(output.len() <= limit);
            }
        }
    }

    #[test]
    fn a_flipped_byte_does_no_harm(position: prop::sample::Index, flip in 1u8..) {
        let input = text(10_000);
        let mut decompressor = Decompressor::new();
        for codec in Compression::ALL {
            let mut compressed = compress(codec, &input);
            let position = position.index(compressed.len());
            compressed[position] ^= flip;
            let _ = decompressor.decompress(codec, &compressed, 20_000);
            // And the context is as good as new.
            let intact = compress(codec, &input);
            let output = decompressor.decompress(codec, &intact, 20_000).unwrap();
            prop_assert_eq!(output.as_ref(), input.as_slice());
        }
    }
}

#[test]
fn the_limit_is_exact() {
    let input = text(100_000);
    let mut decompressor = Decompressor::new();
    for codec in Compression::ALL {
        let compressed = compress(codec, &input);
        assert!(decompressor.decompress(codec, &compressed, 100_000).is_ok(), "{codec}");
        assert_eq!(
            decompressor.decompress(codec, &compressed, 99_999),
            Err(DecompressError::TooLarge { limit: 99_999 }),
            "{codec}"
        );
        assert_eq!(
            decompressor.decompress(codec, &compressed, 0),
            Err(DecompressError::TooLarge { limit: 0 }),
            "{codec}"
        );
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    // 1 GiB of zeros in some 32 KiB.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        std::io::Write::write_all(&mut encoder, &zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 64 * 1024, "{}", bomb.len());
    let limit = 1 << 20;
    assert_eq!(
        Decompressor::new().decompress(Compression::Zstd, &bomb, limit),
        Err(DecompressError::TooLarge { limit })
    );
}

#[test]
fn a_snappy_block_cannot_claim_more_than_it_can_hold() {
    // A varint of 4 GiB - 1, and nothing to make it from.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let outcome = Decompressor::new().decompress(Compression::Snappy, &claim, usize::MAX - 1);
    assert!(matches!(outcome, Err(DecompressError::Corrupt(_))), "{outcome:?}");
}

#[test]
fn snappy_is_read_without_framing_too() {
    let input = text(100_000);
    let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    let mut decompressor = Decompressor::new();
    let output = decompressor.decompress(Compression::Snappy, &raw, 100_000).unwrap();
    assert_eq!(output.as_ref(), input);
}

#[test]
fn snappy_is_written_in_the_framing_of_java() {
    let compressed = compress(Compression::Snappy, &text(40_000));
    assert_eq!(compressed[..16], [0x82, 83, 78, 65, 80, 80, 89, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    let first = u32::from_be_bytes(*compressed[16..].first_chunk().unwrap()) as usize;
    let second_at = 20 + first;
    let second = u32::from_be_bytes(*compressed[second_at..].first_chunk().unwrap()) as usize;
    assert_eq!(second_at + 4 + second, compressed.len());
    assert_eq!(snap::raw::decompress_len(&compressed[20..second_at]).unwrap(), 32 * 1024);
}

#[test]
fn lz4_is_written_so_that_java_can_read_it() {
    let compressed = compress(Compression::Lz4, &text(1000));
    assert_eq!(compressed[..4], [0x04, 0x22, 0x4d, 0x18]);
    let (version, independent) = (compressed[4] >> 6, compressed[4] >> 5 & 1);
    assert_eq!((version, independent), (1, 1));
}

#[test]
fn truncated_data_never_comes_out_whole() {
    let input = text(5_000);
    let mut decompressor = Decompressor::new();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let compressed = compress(codec, &input);
        for length in 0..compressed.len() {
            // Only the checksum of a codec may be missing: the batch has one of its own.
            if let Ok(output) = decompressor.decompress(codec, &compressed[..length], 10_000) {
                assert!(input.starts_with(&output), "{codec} cut to {length}");
            }
        }
    }
}

#[test]
fn an_lz4_frame_without_its_end_is_corrupt() {
    let input = text(200_000);
    let compressed = compress(Compression::Lz4, &input);
    let mut decompressor = Decompressor::new();
    for length in 1..compressed.len() {
        let outcome = decompressor.decompress(Compression::Lz4, &compressed[..length], 1 << 20);
        assert!(matches!(outcome, Err(DecompressError::Corrupt(_))), "cut to {length}");
    }
}

#[test]
fn levels_change_the_result_and_never_fail() {
    let input = text(50_000);
    for codec in Compression::ALL {
        for level in [i32::MIN, -1, 0, 1, 9, 19, i32::MAX] {
            let mut output = Vec::new();
            Compressor::new(codec, Some(level)).compress(&input, &mut output).unwrap();
            let back = Decompressor::new().decompress(codec, &output, 50_000).unwrap().into_owned();
            assert_eq!(back, input, "{codec} {level}");
        }
    }
}

#[test]
fn names_and_ids() {
    for codec in Compression::ALL {
        assert_eq!(Compression::from_id(codec.id()), Some(codec));
        assert_eq!(Compression::from_name(codec.name()), Some(codec));
    }
    assert_eq!(Compression::from_id(5), None);
    assert_eq!(Compression::from_name("producer"), None);
}
