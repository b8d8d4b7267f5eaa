//! The metadata log's bytes: exactly Kafka's, and nothing is lost on the way there and back.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ottla_metadata::record::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, ClientQuotaRecord, ConfigRecord,
    FeatureLevelRecord, NO_LEADER, NoOpRecord, PartitionChangeRecord, PartitionRecord,
    ProducerIdsRecord, QuotaEntityPart, QuotaValue, RegisterBrokerRecord, RemoveTopicRecord,
    TopicRecord, UnregisterBrokerRecord,
};
use ottla_metadata::{BrokerEpoch, MetadataImage, MetadataRecord, RecordError};
use ottla_protocol::{BrokerId, LeaderEpoch, Uuid};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Checks both ways.
fn is_exactly(record: impl Into<MetadataRecord>, hex: &str) {
    let record = record.into();
    assert_eq!(record.to_bytes(), bytes(hex), "{record:?}");
    assert_eq!(MetadataRecord::decode(bytes(hex)).unwrap(), record);
}

const ID: Uuid = Uuid::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

#[test]
fn a_no_op_is_four_bytes() {
    is_exactly(NoOpRecord {}, "01 14 00 00");
}

fn quota(key: &str, value: f64, remove: bool) -> MetadataRecord {
    let part = |entity_type: &str, name: Option<&str>| QuotaEntityPart {
        entity_type: entity_type.into(),
        entity_name: name.map(Arc::from),
    };
    let entity = vec![part("user", Some("a")), part("client-id", None)];
    let value = QuotaValue::new(value);
    ClientQuotaRecord { entity, key: key.into(), value, remove }.into()
}

#[test]
fn a_quota_names_its_entity_and_the_default_has_no_name() {
    is_exactly(
        quota("k", 1.5, false),
        "01 0e 00 03 05 75 73 65 72 02 61 00 0a 63 6c 69 65 6e 74 2d 69 64 00 00 \
         02 6b 3f f8 00 00 00 00 00 00 00 00",
    );
}

#[test]
fn quotas_are_kept_by_snapshots_and_an_entity_without_any_is_forgotten() {
    let mut image = MetadataImage::default();
    for record in [quota("k", 1.0, false), quota("l", 2.0, false), quota("k", 3.0, false)] {
        image.replay(&record).unwrap();
    }
    let (entity, quotas) = image.client_quotas().next().unwrap();
    assert_eq!((entity["user"].as_deref(), entity["client-id"].as_deref()), (Some("a"), None));
    assert_eq!((quotas["k"].get(), quotas["l"].get()), (3.0, 2.0));
    let mut copy = MetadataImage::default();
    for record in image.to_records() {
        copy.replay(&record).unwrap();
    }
    assert_eq!(copy, image);
    for key in ["k", "l"] {
        image.replay(&quota(key, 0.0, true)).unwrap();
    }
    assert_eq!(image.client_quotas().len(), 0);
}

#[test]
fn a_feature_level_is_as_in_kafkas_bootstrap_checkpoint() {
    let record = FeatureLevelRecord { name: Arc::from("metadata.version"), feature_level: 21 };
    is_exactly(record, "01 0c 00 11 6d657461646174612e76657273696f6e 0015 00");
}

#[test]
fn a_topic_is_its_name_and_id() {
    is_exactly(
        TopicRecord { name: Arc::from("foo"), topic_id: ID },
        "01 02 00 04 666f6f 000102030405060708090a0b0c0d0e0f 00",
    );
}

#[test]
fn a_removed_configuration_has_a_null_value() {
    is_exactly(
        ConfigRecord {
            resource_type: 2,
            resource_name: Arc::from("foo"),
            name: Arc::from("a"),
            value: None,
        },
        "01 04 00 02 04 666f6f 02 61 00 00",
    );
}

#[test]
fn a_partition_change_holds_only_what_changed() {
    let mut record = PartitionChangeRecord::new(ID, 7);
    record.isr = Some(vec![BrokerId(1), BrokerId(2)]);
    record.leader = NO_LEADER;
    is_exactly(
        record,
        "01 05 02 00000007 000102030405060708090a0b0c0d0e0f 02
         00 09 03 00000001 00000002
         01 04 ffffffff",
    );
}

