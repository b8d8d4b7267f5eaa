//! What clients are told when they send, fetch and change more and more.

use std::sync::Arc;

use ottla_config::BrokerConfig;
use ottla_metadata::MetadataRecord;
use ottla_metadata::record::{ClientQuotaRecord, QuotaEntityPart, QuotaValue};

use super::*;

fn quotas(set: &[(&str, &str, f64)]) -> ClientQuotas {
    let quotas = ClientQuotas::new(BrokerConfig::default().quotas);
    update(&quotas, set);
    quotas
}

fn update(quotas: &ClientQuotas, set: &[(&str, &str, f64)]) {
    quotas.update(&image_with(set));
}

/// An image with quotas: entity, key, value. The entity `user=a,client-id=` is of user a and any client.
pub(super) fn image_with(set: &[(&str, &str, f64)]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for (entity, key, value) in set {
        let parts = entity.split(',').map(|part| {
            let (kind, name) = part.split_once('=').unwrap();
            let entity_name = Some(Arc::from(name)).filter(|name: &Arc<str>| !name.is_empty());
            QuotaEntityPart { entity_type: Arc::from(kind), entity_name }
        });
        let record: MetadataRecord = ClientQuotaRecord {
            entity: parts.collect(),
            key: Arc::from(*key),
            value: QuotaValue::new(*value),
            remove: false,
        }
        .into();
        image.replay(&record).unwrap();
    }
    image
}

fn at(millis: u64) -> Monotonic {
    Monotonic(Duration::from_millis(millis))
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const ANN: ClientName<'_> = ClientName { user: "ann", client_id: "etl" };
const BEN: ClientName<'_> = ClientName { user: "ben", client_id: "etl" };

#[test]
fn without_a_quota_nothing_is_measured_or_held() {
    let quotas = quotas(&[]);
    assert!(!quotas.are_set() && !quotas.measure_requests());
    assert_eq!(quotas.produced(ANN, usize::MAX, at(0)), Duration::ZERO);
    assert_eq!(quotas.worked(ANN, millis(1_000_000), at(0)), Duration::ZERO);
    assert_eq!(quotas.connected("::1".parse().unwrap(), at(0)), Duration::ZERO);
    assert_eq!(quotas.most_to_fetch(ANN), None);
    assert!(quotas.metrics(at(0)).iter().all(|(_, entities)| entities.is_empty()));
}

#[test]
fn those_who_share_a_limit_are_measured_together() {
    let quotas = quotas(&[("client-id=etl", "producer_byte_rate", 1000.0)]);
    assert_eq!(quotas.produced(ANN, 8000, at(0)), Duration::ZERO);
    assert_eq!(quotas.produced(BEN, 3000, at(0)), millis(1000));
    update(&quotas, &[("user=", "producer_byte_rate", 1000.0)]);
    assert_eq!(quotas.produced(ANN, 10_000, at(0)), Duration::ZERO, "each user for himself now");
    assert_eq!(quotas.produced(BEN, 10_100, at(0)), millis(100));
}

#[test]
fn a_limit_that_changes_holds_for_what_was_measured() {
    let quotas = quotas(&[("user=ann", "producer_byte_rate", 1000.0)]);
    assert_eq!(quotas.produced(ANN, 10_000, at(0)), Duration::ZERO);
    update(&quotas, &[("user=ann", "producer_byte_rate", 500.0)]);
    assert_eq!(quotas.produced(ANN, 0, at(0)), millis(10_000));
    update(&quotas, &[]);
    assert_eq!(quotas.produced(ANN, 1_000_000, at(0)), Duration::ZERO);
}

#[test]
fn what_a_consumer_does_not_get_is_not_counted() {
    let quotas = quotas(&[("client-id=", "consumer_byte_rate", 1000.0)]);
    assert_eq!(quotas.most_to_fetch(ANN), Some(10_000));
    assert_eq!(quotas.fetched(ANN, 9000, at(0)), Duration::ZERO);
    assert_eq!(quotas.fetched(ANN, 5000, at(0)), millis(4000));
    let [_, (_, fetched), _] = quotas.metrics(at(100));
    assert_eq!((&*fetched[0].user, &*fetched[0].client_id), ("", "etl"));
    assert_eq!((fetched[0].per_second, fetched[0].throttle_millis), (9000.0 / 10.1, 4000));
    assert_eq!(quotas.metrics(at(4000))[1].1[0].throttle_millis, 0, "the time is over");
    assert_eq!(quotas.fetched(ANN, 1000, at(0)), Duration::ZERO);
}

#[test]
fn requests_are_throttled_for_a_sample_at_most() {
    let quotas = quotas(&[("user=,client-id=", "request_percentage", 10.0)]);
    assert!(quotas.measure_requests());
    // Ten per cent of the ten seconds of a burst.
    assert_eq!(quotas.worked(ANN, millis(1000), at(0)), Duration::ZERO);
    assert_eq!(quotas.worked(ANN, millis(50), at(0)), millis(500));
    assert_eq!(quotas.worked(ANN, millis(5000), at(0)), millis(1000));
}

#[test]
fn an_address_opens_so_many_connections_and_those_held_back_do_not_count() {
    let quotas = quotas(&[("ip=", "connection_creation_rate", 2.0)]);
    let [one, other] = ["127.0.0.1", "::1"].map(|address| address.parse::<IpAddr>().unwrap());
    for _ in 0..20 {
        assert_eq!(quotas.connected(one, at(0)), Duration::ZERO);
    }
    for _ in 0..20 {
        assert_eq!(quotas.connected(one, at(0)), millis(500));
    }
    assert_eq!(quotas.connected("::ffff:127.0.0.1".parse().unwrap(), at(0)), millis(500));
    assert_eq!(quotas.connected(other, at(0)), Duration::ZERO);
    assert_eq!(quotas.connected(one, at(500)), Duration::ZERO);
}
