use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::compression::Compressor;

/// A record with everything owned, for comparison.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn owned(batch: &RecordBatch<'_>, record: &Record<'_>) -> Owned {
    Owned {
        timestamp: batch.timestamp_of(record).0,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record
            .headers
            .iter()
            .map(|header| {
                let key = String::from_utf8_lossy(header.key).into_owned();
                (key, header.value.map(<[u8]>::to_vec))
            })
            .collect(),
    }
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), 60..300)])
}

fn record() -> impl Strategy<Value = Owned> {
    let timestamp = prop_oneof![1_700_000_000_000i64..1_700_000_100_000, -(1i64 << 60)..1 << 60];
    let headers = vec(("[a-zä]{0,8}", bytes()), 0..3);
    (timestamp, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Owned {
        timestamp,
        key,
        value,
        headers,
    })
}

fn codec() -> impl Strategy<Value = Compression> {
    (0..Compression::ALL.len()).prop_map(|index| Compression::ALL[index])
}

fn builder(records: &[Owned]) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new();
    for record in records {
        let headers: Vec<_> =
            record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        let new = NewRecord {
            timestamp: Timestamp(record.timestamp),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let expected = builder.size_with(&new);
        let empty = builder.is_empty();
        builder.append(&new);
        assert!(builder.size() == expected || empty && builder.size() <= expected);
    }
    builder
}

fn batch_of(count: usize) -> bytes::Bytes {
    let mut builder = RecordBatchBuilder::new().base_offset(Offset(100));
    for index in 0..count {
        builder.append(&NewRecord {
            timestamp: Timestamp(1000 + index as i64),
            key: Some(b"key"),
            value: Some(b"value"),
            headers: &[("header", None)],
        });
    }
    builder.build()
}

fn read_all(batch: &RecordBatch<'_>) -> Result<Vec<Owned>, RecordError> {
    let mut records = Vec::new();
    batch.visit_records(&mut Decompressor::new(), 1 << 20, |record| {
        records.push(owned(batch, &record));
        Ok::<(), RecordError>(())
    })?;
    Ok(records)
}

