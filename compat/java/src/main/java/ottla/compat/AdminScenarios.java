package ottla.compat;

import static org.apache.kafka.clients.admin.AlterConfigOp.OpType.DELETE;
import static org.apache.kafka.clients.admin.AlterConfigOp.OpType.SET;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ConsumerGroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What an operator asks. */
@SuppressWarnings("deprecation") // Both 3.6.1 and 4.x must compile: the older of two names is the one they share.
final class AdminScenarios {
    private AdminScenarios() {}

    static void topics(Node node) throws Exception {
        try (Admin admin = node.admin()) {
            String topic = Node.unique("topic-admin");
            NewTopic wanted = new NewTopic(topic, Optional.of(3), Optional.empty()).configs(Map.of("retention.ms", "123456"));
            var created = admin.createTopics(List.of(wanted));
            Node.done(TopicExistsException.class, created.all());
            Check.until("the topic to be listed", () -> Node.answer(admin.listTopics().names()).contains(topic));
            TopicDescription description = describe(admin, topic);
            Uuid id = description.topicId();
            Check.that(!id.equals(Uuid.ZERO_UUID), "the new topic has no id");
            if (!created.all().isCompletedExceptionally()) {
                Check.equal(3, Node.answer(created.numPartitions(topic)), "partitions in the answer");
                Check.equal(id, Node.answer(created.topicId(topic)), "topic id in the answer");
            }
            Check.equal(3, description.partitions().size(), "partitions");
            description.partitions().forEach(partition -> {
                Check.that(partition.leader() != null, "partition " + partition.partition() + " has no leader");
                Check.equal(Node.BROKERS, partition.replicas().size(), "replicas");
                Check.that(partition.isr().contains(partition.leader()), "the leader is not in sync");
            });

            Check.failsWith(TopicExistsException.class, () -> Node.answer(admin.createTopics(List.of(wanted)).all()));
            Check.failsWith(InvalidTopicException.class, () ->
                    Node.answer(admin.createTopics(List.of(new NewTopic("not/a/topic", 1, (short) 1))).all()));
            Check.failsWith(InvalidPartitionsException.class, () ->
                    Node.answer(admin.createTopics(List.of(new NewTopic(Node.unique("t"), 0, (short) 1))).all()));

            try (var producer = node.producer(Map.of())) {
                Node.answer(producer.send(new ProducerRecord<>(topic, 0, null, "before")));
            }
            Node.done(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(topic)).all());
            Check.until("the topic to be gone", () -> !Node.answer(admin.listTopics().names()).contains(topic));
            Check.failsWith(UnknownTopicOrPartitionException.class, () -> describe(admin, topic));
            Check.failsWith(UnknownTopicOrPartitionException.class, () ->
                    Node.answer(admin.deleteTopics(List.of(topic)).all()));

            // KIP-516: the same name again is another topic.
            Node.done(TopicExistsException.class, admin.createTopics(List.of(wanted)).all());
            Check.until("the topic to be back", () -> Node.answer(admin.listTopics().names()).contains(topic));
            Check.that(!id.equals(describe(admin, topic).topicId()), "the topic came back with the old id");
            try (var producer = node.producer(Map.of())) {
                Node.answer(producer.send(new ProducerRecord<>(topic, 0, null, "after")));
            }
            Check.equal("after", node.readAll(topic, 1).get(0).value(), "what the new topic holds");
        }
    }

    private static TopicDescription describe(Admin admin, String topic) throws Exception {
        return Node.answer(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
    }

    static void groups(Node node) throws Exception {
        var partition = ConsumeScenarios.filled(node, "list-describe-delete-groups");
        String group = Node.unique("list-describe-delete-groups");
        try (Admin admin = node.admin()) {
            try (var member = GroupScenarios.member(node, partition.topic(), group, 100)) {
                Check.that(Node.answer(admin.listConsumerGroups().all()).stream()
                        .anyMatch(listed -> listed.groupId().equals(group)), "the group is not listed");
                ConsumerGroupDescription description = describeGroup(admin, group);
                Check.equal(ConsumerGroupState.STABLE, description.state(), "state");
                Check.equal("range", description.partitionAssignor(), "assignor");
                Check.equal(1, description.members().size(), "members");
                var described = description.members().iterator().next();
                Check.equal("watched", described.clientId(), "client id");
                Check.equal(Set.of(partition), described.assignment().topicPartitions(), "assignment");
                Check.failsWith(GroupNotEmptyException.class, () ->
                        Node.answer(admin.deleteConsumerGroups(List.of(group)).all()));
            }
            Check.until("the group to be empty", () ->
                    describeGroup(admin, group).state() == ConsumerGroupState.EMPTY);
            var offsets = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata();
            Check.equal(100L, Node.answer(offsets).get(partition).offset(), "committed offset");

            Node.done(GroupIdNotFoundException.class, admin.deleteConsumerGroups(List.of(group)).all());
            Check.that(Node.answer(admin.listConsumerGroups().all()).stream()
                    .noneMatch(listed -> listed.groupId().equals(group)), "the deleted group is still listed");
            Check.failsWith(GroupIdNotFoundException.class, () ->
                    Node.answer(admin.deleteConsumerGroups(List.of(group)).all()));
            var gone = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata();
            Check.equal(Map.of(), Node.answer(gone), "offsets of the deleted group");
        }
    }

    private static ConsumerGroupDescription describeGroup(Admin admin, String group) throws Exception {
        return Node.answer(admin.describeConsumerGroups(List.of(group)).all()).get(group);
    }

    static void offsetsForTimes(Node node) throws Exception {
        var partition = ConsumeScenarios.filled(node, "offsets-for-times");
        try (Admin admin = node.admin()) {
            long afterLast = ConsumeScenarios.timestampOf(100);
            Check.equal(0L, offset(admin, partition, OffsetSpec.earliest()).offset(), "earliest");
            Check.equal(100L, offset(admin, partition, OffsetSpec.latest()).offset(), "latest");
            var at = offset(admin, partition, OffsetSpec.forTimestamp(ConsumeScenarios.timestampOf(42)));
            Check.equal(42L, at.offset(), "offset of a timestamp");
            Check.equal(ConsumeScenarios.timestampOf(42), at.timestamp(), "timestamp of that offset");
            Check.equal(-1L, offset(admin, partition, OffsetSpec.forTimestamp(afterLast)).offset(), "after the last");
            Check.equal(99L, offset(admin, partition, OffsetSpec.maxTimestamp()).offset(), "KIP-734 max timestamp");
        }
    }

    private static ListOffsetsResultInfo offset(Admin admin, TopicPartition partition, OffsetSpec spec)
            throws Exception {
        return Node.answer(admin.listOffsets(Map.of(partition, spec)).partitionResult(partition));
    }

    static void deleteRecords(Node node) throws Exception {
        var partition = ConsumeScenarios.filled(node, "delete-records");
        try (Admin admin = node.admin()) {
            Check.equal(30L, delete(admin, partition, 30), "low watermark");
            Check.equal(30L, offset(admin, partition, OffsetSpec.earliest()).offset(), "earliest");
            try (var consumer = node.consumer(Map.of("auto.offset.reset", "earliest"))) {
                consumer.assign(List.of(partition));
                consumer.seek(partition, 10);
                Check.until("a reader who asks for what was deleted to be at what is left", () ->
                        consumer.poll(Node.POLL).isEmpty() ? false : consumer.position(partition) > 30);
            }
            Check.failsWith(OffsetOutOfRangeException.class, () -> delete(admin, partition, 101));
            Check.equal(30L, delete(admin, partition, 7), "low watermark once more");
            Check.equal(100L, delete(admin, partition, -1), "low watermark when all is deleted");
        }
        try (var producer = node.producer(Map.of())) {
            var next = new ProducerRecord<>(partition.topic(), 0, (String) null, "goes on");
            Check.equal(100L, Node.answer(producer.send(next)).offset(), "offset of the next record");
        }
    }

    private static long delete(Admin admin, TopicPartition partition, long offset) throws Exception {
        var wanted = Map.of(partition, RecordsToDelete.beforeOffset(offset));
        return Node.answer(admin.deleteRecords(wanted).lowWatermarks().get(partition)).lowWatermark();
    }

    static void configs(Node node) throws Exception {
        String topic = node.createTopic("describe-and-alter-configs", 1, Map.of("retention.ms", "123456"));
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        try (Admin admin = node.admin()) {
            ConfigEntry retention = entry(admin, resource, "retention.ms");
            Check.equal("123456", retention.value(), "retention.ms as created");
            Check.equal(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, retention.source(), "its source");
            ConfigEntry policy = entry(admin, resource, "cleanup.policy");
            Check.equal("delete", policy.value(), "cleanup.policy by default");
            Check.equal(ConfigEntry.ConfigSource.DEFAULT_CONFIG, policy.source(), "its source");

            alter(admin, resource, new AlterConfigOp(new ConfigEntry("retention.ms", "654321"), SET));
            alter(admin, resource, new AlterConfigOp(new ConfigEntry("max.message.bytes", "2000"), SET));
            Check.until("the new value to be described", () ->
                    entry(admin, resource, "retention.ms").value().equals("654321"));
            Check.equal("2000", entry(admin, resource, "max.message.bytes").value(), "max.message.bytes");
            try (var producer = node.producer(Map.of())) {
                Check.failsWith(org.apache.kafka.common.errors.RecordTooLargeException.class, () ->
                        Node.answer(producer.send(new ProducerRecord<>(topic, 0, null, "x".repeat(4_000)))));
            }
            alter(admin, resource, new AlterConfigOp(new ConfigEntry("retention.ms", ""), DELETE));
            Check.until("the default to be back", () ->
                    entry(admin, resource, "retention.ms").value().equals("604800000"));

            Check.failsWith(InvalidConfigurationException.class, () -> {
                alter(admin, resource, new AlterConfigOp(new ConfigEntry("retention.ms", "soon"), SET));
                return "accepted";
            });
            Check.failsWith(InvalidConfigurationException.class, () -> {
                alter(admin, resource, new AlterConfigOp(new ConfigEntry("no.such.key", "1"), SET));
                return "accepted";
            });

            String id = Node.brokers(admin).get(0);
            var broker = new ConfigResource(ConfigResource.Type.BROKER, id);
            Check.equal(id, entry(admin, broker, "node.id").value(), "node.id of the broker");
            Check.equal("1048588", entry(admin, broker, "message.max.bytes").value(), "message.max.bytes");
        }
    }

    private static ConfigEntry entry(Admin admin, ConfigResource resource, String key) throws Exception {
        Config config = Node.answer(admin.describeConfigs(List.of(resource)).all()).get(resource);
        return Optional.ofNullable(config.get(key))
                .orElseThrow(() -> new AssertionError(key + " is not described for " + resource));
    }

    private static void alter(Admin admin, ConfigResource resource, AlterConfigOp change) throws Exception {
        Node.answer(admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all());
    }

    /** KIP-496: what a group has committed for one partition goes, once nobody reads the topic. */
    static void deleteGroupOffsets(Node node) throws Exception {
        String topic = node.createTopic("delete-group-offsets", 2);
        String group = Node.unique("delete-group-offsets");
        var first = new TopicPartition(topic, 0);
        var second = new TopicPartition(topic, 1);
        try (Admin admin = node.admin()) {
            try (var consumer = node.consumer(Map.of("group.id", group, "enable.auto.commit", false))) {
                consumer.subscribe(List.of(topic));
                Check.until("the member to own both partitions", () -> {
                    consumer.poll(Node.POLL);
                    return consumer.assignment().size() == 2;
                });
                consumer.commitSync(Map.of(first, new OffsetAndMetadata(3), second, new OffsetAndMetadata(4)));
                Check.failsWith(GroupSubscribedToTopicException.class, () -> deleteOffset(admin, group, first));
                Check.equal(Map.of(first, 3L, second, 4L), committed(admin, group), "after a deletion that was refused");
            }
            Check.until("the group to be empty", () ->
                    describeGroup(admin, group).state() == ConsumerGroupState.EMPTY);
            deleteOffset(admin, group, first);
            Check.equal(Map.of(second, 4L), committed(admin, group), "what is left");
            deleteOffset(admin, group, first);
            Check.failsWith(GroupIdNotFoundException.class, () -> deleteOffset(admin, Node.unique("nobody"), first));
        }
    }

    private static Void deleteOffset(Admin admin, String group, TopicPartition partition) throws Exception {
        return Node.answer(admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all());
    }

    private static Map<TopicPartition, Long> committed(Admin admin, String group) throws Exception {
        Map<TopicPartition, Long> offsets = new HashMap<>();
        Node.answer(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata())
                .forEach((partition, committed) -> offsets.put(partition, committed.offset()));
        return offsets;
    }

    static void createPartitions(Node node) throws Exception {
        String topic = node.createTopic("create-partitions", 1);
        try (Admin admin = node.admin()) {
            Node.done(InvalidPartitionsException.class, admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all());
            Check.until("four partitions with leaders", () -> {
                var partitions = describe(admin, topic).partitions();
                return partitions.size() == 4 && partitions.stream().allMatch(p -> p.leader() != null);
            });
            Check.failsWith(InvalidPartitionsException.class, () ->
                    Node.answer(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all()));
        }
        try (var producer = node.producer(Map.of())) {
            Check.equal(0L, Node.answer(producer.send(new ProducerRecord<>(topic, 3, null, "in the new one"))).offset(),
                    "first offset of the new partition");
        }
    }

    static void describeCluster(Node node) throws Exception {
        try (Admin admin = node.admin()) {
            var cluster = admin.describeCluster();
            Check.that(!Node.answer(cluster.clusterId()).isEmpty(), "the cluster has no id");
            List<String> brokers = Node.brokers(admin);
            var addresses = List.of(node.bootstrap().split(","));
            for (var broker : Node.answer(cluster.nodes())) {
                String address = broker.host() + ":" + broker.port();
                Check.that(addresses.contains(address), "advertised address " + address);
            }
            Check.that(brokers.contains(Node.answer(cluster.controller()).idString()), "the controller is none of the brokers");
        }
    }
}
