//! What holds of the image whatever is asked of the controller.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_metadata::{MetadataDelta, MetadataImage, PartitionRegistration};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::script::Cluster;

fn command() -> impl Strategy<Value = String> {
    let broker = 1..5i32;
    let topic = select(vec!["a", "b", "c", "a.b", "a_b", "__consumer_offsets"]);
    let wish = select(vec!["", "fence", "shutdown", "offset=0", "fence shutdown"]);
    let change = select(vec![
        "set:retention.ms=5",
        "set:retention.ms=6",
        "delete:retention.ms",
        "append:cleanup.policy=compact",
        "set:unclean.leader.election.enable=true",
        "set:nope=1",
        "set:min.insync.replicas=2",
        "delete:min.insync.replicas",
    ]);
    prop_oneof![
        4 => broker.clone().prop_map(|id| format!("up {id}")),
        2 => broker.clone().prop_map(|id| format!("register {id} rack=r{}", id % 2)),
        1 => broker.clone().prop_map(|id| format!("unregister {id}")),
        2 => broker.clone().prop_map(|id| format!("dead {id}")),
        1 => Just(String::from("rebalance-leaders")),
        1 => Just(String::from("elect-unclean")),
        1 => (0..2).prop_map(|level| {
            format!("features eligible.leader.replicas.version={level} type={}", 2 - level)
        }),
        1 => broker.clone().prop_map(|id| format!("producer-ids {id}")),
        6 => (broker.clone(), wish).prop_map(|(id, wish)| format!("heartbeat {id} {wish}")),
        2 => (1..9500u32).prop_map(|ms| format!("after {ms}")),
        6 => (topic.clone(), -1..5i32, -1..5i32)
            .prop_map(|(topic, n, factor)| format!("create {topic} partitions={n} factor={factor}")),
        2 => (topic.clone(), vec(broker.clone(), 1..4)).prop_map(|(topic, ids)| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("create {topic} assign=0:{}", ids.join(","))
        }),
        1 => topic.clone().prop_map(|topic| format!("auto-create {topic}")),
        2 => (topic.clone(), 0..7i32).prop_map(|(topic, n)| format!("grow {topic} count={n}")),
        2 => topic.clone().prop_map(|topic| format!("delete {topic}")),
        1 => topic.clone().prop_map(|topic| format!("delete id:{topic} {topic}")),
        2 => (topic.clone(), change.clone()).prop_map(|(topic, change)| format!("alter topic:{topic} {change}")),
        1 => (broker.clone(), change).prop_map(|(id, change)| format!("alter broker:{id} {change} | broker: {change}")),
        6 => (broker.clone(), topic.clone(), btree_set(broker.clone(), 0..4), 0..4i32).prop_map(
            |(leader, topic, mut isr, epoch)| {
                isr.insert(leader);
                let isr: Vec<String> = isr.iter().map(ToString::to_string).collect();
                // Now and then of an epoch that may not be the current one.
                let epoch = if epoch == 0 { "leader-epoch=1" } else { "" };
                format!("isr {leader} {topic}-0 {} {epoch}", isr.join(","))
            }
        ),
        2 => (topic.clone(), vec(broker.clone(), 1..4)).prop_map(|(topic, ids)| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("reassign {topic}-0={}", ids.join(","))
        }),
        1 => topic.clone().prop_map(|topic| format!("reassign {topic}-0=cancel")),
        1 => (topic, select(vec!["preferred", "unclean"]))
            .prop_map(|(topic, how)| format!("elect {how} {topic}-0")),
        1 => Just(String::from("failover")),
    ]
}