proptest! {
    #[test]
    fn what_is_built_is_read(records in vec(record(), 0..20), codec in codec()) {
        let builder = builder(&records);
        let bytes = builder.build_compressed(&mut Compressor::new(codec, None)).unwrap();
        let batch = RecordBatch::parse(&bytes).unwrap();
        prop_assert!(batch.crc_is_valid());
        prop_assert_eq!(batch.compression(), Ok(codec));
        prop_assert_eq!(batch.records_count() as usize, records.len());
        prop_assert_eq!(batch.last_offset_delta() as usize, records.len().saturating_sub(1));
        prop_assert_eq!(read_all(&batch).unwrap(), records);
        let mut offset = 0;
        let visited = batch.visit_records(&mut Decompressor::new(), usize::MAX, |record| {
            assert_eq!(batch.offset_of(&record), Offset(offset));
            offset += 1;
            Ok::<(), RecordError>(())
        });
        prop_assert_eq!(visited, Ok(()));
    }

    /// Both ways of going through the records tell the same, about good ones and bad ones.
    #[test]
    fn visiting_is_iterating(
        records in vec(record(), 1..8),
        plain in 0..8usize,
        // The first byte is the length of the first record.
        damage in option::of((prop_oneof![Just(0), any::<usize>()], any::<u8>())),
        claimed in 0..10i32,
    ) {
        let plainly = |(index, record): (usize, Owned)| match index < plain {
            true => Owned { headers: Vec::new(), timestamp: 1_700_000_000_000, ..record },
            false => record,
        };
        let records: Vec<_> = records.into_iter().enumerate().map(plainly).collect();
        let batch = builder(&records).build();
        let mut bytes = RecordBatch::parse(&batch).unwrap().payload().to_vec();
        if let Some((at, byte)) = damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let mut visited = Vec::new();
        let end = Records::new(&bytes, claimed).unwrap().visit(|record| {
            visited.push(Ok(record));
            Ok::<(), RecordError>(())
        });
        visited.extend(end.err().map(Err));
        let iterated: Vec<_> = Records::new(&bytes, claimed).unwrap().collect();
        prop_assert_eq!(visited, iterated);
    }

    #[test]
    fn the_oracle_reads_what_is_built(records in vec(record(), 1..20)) {
        let bytes = builder(&records)
            .base_offset(Offset(42))
            .leader_epoch(LeaderEpoch(3))
            .producer(ProducerId(9), ProducerEpoch(1), 7)
            .transactional()
            .build();
        let mut unread = bytes.clone();
        let set = kafka_protocol::records::RecordBatchDecoder::decode(&mut unread).unwrap();
        prop_assert_eq!(set.records.len(), records.len());
        for (index, (theirs, ours)) in set.records.iter().zip(&records).enumerate() {
            prop_assert_eq!(theirs.offset, 42 + index as i64);
            prop_assert_eq!(theirs.sequence, 7 + index as i32);
            prop_assert_eq!(theirs.timestamp, ours.timestamp);
            prop_assert_eq!(theirs.partition_leader_epoch, 3);
            prop_assert_eq!((theirs.producer_id, theirs.producer_epoch), (9, 1));
            prop_assert!(theirs.transactional && !theirs.control);
            prop_assert_eq!(theirs.key.as_deref(), ours.key.as_deref());
            prop_assert_eq!(theirs.value.as_deref(), ours.value.as_deref());
            // Theirs is a map: of headers with the same key it keeps the last.
            for (key, value) in theirs.headers.iter() {
                let last = ours.headers.iter().rfind(|(ours, _)| ours.as_str() == key.as_str());
                prop_assert_eq!(value.as_deref(), last.unwrap().1.as_deref());
            }
        }
    }

    #[test]
    fn what_the_oracle_builds_is_read(values in vec(bytes(), 1..20), epoch in 0i16..) {
        use kafka_protocol::records as oracle;
        let records: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(index, value)| oracle::Record {
                transactional: true,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 5,
                producer_id: 77,
                producer_epoch: epoch,
                timestamp_type: oracle::TimestampType::Creation,
                offset: 10 + index as i64,
                sequence: 3 + index as i32,
                timestamp: 1_000_000 + index as i64,
                key: None,
                value: value.clone().map(bytes::Bytes::from),
                headers: Default::default(),
            })
            .collect();
        let options =
            oracle::RecordEncodeOptions { version: 2, compression: oracle::Compression::None };
        let mut encoded = bytes::BytesMut::new();
        oracle::RecordBatchEncoder::encode(&mut encoded, &records, &options).unwrap();
        let batch = RecordBatch::parse(&encoded).unwrap();
        prop_assert!(batch.crc_is_valid());
        prop_assert_eq!(batch.base_offset(), Offset(10));
        prop_assert_eq!(batch.next_offset(), Offset(10 + values.len() as i64));
        prop_assert_eq!(batch.leader_epoch(), LeaderEpoch(5));
        prop_assert_eq!(batch.producer_id(), ProducerId(77));
        prop_assert_eq!(batch.producer_epoch(), ProducerEpoch(epoch));
        prop_assert_eq!(batch.base_sequence(), 3);
        prop_assert_eq!(batch.last_sequence(), 2 + values.len() as i32);
        prop_assert!(batch.is_transactional() && !batch.is_control());
        let read = read_all(&batch).unwrap();
        prop_assert_eq!(read.len(), values.len());
        for (index, (read, value)) in read.iter().zip(&values).enumerate() {
            prop_assert_eq!(&read.value, value);
            prop_assert_eq!(read.timestamp, 1_000_000 + index as i64);
        }
    }

    #[test]
    fn a_flipped_bit_is_seen_or_harmless(
        records in vec(record(), 1..10), codec in codec(), position: prop::sample::Index, bit in 0..8
    ) {
        let builder = builder(&records);
        let bytes = builder.build_compressed(&mut Compressor::new(codec, None)).unwrap();
        let mut damaged = bytes.to_vec();
        let position = position.index(damaged.len());
        damaged[position] ^= 1u8 << bit;
        for batch in batches(&damaged).flatten() {
            // Everything but base offset, length, epoch and magic is covered by the checksum.
            prop_assert!(position < CRC_AT || !batch.crc_is_valid());
            let _ = read_all(&batch);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), count: i32) {
        for batch in batches(&bytes).flatten() {
            let _ = read_all(&batch);
        }
        if let Ok(records) = Records::new(&bytes, count) {
            prop_assert!(records.count() <= bytes.len() + 1);
        }
    }

    #[test]
    fn random_records_in_a_sound_batch_never_panic(
        payload in vec(prop_oneof![0u8..12, any::<u8>()], 0..300), count in -2i32..40, codec in 0i16..8
    ) {
        let mut bytes = batch_of(0).to_vec();
        bytes.extend_from_slice(&payload);
        let length = (bytes.len() - LOG_OVERHEAD) as i32;
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
        bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&codec.to_be_bytes());
        bytes[RECORDS_COUNT_AT..HEADER_LENGTH].copy_from_slice(&count.to_be_bytes());
        let _ = read_all(&RecordBatch::parse(&bytes).unwrap());
    }
}

