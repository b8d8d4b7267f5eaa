use ottla_protocol::{LeaderEpoch, Offset, StrBytes, Timestamp};
use proptest::prelude::*;

use super::*;

fn text(text: &str) -> StrBytes {
    StrBytes::from(text)
}

fn bytes(parts: &[&[u8]]) -> Bytes {
    Bytes::from(parts.concat())
}

fn commit(expire_timestamp: Option<Timestamp>) -> CoordinatorRecord {
    CoordinatorRecord::OffsetCommit {
        key: OffsetCommitKey { group: text("grp"), topic: text("t1"), partition: 258 },
        value: Some(OffsetCommitValue {
            offset: Offset(1000),
            leader_epoch: LeaderEpoch(7),
            metadata: text("m"),
            commit_timestamp: Timestamp(0x0102_0304_0506_0708),
            expire_timestamp,
        }),
    }
}

const COMMIT_KEY: &[&[u8]] = &[
    &[0, 1], // version
    &[0, 3],
    b"grp", // group
    &[0, 2],
    b"t1",         // topic
    &[0, 0, 1, 2], // partition
];

fn decoded(key: &Bytes, value: Option<&Bytes>) -> Option<CoordinatorRecord> {
    CoordinatorRecord::decode(Some(key), value).unwrap()
}

#[test]
fn an_offset_commit_is_written_as_version_3() {
    let encoded = commit(None).encode().unwrap();
    assert_eq!(encoded.key, bytes(COMMIT_KEY));
    let value = bytes(&[
        &[0, 3],                      // version
        &[0, 0, 0, 0, 0, 0, 3, 0xe8], // offset 1000
        &[0, 0, 0, 7],                // leader epoch
        &[0, 1],
        b"m",                      // metadata
        &[1, 2, 3, 4, 5, 6, 7, 8], // commit timestamp
    ]);
    assert_eq!(encoded.value, Some(value.clone()));
    assert_eq!(decoded(&encoded.key, Some(&value)), Some(commit(None)));
}

#[test]
fn an_offset_commit_with_an_expiry_is_written_as_version_1() {
    let encoded = commit(Some(Timestamp(9))).encode().unwrap();
    let value = bytes(&[
        &[0, 1],
        &[0, 0, 0, 0, 0, 0, 3, 0xe8],
        &[0, 1],
        b"m",
        &[1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 0, 0, 0, 0, 0, 0, 9], // expire timestamp
    ]);
    assert_eq!(encoded.value, Some(value.clone()));
    let Some(CoordinatorRecord::OffsetCommit { value: Some(read), .. }) =
        decoded(&encoded.key, Some(&value))
    else {
        panic!("not an offset commit")
    };
    assert_eq!(read.expire_timestamp, Some(Timestamp(9)));
    assert_eq!(read.leader_epoch, LeaderEpoch::NONE, "version 1 has no place for it");
}

#[test]
fn older_and_newer_offset_commits_are_read() {
    let rest: &[&[u8]] = &[&[0, 1], b"m", &[1, 2, 3, 4, 5, 6, 7, 8]];
    let offset: &[u8] = &[0, 0, 0, 0, 0, 0, 3, 0xe8];
    let v0 = bytes(&[&[&[0, 0], offset], rest].concat());
    let v2 = bytes(&[&[&[0, 2], offset], rest].concat());
    let v1_no_expiry = bytes(&[&[&[0, 1], offset], rest, &[&[0xff; 8]]].concat());
    // Compact string, one unknown tagged field of two bytes.
    let v4 = bytes(&[
        &[0, 4],
        offset,
        &[0, 0, 0, 7],
        &[2],
        b"m",
        &[1, 2, 3, 4, 5, 6, 7, 8],
        &[1, 0, 2, 0xaa, 0xbb],
    ]);
    let key = bytes(COMMIT_KEY);
    for (value, epoch) in [(v0, -1), (v1_no_expiry, -1), (v2, -1), (v4, 7)] {
        let CoordinatorRecord::OffsetCommit { value: Some(read), .. } =
            decoded(&key, Some(&value)).unwrap()
        else {
            panic!("not an offset commit")
        };
        assert_eq!(read.offset, Offset(1000));
        assert_eq!(read.leader_epoch, LeaderEpoch(epoch));
        assert_eq!(read.metadata, text("m"));
        assert_eq!(read.expire_timestamp, None);
    }
    // Key version 0 has the same fields.
    let mut old_key = key.to_vec();
    old_key[1] = 0;
    assert!(decoded(&Bytes::from(old_key), None).is_some());
}

