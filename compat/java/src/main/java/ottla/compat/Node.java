package ottla.compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The node under test, and clients of it with nothing but their defaults and what a scenario adds. */
record Node(String bootstrap) {
    static final Duration POLL = Duration.ofMillis(100);
    /**
     * How many brokers there are. Where there is more than one, one or another is being killed and started again at any
     * time.
     */
    static final int BROKERS = Integer.parseInt(System.getenv().getOrDefault("BROKERS", "1"));

    /** A name that no other scenario and no earlier run has used. */
    static String unique(String prefix) {
        return prefix + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    private Properties properties(Map<String, ?> extra) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.putAll(extra);
        return properties;
    }

    Admin admin() {
        return Admin.create(properties(Map.of("default.api.timeout.ms", 30_000)));
    }

    KafkaProducer<String, String> producer(Map<String, ?> extra) {
        return new KafkaProducer<>(properties(extra), new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(Map<String, ?> extra) {
        Map<String, Object> settings = new HashMap<>(extra);
        if (BROKERS > 1) {
            // A goodbye that meets a dead coordinator is not said again: the end of the session has to do.
            settings.putIfAbsent("session.timeout.ms", 6_000);
        }
        return new KafkaConsumer<>(properties(settings), new StringDeserializer(), new StringDeserializer());
    }

    String createTopic(String prefix, int partitions) throws Exception {
        return createTopic(prefix, partitions, Map.of());
    }

    String createTopic(String prefix, int partitions, Map<String, String> configs) throws Exception {
        String topic = unique(prefix);
        try (Admin admin = admin()) {
            NewTopic wanted = new NewTopic(topic, Optional.of(partitions), Optional.empty());
            done(TopicExistsException.class, admin.createTopics(List.of(wanted.configs(configs))).all());
        }
        return topic;
    }

    /** The ids of all brokers, when all of them are there. */
    static List<String> brokers(Admin admin) throws Exception {
        List<String> ids = new ArrayList<>();
        Check.until(BROKERS + " brokers", () -> {
            ids.clear();
            answer(admin.describeCluster().nodes()).forEach(broker -> ids.add(broker.idString()));
            return ids.size() == BROKERS;
        });
        return ids;
    }

    /**
     * Waits for an answer to a change. Where nodes are killed, one may have made it and not have lived to say so; then the
     * change, which the library asks for again, is refused, for it is made already.
     */
    static <T> void done(Class<? extends Throwable> already, Future<T> future) throws Exception {
        try {
            answer(future);
        } catch (ExecutionException refused) {
            if (BROKERS == 1 || !already.isInstance(refused.getCause())) {
                throw refused;
            }
        }
    }

    /** Waits for an answer, but not for ever. */
    static <T> T answer(Future<T> future) throws Exception {
        return future.get(Check.DEADLINE.toSeconds(), TimeUnit.SECONDS);
    }

    static List<RecordMetadata> answers(List<Future<RecordMetadata>> futures) throws Exception {
        List<RecordMetadata> all = new ArrayList<>();
        for (Future<RecordMetadata> future : futures) {
            all.add(answer(future));
        }
        return all;
    }

    /** Polls an already placed consumer until it has returned so many records. */
    static List<ConsumerRecord<String, String>> take(KafkaConsumer<String, String> consumer, int count)
            throws Exception {
        List<ConsumerRecord<String, String>> taken = new ArrayList<>();
        Check.until(count + " records", () -> {
            consumer.poll(POLL).forEach(taken::add);
            return taken.size() >= count;
        });
        Check.equal(count, taken.size(), "number of records");
        return taken;
    }

    /** Everything in partition 0, read from its start. */
    List<ConsumerRecord<String, String>> readAll(String topic, int count) throws Exception {
        try (var consumer = consumer(Map.of())) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            var records = take(consumer, count);
            Check.equal((long) count, consumer.endOffsets(Collections.singleton(partition)).get(partition), "end offset");
            return records;
        }
    }
}
