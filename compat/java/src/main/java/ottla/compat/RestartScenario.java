package ottla.compat;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Two halves with a restart of the node between them. The run's name ties them together. */
final class RestartScenario {
    private static final int COMMITTED = 60;
    private static final int COUNT = 100;

    private RestartScenario() {}

    static void before(Node node, String run) throws Exception {
        var partition = new TopicPartition("restart-" + run, 0);
        try (Admin admin = node.admin()) {
            Node.answer(admin.createTopics(List.of(
                    new NewTopic(partition.topic(), Optional.of(1), Optional.empty()))).all());
        }
        try (var producer = node.producer(Map.of("acks", "all"))) {
            for (int i = 0; i < COUNT; i++) {
                producer.send(new ProducerRecord<>(partition.topic(), 0, null, String.valueOf(i)));
            }
        }
        try (var consumer = node.consumer(settings(run))) {
            consumer.subscribe(List.of(partition.topic()));
            Node.take(consumer, COUNT);
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(COMMITTED, "half way")));
        }
    }

    static void after(Node node, String run) throws Exception {
        var partition = new TopicPartition("restart-" + run, 0);
        try (var consumer = node.consumer(settings(run))) {
            consumer.subscribe(List.of(partition.topic()));
            var read = Node.take(consumer, COUNT - COMMITTED);
            Check.equal((long) COMMITTED, read.get(0).offset(), "where the group resumed");
            Check.equal(String.valueOf(COUNT - 1), read.get(read.size() - 1).value(), "the last value");
            var committed = consumer.committed(Set.of(partition)).get(partition);
            Check.equal("half way", committed.metadata(), "metadata of the committed offset");
        }
        try (var producer = node.producer(Map.of())) {
            var sent = producer.send(new ProducerRecord<>(partition.topic(), 0, null, "after"));
            Check.equal((long) COUNT, Node.answer(sent).offset(), "next offset after the restart");
        }
    }

    private static Map<String, Object> settings(String run) {
        return Map.of("group.id", "restart-" + run, "auto.offset.reset", "earliest", "enable.auto.commit", false);
    }
}