fn generation() -> CoordinatorRecord {
    CoordinatorRecord::GroupMetadata {
        key: GroupMetadataKey { group: text("grp") },
        value: Some(GroupMetadataValue {
            protocol_type: text("consumer"),
            generation: 5,
            protocol: Some(text("range")),
            leader: Some(text("m1")),
            current_state_timestamp: Timestamp(16),
            members: vec![MemberMetadata {
                member_id: text("m1"),
                group_instance_id: Some(text("i")),
                client_id: text("c"),
                client_host: text("/h"),
                rebalance_timeout_ms: 300_000,
                session_timeout_ms: 45_000,
                subscription: Bytes::from_static(&[1, 2, 3]),
                assignment: Bytes::from_static(&[4]),
            }],
        }),
    }
}

#[test]
fn a_generation_is_written_as_version_3() {
    let encoded = generation().encode().unwrap();
    assert_eq!(encoded.key, bytes(&[&[0, 2], &[0, 3], b"grp"]));
    let value = bytes(&[
        &[0, 3], // version
        &[0, 8],
        b"consumer",   // protocol type
        &[0, 0, 0, 5], // generation
        &[0, 5],
        b"range", // protocol
        &[0, 2],
        b"m1",                      // leader
        &[0, 0, 0, 0, 0, 0, 0, 16], // current state timestamp
        &[0, 0, 0, 1],              // members
        &[0, 2],
        b"m1", // member id
        &[0, 1],
        b"i", // group instance id
        &[0, 1],
        b"c", // client id
        &[0, 2],
        b"/h",               // client host
        &[0, 4, 0x93, 0xe0], // rebalance timeout 300000
        &[0, 0, 0xaf, 0xc8], // session timeout 45000
        &[0, 0, 0, 3],
        &[1, 2, 3], // subscription
        &[0, 0, 0, 1],
        &[4], // assignment
    ]);
    assert_eq!(encoded.value, Some(value.clone()));
    assert_eq!(decoded(&encoded.key, Some(&value)), Some(generation()));
}

#[test]
fn an_empty_generation_has_null_protocol_and_leader() {
    let record = CoordinatorRecord::GroupMetadata {
        key: GroupMetadataKey { group: text("g") },
        value: Some(GroupMetadataValue {
            protocol_type: text(""),
            generation: 0,
            protocol: None,
            leader: None,
            current_state_timestamp: Timestamp::NONE,
            members: Vec::new(),
        }),
    };
    let value = bytes(&[
        &[0, 3],
        &[0, 0],
        &[0, 0, 0, 0],
        &[0xff, 0xff],
        &[0xff, 0xff],
        &[0xff; 8],
        &[0, 0, 0, 0],
    ]);
    assert_eq!(record.encode().unwrap().value, Some(value));
}

#[test]
fn the_first_generation_format_has_one_timeout() {
    let value = bytes(&[
        &[0, 0],
        &[0, 8],
        b"consumer",
        &[0, 0, 0, 5],
        &[0, 5],
        b"range",
        &[0, 2],
        b"m1",
        &[0, 0, 0, 1],
        &[0, 2],
        b"m1",
        &[0, 1],
        b"c",
        &[0, 2],
        b"/h",
        &[0, 0, 0xaf, 0xc8],
        &[0, 0, 0, 0],
        &[0, 0, 0, 0],
    ]);
    let key = bytes(&[&[0, 2], &[0, 3], b"grp"]);
    let Some(CoordinatorRecord::GroupMetadata { value: Some(read), .. }) =
        decoded(&key, Some(&value))
    else {
        panic!("not a generation")
    };
    assert_eq!(read.members[0].rebalance_timeout_ms, 45_000);
    assert_eq!(read.members[0].group_instance_id, None);
    assert_eq!(read.current_state_timestamp, Timestamp::NONE);
}

#[test]
fn a_tombstone_has_no_value() {
    let key = bytes(&[&[0, 2], &[0, 1], b"g"]);
    let record = decoded(&key, None).unwrap();
    assert_eq!(record.group_id(), &text("g"));
    assert_eq!(record.encode().unwrap(), EncodedRecord { key, value: None });
}

