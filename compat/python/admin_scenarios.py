"""What an operator asks."""

import time

from client import (
    BROKERS,
    FIRST_TIMESTAMP,
    Acknowledged,
    admin_client,
    answer,
    asked,
    check,
    consumer,
    create_topic,
    done,
    equal,
    filled,
    refused,
    take,
    unique,
    until,
)
from confluent_kafka import (
    OFFSET_END,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)


def partitions_of(admin, topic):
    """Its partitions, or None if there is no such topic; asked of the whole cluster, so that asking creates nothing."""
    time.sleep(0.02)
    metadata = admin.list_topics(timeout=10).topics.get(topic)
    return None if metadata is None else metadata.partitions


def has_leaders(admin, topic, count):
    partitions = partitions_of(admin, topic) or {}
    return len(partitions) == count and all(partition.leader >= 0 for partition in partitions.values())


def whole_cluster(admin):
    """The cluster when all its brokers are there."""
    described = []

    def complete():
        described.append(answer(admin.describe_cluster()))
        return len(described[-1].nodes) == BROKERS

    until(f"{BROKERS} brokers", complete)
    return described[-1]


def brokers(admin):
    return [str(node.id) for node in whole_cluster(admin).nodes]


def topics():
    topic = unique("topic-admin")
    admin = admin_client()
    wanted = NewTopic(topic, 3, config={"retention.ms": "123456"})
    done(KafkaError.TOPIC_ALREADY_EXISTS, lambda: answer(admin.create_topics([wanted])))
    until("three partitions with leaders", lambda: has_leaders(admin, topic, 3))
    refused(
        KafkaError.TOPIC_ALREADY_EXISTS, "a second create", lambda: answer(admin.create_topics([wanted]))
    )
    done(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: answer(admin.delete_topics([topic])))
    until("the topic to be gone", lambda: partitions_of(admin, topic) is None)
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, "a second delete", lambda: answer(admin.delete_topics([topic])))


def groups():
    topic = filled("list-describe-delete-groups")
    group = unique("list-describe-delete-groups")
    admin = admin_client()
    member = consumer(group_id=group, client_id="watched", auto_offset_reset="earliest")
    member.subscribe([topic])
    take(member, 100)
    asked(lambda: member.commit(asynchronous=False))

    def listed():
        return group in [listing.group_id for listing in answer(admin.list_consumer_groups()).valid]

    until("the group to be listed", listed)
    description = answer(admin.describe_consumer_groups([group]))
    equal(ConsumerGroupState.STABLE, description.state, "state")
    equal("range", description.partition_assignor, "assignor")
    equal(["watched"], [described.client_id for described in description.members], "client ids")
    owned = description.members[0].assignment.topic_partitions
    equal([(topic, 0)], [(place.topic, place.partition) for place in owned], "assignment")
    refused(
        KafkaError.NON_EMPTY_GROUP,
        "the deletion of a group with a member",
        lambda: answer(admin.delete_consumer_groups([group])),
    )
    member.close()

    until(
        "the group to be empty",
        lambda: answer(admin.describe_consumer_groups([group])).state == ConsumerGroupState.EMPTY,
    )
    committed = answer(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])).topic_partitions
    equal([(topic, 100)], [(place.topic, place.offset) for place in committed], "committed offsets")
    done(KafkaError.GROUP_ID_NOT_FOUND, lambda: answer(admin.delete_consumer_groups([group])))
    check(not listed(), "the deleted group is still listed")
    refused(
        KafkaError.GROUP_ID_NOT_FOUND, "a second deletion", lambda: answer(admin.delete_consumer_groups([group]))
    )


def offsets_for_times():
    place = TopicPartition(filled("offsets-for-times"), 0)
    admin = admin_client()

    def offset(spec):
        return answer(admin.list_offsets({place: spec})).offset

    equal(0, offset(OffsetSpec.earliest()), "earliest")
    equal(100, offset(OffsetSpec.latest()), "latest")
    equal(42, offset(OffsetSpec.for_timestamp(FIRST_TIMESTAMP + 42_000)), "offset of a timestamp")
    equal(-1, offset(OffsetSpec.for_timestamp(FIRST_TIMESTAMP + 100_000)), "after the last")
    equal(99, offset(OffsetSpec.max_timestamp()), "KIP-734 max timestamp")


def delete_records():
    topic = filled("delete-records")
    place = TopicPartition(topic, 0)
    admin = admin_client()

    def delete(offset):
        return answer(admin.delete_records([TopicPartition(topic, 0, offset)])).low_watermark

    equal(30, delete(30), "low watermark")
    equal(30, answer(admin.list_offsets({place: OffsetSpec.earliest()})).offset, "earliest")
    reader = consumer(auto_offset_reset="earliest")
    reader.assign([TopicPartition(topic, 0, 10)])
    equal(30, take(reader, 1)[0].offset(), "where a reader begins that asks for what was deleted")
    reader.close()
    refused(KafkaError.OFFSET_OUT_OF_RANGE, "a deletion beyond the end", lambda: delete(101))
    equal(30, delete(7), "low watermark once more")
    equal(100, delete(OFFSET_END), "low watermark when all is deleted")
    producer = Acknowledged()
    producer.send(topic, b"goes on")
    equal([100], producer.finish(), "offset of the next record")


