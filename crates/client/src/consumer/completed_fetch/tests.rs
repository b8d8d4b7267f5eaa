//! What is handed out of a fetch, and what is passed over.

use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, TimestampType};
use ottla_protocol::{ProducerEpoch, Timestamp};

use super::*;

const RULES: ReadRules = ReadRules { check_crcs: true, max_batch_bytes: 1 << 20 };

fn builder(base: i64) -> RecordBatchBuilder {
    RecordBatchBuilder::new().base_offset(Offset(base)).leader_epoch(LeaderEpoch(3))
}

fn with(mut builder: RecordBatchBuilder, values: &[&str]) -> Bytes {
    for value in values {
        builder.append(&NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() });
    }
    builder.build()
}

fn transactional(base: i64, producer: i64, values: &[&str]) -> Bytes {
    let id = (ProducerId(producer), ProducerEpoch(0));
    with(builder(base).producer(id.0, id.1, 0).transactional(), values)
}

fn marker(base: i64, producer: i64, kind: ControlRecordType) -> Bytes {
    let id = (ProducerId(producer), ProducerEpoch(0));
    let mut builder = builder(base).producer(id.0, id.1, -1).transactional().control();
    builder.append_control(kind, Timestamp(0), &[0; 6]);
    builder.build()
}

fn fetch(from: i64, batches: &[Bytes], aborted: Option<&[(i64, i64)]>) -> CompletedFetch {
    let transaction = |(producer, first): &(i64, i64)| AbortedTransaction {
        producer_id: ProducerId(*producer),
        first_offset: Offset(*first),
    };
    let aborted = aborted.map(|rows| rows.iter().map(transaction).collect());
    let partition = TopicPartition::new("t", 0);
    let from = (Offset(from), LeaderEpoch::NONE);
    CompletedFetch::new(partition, from, Bytes::from(batches.concat()), aborted).unwrap()
}

/// `offset=value …`, and how far it is then.
fn drain(fetch: &mut CompletedFetch, most: usize) -> (String, i64, bool) {
    let mut records = Records::default();
    let mut decompressor = Decompressor::new();
    let done = fetch.drain(most, &mut decompressor, RULES, &mut records).unwrap();
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let shown: Vec<_> =
        records.iter().map(|it| format!("{}={}", it.offset, text(it.value.unwrap()))).collect();
    assert_eq!(records.len(), shown.len());
    (shown.join(" "), fetch.position().0.0, done)
}

#[test]
fn records_are_handed_out_in_portions_across_batches() {
    let batches = [with(builder(0), &["a", "b", "c"]), with(builder(3), &["d"])];
    let mut fetch = fetch(1, &batches, None);
    assert_eq!(fetch.end(), (Offset(4), LeaderEpoch(3)));
    assert_eq!(drain(&mut fetch, 1), ("1=b".to_owned(), 2, false));
    assert_eq!(drain(&mut fetch, 2), ("2=c 3=d".to_owned(), 4, true));
    assert_eq!(drain(&mut fetch, 2), (String::new(), 4, true));
}

#[test]
fn a_piece_of_a_batch_is_left_for_the_next_fetch() {
    let second = with(builder(1), &["b"]);
    let mut fetch = fetch(0, &[with(builder(0), &["a"]), second.slice(..second.len() - 1)], None);
    assert_eq!(fetch.end().0, Offset(1));
    assert_eq!(drain(&mut fetch, 9), ("0=a".to_owned(), 1, true));
    let nothing = CompletedFetch::new(
        TopicPartition::new("t", 0),
        (Offset(1), LeaderEpoch::NONE),
        second.slice(..second.len() - 1),
        None,
    );
    assert!(nothing.is_none());
}

#[test]
fn the_end_of_a_compacted_batch_counts() {
    let mut compacted = builder(0);
    let record = NewRecord { value: Some(b"x"), ..NewRecord::default() };
    compacted.append_at(Offset(2), &record);
    compacted.append_at(Offset(7), &record);
    let mut fetch = fetch(3, &[compacted.build()], None);
    assert_eq!(drain(&mut fetch, 9), ("7=x".to_owned(), 8, true));
}