/// A partition by itself, and among the brokers.
fn check_partition(image: &MetadataImage, partition: &PartitionRegistration) {
    let replicas: BTreeSet<_> = partition.replicas.iter().collect();
    assert_eq!(replicas.len(), partition.replicas.len(), "a replica twice");
    assert!(partition.elr.iter().all(|id| replicas.contains(id)), "eligible, but no replica");
    assert!(partition.elr.iter().all(|id| !partition.isr.contains(id)), "eligible and in sync");
    assert!(partition.isr.iter().all(|id| replicas.contains(id)), "in sync, but no replica");
    match partition.leader {
        Some(leader) => {
            assert!(partition.isr.contains(&leader), "it leads without being in sync");
            assert!(image.is_active(leader), "it leads without being active");
        }
        None => {
            let has_all = if partition.isr.is_empty() { &partition.elr } else { &partition.isr };
            let could = has_all.iter().find(|id| image.is_active(**id));
            assert_eq!(could, None, "it could lead and does not");
            let is_lost = has_all.is_empty() && partition.last_known_elr.is_empty();
            assert!(!is_lost, "nobody is known to have the records");
        }
    }
}

/// Epochs never go back, and nothing changes without one.
fn check_step(old: &PartitionRegistration, new: &PartitionRegistration) {
    assert!(new.partition_epoch >= old.partition_epoch && new.leader_epoch >= old.leader_epoch);
    if new != old {
        assert!(new.partition_epoch > old.partition_epoch, "changed without an epoch");
    }
    if new.leader != old.leader {
        assert!(new.leader_epoch > old.leader_epoch, "another leader in the same epoch");
    }
}

fn check_image(before: &MetadataImage, after: &MetadataImage) {
    for topic in after.topics() {
        assert_eq!(after.topic_by_id(topic.id), Some(topic));
        assert!(topic.partitions.keys().copied().eq(0..topic.partitions.len() as i32));
        for (number, partition) in &topic.partitions {
            check_partition(after, partition);
            let old = before.topic_by_id(topic.id).and_then(|topic| topic.partition(*number));
            old.into_iter().for_each(|old| check_step(old, partition));
        }
    }
    assert!(after.next_producer_id() >= before.next_producer_id());
}

fn check_snapshot(image: &MetadataImage) {
    let mut copy = MetadataImage::default();
    for record in image.to_records() {
        copy.replay(&record).unwrap();
    }
    copy.advance_to(image.position());
    assert_eq!(&copy, image);
}

/// The delta names all that differs.
fn check_delta(before: &MetadataImage, after: &MetadataImage) {
    let delta = MetadataDelta::between(before, after);
    let ids = |image: &MetadataImage| image.topics().map(|topic| topic.id).collect::<BTreeSet<_>>();
    let (old, new) = (ids(before), ids(after));
    assert!(
        delta
            .created
            .iter()
            .map(|topic| topic.id)
            .collect::<BTreeSet<_>>()
            .iter()
            .eq(new.difference(&old))
    );
    assert!(
        delta
            .deleted
            .iter()
            .map(|topic| topic.id)
            .collect::<BTreeSet<_>>()
            .iter()
            .eq(old.difference(&new))
    );
    let changed: BTreeSet<_> = delta.changed.iter().map(|changed| changed.topic.id).collect();
    for id in old.intersection(&new) {
        let (old, new) = (before.topic_by_id(*id).unwrap(), after.topic_by_id(*id).unwrap());
        assert_eq!(changed.contains(id), old != new);
    }
    for (resource, config) in after.configs() {
        assert_eq!(delta.configs.contains(resource), before.config(resource) != Some(config));
    }
    for broker in after.brokers() {
        let named = delta.brokers.get(&broker.id);
        assert_eq!(named.is_some(), before.broker(broker.id) != Some(broker));
    }
    assert!(MetadataDelta::between(after, after).is_empty());
}

/// What did not change was not copied either.
fn check_shared(before: &MetadataImage, after: &MetadataImage) {
    for topic in after.topics() {
        match before.topic_by_id(topic.id) {
            Some(old) if old == topic => assert!(Arc::ptr_eq(old, topic), "copied, not changed"),
            Some(_) | None => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_image_is_sound_after_every_command(commands in vec(command(), 1..60)) {
        let mut cluster = Cluster::default();
        cluster.run("up 1 2 3");
        for command in &commands {
            let before = cluster.image().clone();
            cluster.run(command);
            check_image(&before, cluster.image());
            check_delta(&before, cluster.image());
            // A controller on another node has an image of its own.
            if command != "failover" {
                check_shared(&before, cluster.image());
            }
        }
        check_snapshot(cluster.image());
    }
}
