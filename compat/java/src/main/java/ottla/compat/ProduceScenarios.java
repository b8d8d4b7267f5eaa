package ottla.compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** What goes in comes out: codecs, keys, headers, nulls, order, size limits. */
final class ProduceScenarios {
    /** The default of message.max.bytes. */
    private static final int MESSAGE_MAX_BYTES = 1_048_588;
    /** A batch header (61), then the lengths, attributes, deltas and counts of one record with a null key. */
    private static final int OVERHEAD_OF_ONE_LARGE_RECORD = 72;

    private ProduceScenarios() {}

    static void compressed(Node node, String codec) throws Exception {
        String topic = node.createTopic("produce-" + codec, 1);
        int count = 2_000;
        List<String> values = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            values.add("record " + i + " " + "la".repeat(i % 200));
        }
        try (var producer = node.producer(Map.of("compression.type", codec, "linger.ms", 20))) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String value : values) {
                sent.add(producer.send(new ProducerRecord<>(topic, 0, null, value)));
            }
            List<RecordMetadata> metadata = Node.answers(sent);
            for (int i = 0; i < count; i++) {
                Check.equal((long) i, metadata.get(i).offset(), "offset acknowledged for record " + i);
            }
            double rate = metric(producer, "compression-rate-avg");
            Check.that(codec.equals("none") == (rate == 1.0), "compression rate was " + rate);
        }
        var read = node.readAll(topic, count);
        for (int i = 0; i < count; i++) {
            Check.equal((long) i, read.get(i).offset(), "offset");
            Check.equal(values.get(i), read.get(i).value(), "value at " + i);
        }
    }

    private static double metric(KafkaProducer<?, ?> producer, String name) {
        return producer.metrics().entrySet().stream()
                .filter(metric -> metric.getKey().name().equals(name))
                .filter(metric -> metric.getKey().group().equals("producer-metrics"))
                .mapToDouble(metric -> (double) metric.getValue().metricValue())
                .findFirst()
                .orElseThrow();
    }

    static void keysAndHeaders(Node node) throws Exception {
        String topic = node.createTopic("keys-and-headers", 1);
        List<Header> headers = List.of(
                new RecordHeader("trace", "a".getBytes(StandardCharsets.UTF_8)),
                new RecordHeader("trace", "b".getBytes(StandardCharsets.UTF_8)),
                new RecordHeader("none", (byte[]) null),
                new RecordHeader("empty", new byte[0]));
        long timestamp = System.currentTimeMillis() - 3_600_123L;
        try (var producer = node.producer(Map.of())) {
            Node.answer(producer.send(new ProducerRecord<>(topic, 0, timestamp, "clé", "värde", headers)));
        }
        var record = node.readAll(topic, 1).get(0);
        Check.equal("clé", record.key(), "key");
        Check.equal("värde", record.value(), "value");
        Check.equal(timestamp, record.timestamp(), "timestamp");
        Check.equal(headers, Arrays.asList(record.headers().toArray()), "headers");
    }

    static void nullKeyAndValue(Node node) throws Exception {
        String topic = node.createTopic("null-key-and-value", 1);
        try (var producer = node.producer(Map.of())) {
            producer.send(new ProducerRecord<>(topic, 0, null, null));
            producer.send(new ProducerRecord<>(topic, 0, "", ""));
            Node.answer(producer.send(new ProducerRecord<>(topic, 0, "tombstone", null)));
        }
        var read = node.readAll(topic, 3);
        Check.equal(null, read.get(0).key(), "null key");
        Check.equal(null, read.get(0).value(), "null value");
        Check.equal("", read.get(1).key(), "empty key");
        Check.equal("", read.get(1).value(), "empty value");
        Check.equal("tombstone", read.get(2).key(), "key of the tombstone");
        Check.equal(null, read.get(2).value(), "value of the tombstone");
    }

    /** Many small batches in flight at once to several partitions: each arrives once, in order. */
    static void idempotent(Node node) throws Exception {
        int partitions = 3;
        int perPartition = 3_000;
        String topic = node.createTopic("idempotent-producer", partitions);
        Map<String, Object> settings = Map.of(
                "enable.idempotence", true,
                "acks", "all",
                "max.in.flight.requests.per.connection", 5,
                "batch.size", 512,
                "linger.ms", 1);
        try (var producer = node.producer(settings)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < perPartition * partitions; i++) {
                String value = String.valueOf(i / partitions);
                sent.add(producer.send(new ProducerRecord<>(topic, i % partitions, null, value)));
            }
            Node.answers(sent);
        }
        try (var consumer = node.consumer(Map.of())) {
            for (int p = 0; p < partitions; p++) {
                var partition = new TopicPartition(topic, p);
                consumer.assign(List.of(partition));
                consumer.seekToBeginning(List.of(partition));
                var read = Node.take(consumer, perPartition);
                for (int i = 0; i < perPartition; i++) {
                    Check.equal(String.valueOf(i), read.get(i).value(), "record at " + partition + " " + i);
                }
            }
        }
    }

    static void atSizeLimit(Node node) throws Exception {
        String topic = node.createTopic("record-at-size-limit", 1);
        String value = "x".repeat(MESSAGE_MAX_BYTES - OVERHEAD_OF_ONE_LARGE_RECORD);
        try (var producer = node.producer(Map.of("max.request.size", 2 * MESSAGE_MAX_BYTES))) {
            Node.answer(producer.send(new ProducerRecord<>(topic, 0, null, value)));
        }
        Check.that(value.equals(node.readAll(topic, 1).get(0).value()), "the large value came back changed");
    }

    static void overSizeLimit(Node node) throws Exception {
        String topic = node.createTopic("record-over-size-limit", 1);
        String value = "x".repeat(MESSAGE_MAX_BYTES - OVERHEAD_OF_ONE_LARGE_RECORD + 1);
        try (var producer = node.producer(Map.of("max.request.size", 2 * MESSAGE_MAX_BYTES))) {
            Check.failsWith(
                    RecordTooLargeException.class,
                    () -> Node.answer(producer.send(new ProducerRecord<>(topic, 0, null, value))));
            Node.answer(producer.send(new ProducerRecord<>(topic, 0, null, "small")));
        }
        Check.equal("small", node.readAll(topic, 1).get(0).value(), "what is left");
    }
}
