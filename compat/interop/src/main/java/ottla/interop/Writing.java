package ottla.interop;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Everything that leaves its own traces in a log. */
final class Writing {
    /** Topics and what they are configured with. */
    static final List<String> TOPICS = List.of(
        "codecs", "segments:segment.bytes=1048576", "appendtime:message.timestamp.type=LogAppendTime",
        "disorder", "transactions",
        "compacted:segment.bytes=1048576,cleanup.policy=compact,min.cleanable.dirty.ratio=0.001");
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static final long START = System.currentTimeMillis() - 3_600_000;

    static void everything(String bootstrap) throws Exception {
        withoutTransactions(bootstrap);
        for (int round = 0; round < 5; round++) {
            transaction(bootstrap, "committed-" + round, true);
            transaction(bootstrap, "aborted-" + round, false);
        }
        overlapping(bootstrap);
    }

    static void withoutTransactions(String bootstrap) throws Exception {
        create(bootstrap, TOPICS);
        codecs(bootstrap, 0);
        segments(bootstrap);
        times(bootstrap);
        compacted(bootstrap);
        commitOffsets(bootstrap, List.of("codecs", "segments"));
    }

    /** More, and a transaction that stays open. */
    static void more(String bootstrap) throws Exception {
        codecs(bootstrap, 1000);
        transaction(bootstrap, "aborted-late", false);
        var open = producer(bootstrap, Map.of("transactional.id", "open"));
        open.initTransactions();
        open.beginTransaction();
        for (int i = 0; i < 3; i++) {
            open.send(record("transactions", START + 900_000 + i, "open", "open " + i));
        }
        open.flush();
        codecs(bootstrap, 2000);
        transaction(bootstrap, "committed-behind-open", true);
    }

    /** Creates topics, by default those written to here, and the one of committed offsets. */
    static void create(String bootstrap, List<String> given) throws Exception {
        var topics = given.isEmpty() ? TOPICS : given;
        var created = new ArrayList<NewTopic>();
        for (var topic : topics) {
            var parts = topic.split(":", 2);
            var configs = new HashMap<String, String>();
            if (parts.length == 2) {
                for (var config : parts[1].split(",")) {
                    configs.put(config.split("=")[0], config.split("=")[1]);
                }
            }
            created.add(new NewTopic(parts[0], 1, (short) 1).configs(configs));
        }
        try (var admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
            admin.createTopics(created).all().get();
            admin.listConsumerGroupOffsets("readers").partitionsToOffsetAndMetadata().get();
        }
    }

    static void commitOffsets(String bootstrap, List<String> topics) {
        var properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("group.id", "readers");
        try (var consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(topics);
            while (consumer.assignment().isEmpty()) {
                consumer.poll(Duration.ofMillis(100));
            }
            var offsets = new HashMap<TopicPartition, OffsetAndMetadata>();
            for (var topic : topics) {
                offsets.put(new TopicPartition(topic, 0), new OffsetAndMetadata(topic.length(), "read " + topic));
            }
            consumer.commitSync(offsets);
        }
    }

    private static void codecs(String bootstrap, int from) {
        for (var codec : CODECS) {
            var settings = Map.of("compression.type", codec, "linger.ms", "50");
            try (var producer = producer(bootstrap, settings)) {
                for (int i = from; i < from + 40; i++) {
                    var value = i % 9 == 0 ? null : (codec + " " + i + " " + "abcdefghij".repeat(i % 20)).getBytes(UTF_8);
                    var key = i % 7 == 0 ? null : ("key " + i).getBytes(UTF_8);
                    var record = new ProducerRecord<>("codecs", 0, START + i, key, value);
                    record.headers().add("codec", codec.getBytes(UTF_8));
                    if (i % 5 == 0) {
                        record.headers().add("null", null).add("codec", new byte[] {0, -1});
                    }
                    producer.send(record);
                }
            }
        }
    }

    private static void segments(String bootstrap) {
        var random = new Random(7);
        try (var producer = producer(bootstrap, Map.of())) {
            for (int i = 0; i < 3000; i++) {
                var value = new byte[1000];
                random.nextBytes(value);
                producer.send(new ProducerRecord<>("segments", 0, START + i, null, value));
            }
        }
    }

    private static void times(String bootstrap) {
        try (var producer = producer(bootstrap, Map.of("batch.size", "200"))) {
            for (int i = 0; i < 500; i++) {
                producer.send(record("disorder", START + i * 7919L % 500_000, "k", "value " + i));
                producer.send(record("appendtime", START + i, "k", "value " + i));
            }
        }
    }

    private static void compacted(String bootstrap) {
        for (int round = 0; round < 10; round++) {
            try (var producer = producer(bootstrap, Map.of("compression.type", CODECS.get(round % 5)))) {
                for (int i = 0; i < 20; i++) {
                    var random = new Random(20 * round + i);
                    var value = new byte[20_000];
                    random.nextBytes(value);
                    producer.send(new ProducerRecord<>(
                        "compacted", 0, START + 20 * round + i, ("key " + i).getBytes(UTF_8), value));
                    producer.send(new ProducerRecord<>(
                        "compacted", 0, START + 20 * round + i, ("gone " + i % 3).getBytes(UTF_8), (byte[]) null));
                }
            }
        }
    }

    private static void transaction(String bootstrap, String id, boolean commit) {
        try (var producer = producer(bootstrap, Map.of("transactional.id", id))) {
            producer.initTransactions();
            producer.beginTransaction();
            for (int i = 0; i < 5; i++) {
                producer.send(record("transactions", START + i, id, id + " " + i));
            }
            producer.flush();
            if (commit) {
                producer.commitTransaction();
            } else {
                producer.abortTransaction();
            }
        }
    }

    /** Two transactions at once: the one that began first is aborted last. */
    private static void overlapping(String bootstrap) {
        try (var first = producer(bootstrap, Map.of("transactional.id", "aborted-first"));
                var second = producer(bootstrap, Map.of("transactional.id", "committed-second"))) {
            first.initTransactions();
            second.initTransactions();
            first.beginTransaction();
            second.beginTransaction();
            for (int i = 0; i < 3; i++) {
                first.send(record("transactions", START + 100 + i, "aborted-first", "aborted-first " + i));
                first.flush();
                second.send(record("transactions", START + 100 + i, "committed-second", "committed-second " + i));
                second.flush();
            }
            second.commitTransaction();
            first.abortTransaction();
        }
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, long time, String key, String value) {
        return new ProducerRecord<>(topic, 0, time, key.getBytes(UTF_8), value.getBytes(UTF_8));
    }

    private static KafkaProducer<byte[], byte[]> producer(String bootstrap, Map<String, String> settings) {
        var properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.putAll(settings);
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private Writing() {}
}