def configs():
    topic = create_topic("describe-and-alter-configs", 1, config={"retention.ms": "123456"})
    admin = admin_client()

    def entry(key, kind=ConfigResource.Type.TOPIC, name=topic):
        entries = answer(admin.describe_configs([ConfigResource(kind, name)]))
        check(key in entries, f"{key} is not described for {name}")
        return entries[key]

    def alter(key, value, operation=AlterConfigOpType.SET):
        change = ConfigEntry(key, value, incremental_operation=operation)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
        answer(admin.incremental_alter_configs([resource]))

    equal("123456", entry("retention.ms").value, "retention.ms as created")
    equal(ConfigSource.DYNAMIC_TOPIC_CONFIG.value, entry("retention.ms").source, "its source")
    equal("delete", entry("cleanup.policy").value, "cleanup.policy by default")
    equal(ConfigSource.DEFAULT_CONFIG.value, entry("cleanup.policy").source, "its source")
    alter("max.message.bytes", "2000")
    until("the new value to be described", lambda: entry("max.message.bytes").value == "2000")
    producer = Acknowledged()
    producer.send(topic, b"x" * 4_000, partition=0)
    producer.flush()
    equal([KafkaError.MSG_SIZE_TOO_LARGE], [error.code() for error in producer.failures], "failures")
    alter("retention.ms", None, AlterConfigOpType.DELETE)
    until("the default to be back", lambda: entry("retention.ms").value == "604800000")
    refused(KafkaError.INVALID_CONFIG, "retention.ms=soon", lambda: alter("retention.ms", "soon"))
    refused(KafkaError.INVALID_CONFIG, "no.such.key=1", lambda: alter("no.such.key", "1"))
    broker = brokers(admin)[0]
    equal(broker, entry("node.id", ConfigResource.Type.BROKER, broker).value, "node.id of the broker")


def broker_configs():
    """A broker's own value over that of all brokers over its file; what topics without a value of their own follow,
    whichever broker is asked."""
    topic = create_topic("alter-broker-config")
    admin = admin_client()
    broker, *others = brokers(admin)
    kinds, key = ConfigResource.Type, "message.max.bytes"

    def entries(name, kind=kinds.BROKER):
        return answer(admin.describe_configs([ConfigResource(kind, name)]))

    def alter(name, key, value, operation=AlterConfigOpType.SET):
        change = ConfigEntry(key, value, incremental_operation=operation)
        resource = ConfigResource(kinds.BROKER, name, incremental_configs=[change])
        answer(admin.incremental_alter_configs([resource]))

    def described(value, source, name=broker):
        entry = entries(name).get(key)
        return entry is not None and (entry.value, entry.source) == (value, source.value)

    def of_topic():
        return entries(topic, kinds.TOPIC)["max.message.bytes"].value

    check(not entries(broker)[key].is_read_only, f"{key} is read-only")
    check(entries(broker)["node.id"].is_read_only, "node.id is not read-only")
    before = entries(broker)[key].value
    # librdkafka refuses a resource without a name, so the default of all brokers is out of its reach.
    for name in (broker, *others):
        alter(name, key, "2000")
        until("the broker's own value", lambda: described("2000", ConfigSource.DYNAMIC_BROKER_CONFIG, name))
    until("the topic to follow", lambda: of_topic() == "2000")
    producer = Acknowledged()
    producer.send(topic, b"x" * 4_000, partition=0)
    producer.flush()
    equal([KafkaError.MSG_SIZE_TOO_LARGE], [error.code() for error in producer.failures], "failures")
    for name in (broker, *others):
        alter(name, key, None, AlterConfigOpType.DELETE)
    until("the value before", lambda: entries(broker)[key].value == before and of_topic() == before)
    refused(KafkaError.INVALID_REQUEST, "a read-only key", lambda: alter(broker, "log.dirs", "/tmp"))
    refused(KafkaError.INVALID_REQUEST, "a value that is none", lambda: alter(broker, key, "many"))


def create_partitions():
    topic = create_topic("create-partitions")
    admin = admin_client()
    done(KafkaError.INVALID_PARTITIONS, lambda: answer(admin.create_partitions([NewPartitions(topic, 4)])))
    until("four partitions with leaders", lambda: has_leaders(admin, topic, 4))
    refused(
        KafkaError.INVALID_PARTITIONS,
        "fewer partitions",
        lambda: answer(admin.create_partitions([NewPartitions(topic, 2)])),
    )
    producer = Acknowledged()
    producer.send(topic, b"in the new one", partition=3)
    equal([0], producer.finish(), "first offset of the new partition")


def describe_cluster():
    admin = admin_client()
    cluster = whole_cluster(admin)
    check(cluster.cluster_id, "the cluster has no id")
    check(cluster.controller.id in [node.id for node in cluster.nodes], "the controller is none of the nodes")


SCENARIOS = {
    "topic-create-describe-delete": topics,
    "list-describe-delete-groups": groups,
    "offsets-for-times": offsets_for_times,
    "delete-records": delete_records,
    "describe-and-alter-configs": configs,
    "alter-broker-config": broker_configs,
    "create-partitions": create_partitions,
    "describe-cluster": describe_cluster,
}
