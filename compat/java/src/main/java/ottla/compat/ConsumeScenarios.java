package ottla.compat;

import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Where reading begins. */
final class ConsumeScenarios {
    private static final int COUNT = 100;
    /** Recent, so that retention does not take the records away. */
    private static final long FIRST_TIMESTAMP = System.currentTimeMillis() - 3_600_000L;

    private ConsumeScenarios() {}

    /** Value i at offset i, one second apart, in several batches. */
    static TopicPartition filled(Node node, String prefix) throws Exception {
        var partition = new TopicPartition(node.createTopic(prefix, 1), 0);
        produce(node, partition, 0, COUNT);
        return partition;
    }

    private static void produce(Node node, TopicPartition partition, int from, int to) throws Exception {
        try (var producer = node.producer(Map.of("batch.size", 256))) {
            for (int i = from; i < to; i++) {
                producer.send(new ProducerRecord<>(partition.topic(), 0, timestampOf(i), null, String.valueOf(i)));
            }
        }
    }

    static long timestampOf(int record) {
        return FIRST_TIMESTAMP + 1_000L * record;
    }

    private static void readsFrom(KafkaConsumer<String, String> consumer, int first, int last) throws Exception {
        var read = Node.take(consumer, last - first);
        for (int i = first; i < last; i++) {
            Check.equal((long) i, read.get(i - first).offset(), "offset");
            Check.equal(String.valueOf(i), read.get(i - first).value(), "value at offset " + i);
        }
    }

    static void fromStart(Node node) throws Exception {
        TopicPartition partition = filled(node, "consume-from-start");
        try (var consumer = node.consumer(Map.of("auto.offset.reset", "earliest"))) {
            consumer.assign(List.of(partition));
            readsFrom(consumer, 0, COUNT);
        }
    }

    static void fromEnd(Node node) throws Exception {
        TopicPartition partition = filled(node, "consume-from-end");
        try (var consumer = node.consumer(Map.of("auto.offset.reset", "latest"))) {
            consumer.assign(List.of(partition));
            Check.equal((long) COUNT, consumer.position(partition), "position at the end");
            // A fetch is waiting at the end when the records come.
            Check.that(consumer.poll(Node.POLL).isEmpty(), "a record was read from beyond the end");
            produce(node, partition, COUNT, COUNT + 10);
            readsFrom(consumer, COUNT, COUNT + 10);
        }
    }

    static void fromOffset(Node node) throws Exception {
        TopicPartition partition = filled(node, "consume-from-offset");
        try (var consumer = node.consumer(Map.of("auto.offset.reset", "earliest"))) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 42);
            readsFrom(consumer, 42, COUNT);
            consumer.seek(partition, 7);
            readsFrom(consumer, 7, COUNT);
            // Out of range, so the policy decides.
            consumer.seek(partition, 10L * COUNT);
            readsFrom(consumer, 0, COUNT);
        }
    }

    static void fromTimestamp(Node node) throws Exception {
        TopicPartition partition = filled(node, "consume-from-timestamp");
        try (var consumer = node.consumer(Map.of())) {
            consumer.assign(List.of(partition));
            OffsetAndTimestamp found =
                    consumer.offsetsForTimes(Map.of(partition, timestampOf(41) + 1)).get(partition);
            Check.that(found != null, "no offset for a timestamp within the log");
            Check.equal(42L, found.offset(), "first offset at or after the timestamp");
            Check.equal(timestampOf(42), found.timestamp(), "its timestamp");
            consumer.seek(partition, found.offset());
            readsFrom(consumer, 42, COUNT);
            var late = consumer.offsetsForTimes(Map.of(partition, timestampOf(COUNT)));
            Check.equal(null, late.get(partition), "offset for a timestamp after the last record");
            var early = consumer.offsetsForTimes(Map.of(partition, 0L)).get(partition);
            Check.equal(0L, early.offset(), "offset for the oldest timestamp");
            Check.equal((long) COUNT, consumer.endOffsets(Set.of(partition)).get(partition), "end offset");
        }
    }
}