#[test]
fn known_bytes_of_a_batch() {
    let mut builder = RecordBatchBuilder::new().leader_epoch(LeaderEpoch(0));
    builder.append(&NewRecord { timestamp: Timestamp(1), value: Some(b"v"), ..Default::default() });
    let bytes = builder.build();
    let expected = [
        0, 0, 0, 0, 0, 0, 0, 0, // base offset
        0, 0, 0, 57, // length
        0, 0, 0, 0, // leader epoch
        2, // magic
    ];
    assert_eq!(bytes[..CRC_AT], expected);
    assert_eq!(bytes[HEADER_LENGTH..], [14, 0, 0, 0, 1, 2, b'v', 0]);
    // An independent implementation of CRC-32C, bit by bit.
    let mut crc = u32::MAX;
    for byte in &bytes[ATTRIBUTES_AT..] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    assert_eq!(RecordBatch::parse(&bytes).unwrap().crc(), !crc);
}

#[test]
fn every_truncation_is_told_with_what_is_missing() {
    let whole = batch_of(3);
    for end in 1..whole.len() {
        let mut batches = batches(&whole[..end]);
        let needed = if end < MAGIC_AT + 1 { HEADER_LENGTH } else { whole.len() };
        let expected = RecordBatchError::Truncated { position: 0, needed, available: end };
        assert_eq!(batches.next(), Some(Err(expected)));
        assert_eq!(batches.next(), None);
    }
}

#[test]
fn batches_follow_each_other() {
    let (first, second) = (batch_of(2), batch_of(1));
    let cut = &batch_of(5)[..80];
    let buffer = [first.as_ref(), second.as_ref(), cut].concat();
    let mut batches = batches(&buffer);
    assert_eq!(batches.next().unwrap().unwrap().as_bytes(), first);
    assert_eq!(batches.position(), first.len());
    assert_eq!(batches.next().unwrap().unwrap().as_bytes(), second);
    let position = first.len() + second.len();
    assert!(matches!(batches.next(), Some(Err(RecordBatchError::Truncated { position: p, .. }))
        if p == position));
    assert!(batches.next().is_none());
    assert_eq!(batches.position(), position);
}