#[test]
fn a_partition_holds_its_replicas_isr_and_leader() {
    let record = PartitionRecord {
        partition_id: 0,
        topic_id: ID,
        replicas: vec![BrokerId(3)],
        isr: vec![BrokerId(3)],
        removing_replicas: vec![],
        adding_replicas: vec![],
        leader: BrokerId(3),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        directories: vec![Uuid::ZERO],
        leader_recovery_state: 0,
        eligible_leader_replicas: None,
        last_known_elr: None,
    };
    is_exactly(
        record,
        "01 03 02 00000000 000102030405060708090a0b0c0d0e0f
         02 00000003  02 00000003  01 01  00000003 00000000 00000000
         02 00000000000000000000000000000000 00",
    );
}

#[test]
fn a_registration_of_the_first_version_lacks_what_came_later() {
    let old = "01 00 00 00000001 000102030405060708090a0b0c0d0e0f 0000000000000005
               02 06 504c41494e 02 68 2384 0000 00  01  00 01 00";
    let MetadataRecord::RegisterBroker(record) = MetadataRecord::decode(bytes(old)).unwrap() else {
        panic!("another record");
    };
    assert_eq!(record.broker_epoch, BrokerEpoch(5));
    assert_eq!(record.end_points[0].port, 9092);
    assert_eq!(record.rack, None);
    assert!(record.fenced);
    assert!(!record.in_controlled_shutdown);
    assert!(record.log_dirs.is_empty());
}

#[test]
fn what_is_not_understood_is_named() {
    let decode = |hex| MetadataRecord::decode(bytes(hex)).unwrap_err();
    assert_eq!(decode("02 14 00 00"), RecordError::UnknownFrame(2));
    assert_eq!(decode("01 0b 00 00"), RecordError::UnknownType { api_key: 11, version: 0 });
    assert_eq!(
        decode("01 14 01 00"),
        RecordError::UnknownVersion { api_key: 20, version: 1, newest: 0 }
    );
    assert!(matches!(decode("01 14 00 00 00"), RecordError::Malformed(_)), "a byte too many");
    assert!(matches!(decode("01 09 00 0000"), RecordError::Malformed(_)), "too few");
    assert!(matches!(decode(""), RecordError::Malformed(_)));
    assert_eq!(decode("01 0b 00").to_string(), "metadata record type 11 (version 0) is not known");
}

#[test]
fn an_array_is_not_believed_to_be_longer_than_its_bytes() {
    // Replicas: two hundred million of them, says the length, and nothing follows.
    let hex = "01 03 02 00000000 000102030405060708090a0b0c0d0e0f ff84af5f";
    assert!(matches!(MetadataRecord::decode(bytes(hex)), Err(RecordError::Malformed(_))));
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid::from_bytes)
}

fn broker() -> impl Strategy<Value = BrokerId> {
    any::<i32>().prop_map(BrokerId)
}

fn brokers() -> impl Strategy<Value = Vec<BrokerId>> {
    vec(broker(), 0..4)
}

fn epoch() -> impl Strategy<Value = BrokerEpoch> {
    any::<i64>().prop_map(BrokerEpoch)
}

fn text() -> impl Strategy<Value = Arc<str>> {
    // Past 127 bytes the length takes two.
    "\\PC{0,150}".prop_map(Arc::from)
}

prop_compose! {
    fn endpoint()(name in text(), host in text(), port: u16, security_protocol: i16) -> BrokerEndpoint {
        BrokerEndpoint { name, host, port, security_protocol }
    }
}

prop_compose! {
    fn feature()(name in text(), min: i16, max: i16) -> BrokerFeature {
        BrokerFeature { name, min_supported_version: min, max_supported_version: max }
    }
}