#[test]
fn other_kinds_are_skipped_and_corrupt_records_are_not() {
    assert_eq!(decoded(&bytes(&[&[0, 3], b"whatever"]), None), None);
    assert_eq!(CoordinatorRecord::decode(None, None), Err(RecordError::NoKey));
    let error = |key: &[u8], value: Option<&[u8]>| {
        let value = value.map(Bytes::copy_from_slice);
        CoordinatorRecord::decode(Some(&Bytes::copy_from_slice(key)), value.as_ref()).unwrap_err()
    };
    assert!(matches!(error(&[0], None), RecordError::Key(_)));
    assert!(matches!(error(&[0, 2, 0, 9, b'g'], None), RecordError::Key(_)));
    let trailing = error(&[0, 2, 0, 1, b'g', 0], None);
    assert!(matches!(trailing, RecordError::Key(_)), "{trailing}");
    let key: &[u8] = &[0, 2, 0, 1, b'g'];
    let unknown = RecordError::ValueVersion { kind: "GroupMetadataValue", version: 5 };
    assert_eq!(error(key, Some(&[0, 5])), unknown);
    assert!(matches!(error(key, Some(&[0, 3, 0, 1])), RecordError::Value { .. }));
    // A count of members that the bytes cannot hold.
    let many =
        [&[0, 3, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..], &[0; 8], &[0, 0, 0xff, 0xff]];
    assert!(matches!(error(key, Some(&many.concat())), RecordError::Value { .. }));
}

#[test]
fn a_string_that_does_not_fit_is_refused() {
    let group = text(&"g".repeat(32_768));
    let record = CoordinatorRecord::GroupMetadata { key: GroupMetadataKey { group }, value: None };
    assert!(matches!(record.encode(), Err(RecordError::TooLong(_))));
}

#[test]
fn groups_are_spread_by_javas_hash() {
    // "a" = 97, "ab" = 97 * 31 + 98 = 3105.
    assert_eq!(partition_for("", 50), 0);
    assert_eq!(partition_for("a", 50), 97 % 50);
    assert_eq!(partition_for("ab", 50), 3105 % 50);
    // Hashes to -2^31, whose sign bit is dropped.
    assert_eq!(partition_for("polygenelubricants", 50), 0);
    // U+1F600 is the surrogates d83d de00: 55357 * 31 + 56832 = 1772899.
    assert_eq!(partition_for("\u{1f600}", 50), 1_772_899 % 50);
    assert_eq!(partition_for("a", 0), 0);
}

fn any_text() -> impl Strategy<Value = StrBytes> {
    proptest::collection::vec(any::<char>(), 0..6)
        .prop_map(|chars| StrBytes::from(chars.into_iter().collect::<String>()))
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..9).prop_map(Bytes::from)
}

fn any_member() -> impl Strategy<Value = MemberMetadata> {
    (
        (any_text(), proptest::option::of(any_text()), any_text(), any_text()),
        (0..i32::MAX, any::<i32>(), any_bytes(), any_bytes()),
    )
        .prop_map(|((member_id, group_instance_id, client_id, client_host), rest)| {
            let (rebalance_timeout_ms, session_timeout_ms, subscription, assignment) = rest;
            MemberMetadata {
                member_id,
                group_instance_id,
                client_id,
                client_host,
                rebalance_timeout_ms,
                session_timeout_ms,
                subscription,
                assignment,
            }
        })
}

fn any_record() -> impl Strategy<Value = CoordinatorRecord> {
    let commit = (any_text(), any_text(), any::<i32>(), any::<i64>(), any::<i32>(), any_text());
    let commit = commit.prop_map(|(group, topic, partition, offset, epoch, metadata)| {
        CoordinatorRecord::OffsetCommit {
            key: OffsetCommitKey { group, topic, partition },
            value: Some(OffsetCommitValue {
                offset: Offset(offset),
                leader_epoch: LeaderEpoch(epoch),
                metadata,
                commit_timestamp: Timestamp(offset),
                expire_timestamp: None,
            }),
        }
    });
    let members = proptest::collection::vec(any_member(), 0..3);
    let maybe = || proptest::option::of(any_text());
    let generation = (any_text(), any_text(), any::<i32>(), maybe(), maybe(), members);
    let generation =
        generation.prop_map(|(group, protocol_type, generation, protocol, leader, members)| {
            CoordinatorRecord::GroupMetadata {
                key: GroupMetadataKey { group },
                value: Some(GroupMetadataValue {
                    protocol_type,
                    generation,
                    protocol,
                    leader,
                    current_state_timestamp: Timestamp(i64::from(generation)),
                    members,
                }),
            }
        });
    prop_oneof![commit, generation]
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in any_record()) {
        let encoded = record.encode().unwrap();
        prop_assert_eq!(decoded(&encoded.key, encoded.value.as_ref()), Some(record));
    }

    /// Cut or changed anywhere, a record is read or refused; it never panics.
    #[test]
    fn damage_is_answered(record in any_record(), at in any::<prop::sample::Index>(), to: u8, cut: bool) {
        let encoded = record.encode().unwrap();
        let mut value = encoded.value.unwrap_or_default().to_vec();
        let at = at.index(value.len());
        if cut { value.truncate(at) } else { value[at] = to }
        let _ = CoordinatorRecord::decode(Some(&encoded.key), Some(&Bytes::from(value)));
    }
}