#[test]
fn old_formats_and_impossible_lengths_are_refused() {
    let mut bytes = batch_of(1).to_vec();
    for (magic, code) in [
        (0, ErrorCode::InvalidRecord),
        (1, ErrorCode::InvalidRecord),
        (3, ErrorCode::CorruptMessage),
    ] {
        bytes[MAGIC_AT] = magic;
        let error = RecordBatch::parse(&bytes).unwrap_err();
        let magic = magic as i8;
        assert_eq!(error, RecordBatchError::UnsupportedMagic { position: 0, magic });
        assert_eq!(error.error_code(), code);
    }
    bytes[MAGIC_AT] = 2;
    for length in [i32::MIN, -1, 0, 48] {
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
        let expected = RecordBatchError::InvalidLength { position: 0, length };
        assert_eq!(RecordBatch::parse(&bytes), Err(expected));
    }
    bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(matches!(RecordBatch::parse(&bytes), Err(RecordBatchError::Truncated { .. })));
}

#[test]
fn a_wrong_count_is_seen_with_every_codec() {
    for codec in Compression::ALL {
        let mut builder = RecordBatchBuilder::new();
        for _ in 0..3 {
            builder.append(&NewRecord { value: Some(b"value"), ..Default::default() });
        }
        let bytes = builder.build_compressed(&mut Compressor::new(codec, None)).unwrap();
        let with_count = |count: i32| {
            let mut bytes = bytes.to_vec();
            bytes[RECORDS_COUNT_AT..HEADER_LENGTH].copy_from_slice(&count.to_be_bytes());
            read_all(&RecordBatch::parse(&bytes).unwrap()).map(|records| records.len())
        };
        assert_eq!(with_count(3), Ok(3), "{codec}");
        assert_eq!(with_count(2), Err(RecordError::TrailingBytes { count: 2 }), "{codec}");
        assert_eq!(with_count(0), Err(RecordError::TrailingBytes { count: 0 }), "{codec}");
        assert_eq!(with_count(-1), Err(RecordError::NegativeCount(-1)), "{codec}");
        for count in [4, i32::MAX] {
            let reason = "its length is not there";
            let expected = Err(RecordError::Malformed { index: 3, reason });
            assert_eq!(with_count(count), expected, "{codec}");
        }
    }
}

#[test]
fn a_leader_patches_offset_and_epoch_without_touching_the_checksum() {
    let original = batch_of(3);
    let batch = RecordBatch::parse(&original).unwrap();
    let prefix = batch.patched_prefix(Offset(5000), LeaderEpoch(12));
    let patched = [prefix.as_slice(), &original[PREFIX_LENGTH..]].concat();

    let mut in_place = original.to_vec();
    let mut batch = RecordBatchMut::parse(&mut in_place).unwrap();
    batch.set_last_offset(Offset(5002));
    batch.set_leader_epoch(LeaderEpoch(12));
    assert_eq!(in_place, patched);

    let batch = RecordBatch::parse(&patched).unwrap();
    assert!(batch.crc_is_valid());
    assert_eq!((batch.base_offset(), batch.last_offset()), (Offset(5000), Offset(5002)));
    assert_eq!(batch.leader_epoch(), LeaderEpoch(12));
    assert_eq!(batch.crc(), RecordBatch::parse(&original).unwrap().crc());
}

#[test]
fn log_append_time_changes_every_timestamp_and_the_checksum() {
    let original = batch_of(3);
    let batch = RecordBatch::parse(&original).unwrap();
    let header = batch.patched_header(Offset(7), LeaderEpoch(1), Timestamp(99_999));
    let patched = [header.as_slice(), batch.payload()].concat();

    let mut in_place = original.to_vec();
    let mut batch = RecordBatchMut::parse(&mut in_place).unwrap();
    batch.set_base_offset(Offset(7));
    batch.set_leader_epoch(LeaderEpoch(1));
    batch.set_log_append_time(Timestamp(99_999));
    assert_eq!(in_place, patched);

    let batch = RecordBatch::parse(&patched).unwrap();
    assert!(batch.crc_is_valid());
    assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(batch.max_timestamp(), Timestamp(99_999));
    for record in read_all(&batch).unwrap() {
        assert_eq!(record.timestamp, 99_999);
    }
}