#[test]
fn aborted_transactions_are_passed_over_by_who_reads_committed() {
    let batches = [
        transactional(0, 1, &["gone"]),
        transactional(1, 2, &["kept"]),
        with(builder(2), &["plain"]),
        marker(3, 1, ControlRecordType::Abort),
        marker(4, 2, ControlRecordType::Commit),
        transactional(5, 1, &["kept too"]),
    ];
    let read = |aborted| drain(&mut fetch(0, &batches, aborted), 9);
    let committed = "1=kept 2=plain 5=kept too".to_owned();
    assert_eq!(read(Some(&[(1, 0)][..])), (committed, 6, true));
    let all = "0=gone 1=kept 2=plain 5=kept too".to_owned();
    assert_eq!(read(None), (all.clone(), 6, true));
    assert_eq!(read(Some(&[][..])), (all, 6, true));
}

#[test]
fn every_codec_is_unpacked_with_headers_and_times() {
    for codec in Compression::ALL {
        let mut builder = builder(0).timestamp_type(TimestampType::CreateTime);
        builder.append(&NewRecord {
            timestamp: Timestamp(5),
            key: Some(b"k"),
            value: None,
            headers: &[("h", Some(b"1")), ("h", None)],
        });
        let batch = builder.build_compressed(&mut Compressor::new(codec, None)).unwrap();
        let mut fetch = fetch(0, &[batch], None);
        let mut records = Records::default();
        fetch.drain(9, &mut Decompressor::new(), RULES, &mut records).unwrap();
        let borrowed = records.iter().next().unwrap();
        let headers: Vec<_> = borrowed.headers().collect();
        assert_eq!(headers, [(&b"h"[..], Some(&b"1"[..])), (&b"h"[..], None)], "{codec}");
        assert_eq!(borrowed.leader_epoch(), LeaderEpoch(3));
        let record = records.into_iter().next().unwrap();
        assert_eq!(
            (record.timestamp, record.key.as_deref(), record.value),
            (Timestamp(5), Some(&b"k"[..]), None)
        );
        assert_eq!(record.headers[0], (Bytes::from_static(b"h"), Some(Bytes::from_static(b"1"))));
    }
}

#[test]
fn a_batch_that_cannot_be_read_is_named_and_stays() {
    let good = with(builder(0), &["a"]);
    let mut bad = with(builder(1), &["b", "c"]).to_vec();
    *bad.last_mut().unwrap() ^= 1;
    let mut fetch = fetch(0, &[good, Bytes::from(bad)], None);
    let mut records = Records::default();
    for round in 0..2 {
        let error = fetch.drain(9, &mut Decompressor::new(), RULES, &mut records).unwrap_err();
        let (mut at, mut behind) = (0, 0);
        if let ConsumerError::Corrupt { offset, next, .. } = &error {
            (at, behind) = (offset.0, next.0);
        }
        assert_eq!((at, behind), (1, 3), "{round}: {error}");
        assert_eq!(records.len(), 1, "what came before is handed out");
    }
}

#[test]
fn records_are_slices_of_the_response() {
    let batch = with(builder(0), &["value"]);
    let response = batch.clone();
    let mut fetch = fetch_of(response.clone());
    let mut records = Records::default();
    fetch.drain(9, &mut Decompressor::new(), RULES, &mut records).unwrap();
    let value = records.iter().next().unwrap().value.unwrap();
    assert!(response.as_ptr_range().contains(&value.as_ptr()), "it was copied");
    let filtered = records.filter(|record| record.value != Some(b"value"));
    assert!(filtered.is_empty() && filtered.iter().next().is_none());
}

fn fetch_of(response: Bytes) -> CompletedFetch {
    let from = (Offset(0), LeaderEpoch::NONE);
    CompletedFetch::new(TopicPartition::new("t", 0), from, response, None).unwrap()
}