prop_compose! {
    fn registration()(
        broker_id in broker(), flags: (bool, bool, bool), incarnation_id in id(),
        broker_epoch in epoch(), end_points in vec(endpoint(), 0..3),
        features in vec(feature(), 0..3), rack in option::of(text()), log_dirs in vec(id(), 0..3),
    ) -> MetadataRecord {
        let (is_migrating_zk_broker, fenced, in_controlled_shutdown) = flags;
        RegisterBrokerRecord {
            broker_id, is_migrating_zk_broker, incarnation_id, broker_epoch, end_points, features,
            rack, fenced, in_controlled_shutdown, log_dirs,
        }.into()
    }
}

prop_compose! {
    fn partition()(
        numbers: (i32, i32, i32), topic_id in id(), members in [brokers(), brokers(), brokers(), brokers()],
        leader in broker(), directories in vec(id(), 0..3), leader_recovery_state: i8,
        eligible_leader_replicas in option::of(brokers()), last_known_elr in option::of(brokers()),
    ) -> MetadataRecord {
        let (partition_id, leader_epoch, partition_epoch) = numbers;
        let [replicas, isr, removing_replicas, adding_replicas] = members;
        PartitionRecord {
            partition_id, topic_id, replicas, isr, removing_replicas, adding_replicas, leader,
            leader_epoch: LeaderEpoch(leader_epoch), partition_epoch, directories,
            leader_recovery_state, eligible_leader_replicas, last_known_elr,
        }.into()
    }
}

prop_compose! {
    fn partition_change()(
        partition_id: i32, topic_id in id(), leader in broker(), leader_recovery_state: i8,
        members in proptest::array::uniform6(option::of(brokers())),
        directories in option::of(vec(id(), 0..3)),
    ) -> MetadataRecord {
        let [isr, replicas, removing_replicas, adding_replicas, elr, last_known_elr] = members;
        PartitionChangeRecord {
            partition_id, topic_id, isr, leader, replicas, removing_replicas, adding_replicas,
            leader_recovery_state, eligible_leader_replicas: elr, last_known_elr, directories,
        }.into()
    }
}

fn record() -> impl Strategy<Value = MetadataRecord> {
    prop_oneof![
        registration(),
        partition(),
        partition_change(),
        Just(NoOpRecord {}.into()),
        id().prop_map(|topic_id| RemoveTopicRecord { topic_id }.into()),
        (text(), id()).prop_map(|(name, topic_id)| TopicRecord { name, topic_id }.into()),
        (text(), any::<i16>()).prop_map(|(name, feature_level)| FeatureLevelRecord {
            name,
            feature_level
        }
        .into()),
        (broker(), epoch()).prop_map(|(broker_id, broker_epoch)| UnregisterBrokerRecord {
            broker_id,
            broker_epoch
        }
        .into()),
        (broker(), epoch(), any::<i64>()).prop_map(
            |(broker_id, broker_epoch, next_producer_id)| ProducerIdsRecord {
                broker_id,
                broker_epoch,
                next_producer_id
            }
            .into()
        ),
        (any::<i8>(), text(), text(), option::of(text())).prop_map(
            |(resource_type, resource_name, name, value)| ConfigRecord {
                resource_type,
                resource_name,
                name,
                value
            }
            .into()
        ),
        (broker(), epoch(), any::<i8>(), any::<i8>(), vec(id(), 0..3)).prop_map(
            |(broker_id, broker_epoch, fenced, in_controlled_shutdown, log_dirs)| {
                BrokerRegistrationChangeRecord {
                    broker_id,
                    broker_epoch,
                    fenced,
                    in_controlled_shutdown,
                    log_dirs,
                }
                .into()
            }
        ),
    ]
}

proptest! {
    #[test]
    fn every_record_survives_the_log(record in record()) {
        prop_assert_eq!(MetadataRecord::decode(record.to_bytes()).unwrap(), record);
    }

    #[test]
    fn a_cut_record_is_refused(record in record(), at: prop::sample::Index) {
        let whole = record.to_bytes();
        let cut = whole.slice(..at.index(whole.len()));
        prop_assert!(MetadataRecord::decode(cut).is_err());
    }

    #[test]
    fn a_damaged_record_never_panics(record in record(), at: prop::sample::Index, with: u8) {
        let mut bytes = BytesMut::from(&record.to_bytes()[..]);
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = MetadataRecord::decode(bytes.freeze());
    }
}