#[test]
fn offsets_may_have_gaps_as_after_compaction() {
    let mut builder = RecordBatchBuilder::new().base_offset(Offset(10));
    builder.append_at(Offset(12), &NewRecord::default());
    builder.append_at(Offset(20), &NewRecord::default());
    builder.append(&NewRecord::default());
    let bytes = builder.build();
    let batch = RecordBatch::parse(&bytes).unwrap();
    let offsets: Vec<_> =
        batch.records().unwrap().map(|record| batch.offset_of(&record.unwrap()).0).collect();
    assert_eq!(offsets, [12, 20, 21]);
    assert_eq!((batch.base_offset(), batch.last_offset()), (Offset(10), Offset(21)));
}

#[test]
fn control_records_carry_their_type_in_the_key() {
    let mut builder = RecordBatchBuilder::new().control();
    builder.append_control(ControlRecordType::Commit, Timestamp(5), &[0, 0, 0, 0, 0, 1]);
    let bytes = builder.build();
    let batch = RecordBatch::parse(&bytes).unwrap();
    assert!(batch.is_control());
    let record = batch.records().unwrap().next().unwrap().unwrap();
    assert_eq!(record.key, Some([0, 0, 0, 1].as_slice()));
    assert_eq!(ControlRecordType::from_key(&[0, 0, 0, 1]), Some(ControlRecordType::Commit));
    assert_eq!(ControlRecordType::from_key(&[0, 0, 0, 99]), None);
    assert_eq!(ControlRecordType::from_key(&[0, 0, 0]), None);
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(increment_sequence(5, 3), 8);
    assert_eq!(increment_sequence(i32::MAX, 0), i32::MAX);
    assert_eq!(increment_sequence(i32::MAX, 1), 0);
    assert_eq!(increment_sequence(i32::MAX - 1, 5), 3);
}

#[test]
fn a_batch_that_decompresses_to_a_gibibyte_is_too_large() {
    let mut encoder = zstd::stream::write::Encoder::new(batch_of(0).to_vec(), 1).unwrap();
    // One record that claims half of it, so that the window would have to hold it.
    let mut head = Vec::new();
    varint::write(1 << 29, &mut head);
    std::io::Write::write_all(&mut encoder, &head).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        std::io::Write::write_all(&mut encoder, &zeros).unwrap();
    }
    let mut bytes = encoder.finish().unwrap();
    let length = (bytes.len() - LOG_OVERHEAD) as i32;
    bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    bytes[ATTRIBUTES_AT + 1] = Compression::Zstd.id();
    bytes[RECORDS_COUNT_AT + 3] = 1;
    let batch = RecordBatch::parse(&bytes).unwrap();
    let error = read_all(&batch).unwrap_err();
    assert_eq!(error, RecordError::Decompress(DecompressError::TooLarge { limit: 1 << 20 }));
    assert_eq!(error.error_code(), ErrorCode::MessageTooLarge);
}

#[test]
fn a_record_larger_than_the_window_is_read() {
    let value: Vec<u8> = (0..300_000u32).map(|index| (index % 251) as u8).collect();
    for codec in Compression::ALL {
        let mut builder = RecordBatchBuilder::new();
        for _ in 0..3 {
            builder.append(&NewRecord { value: Some(&value), ..Default::default() });
            builder.append(&NewRecord::default());
        }
        let bytes = builder.build_compressed(&mut Compressor::new(codec, None)).unwrap();
        let records = read_all(&RecordBatch::parse(&bytes).unwrap()).unwrap();
        assert_eq!(records.len(), 6);
        assert_eq!(records[4].value.as_deref(), Some(value.as_slice()), "{codec}");
    }
}

#[test]
fn an_unknown_codec_is_an_error() {
    let mut bytes = batch_of(1).to_vec();
    bytes[ATTRIBUTES_AT + 1] |= 5;
    let batch = RecordBatch::parse(&bytes).unwrap();
    assert_eq!(batch.compression(), Err(RecordError::UnknownCodec(5)));
    assert_eq!(read_all(&batch), Err(RecordError::UnknownCodec(5)));
}
