package ottla.interop;

import java.io.BufferedOutputStream;
import java.io.PrintStream;
import java.time.Duration;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Everything that a consumer can see, one line each. */
final class Reading {
    private static final PrintStream OUT = new PrintStream(new BufferedOutputStream(System.out, 1 << 16));

    static void everything(String bootstrap, List<String> topics) throws Exception {
        for (var isolation : List.of("read_uncommitted", "read_committed")) {
            var properties = new Properties();
            properties.put("bootstrap.servers", bootstrap);
            properties.put("isolation.level", isolation);
            properties.put("enable.auto.commit", "false");
            try (var consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
                for (var topic : topics) {
                    read(consumer, isolation, new TopicPartition(topic, 0));
                }
            }
        }
        try (var admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
            var committed = new TreeMap<String, String>();
            admin.listConsumerGroupOffsets("readers").partitionsToOffsetAndMetadata().get()
                .forEach((partition, offset) -> committed.put(partition.toString(), offset.offset() + " " + offset.metadata()));
            committed.forEach((partition, offset) -> OUT.println("GROUP readers " + partition + " " + offset));
        }
        OUT.flush();
    }

    private static void read(KafkaConsumer<byte[], byte[]> consumer, String isolation, TopicPartition partition) {
        var partitions = List.of(partition);
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        long end = consumer.endOffsets(partitions).get(partition);
        OUT.println("BOUNDS " + isolation + " " + partition + " " + consumer.beginningOffsets(partitions).get(partition) + " " + end);
        var times = new HashMap<Long, Long>();
        int count = 0;
        while (consumer.position(partition) < end) {
            for (var record : consumer.poll(Duration.ofMillis(200))) {
                OUT.println(line(isolation, record));
                if (count++ % 37 == 0) {
                    times.put(record.timestamp(), record.offset());
                }
            }
        }
        for (var time : new TreeMap<>(times).keySet()) {
            var found = consumer.offsetsForTimes(Map.of(partition, time)).get(partition);
            OUT.println("TIME " + isolation + " " + partition + " " + time + " "
                + (found == null ? "none" : found.offset() + " " + found.timestamp() + " " + found.leaderEpoch().orElse(-1)));
        }
    }

    private static String line(String isolation, ConsumerRecord<byte[], byte[]> record) {
        var line = new StringBuilder("RECORD " + isolation + " " + record.topic() + "-" + record.partition() + " "
            + record.offset() + " " + record.timestampType() + " " + record.timestamp() + " "
            + record.leaderEpoch().orElse(-1) + " " + hex(record.key()) + " " + hex(record.value()));
        for (var header : record.headers()) {
            line.append(" ").append(header.key()).append("=").append(hex(header.value()));
        }
        return line.toString();
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "null" : "x" + HexFormat.of().formatHex(bytes);
    }

    private Reading() {}
}
