package ottla.compat;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;

/**
 * A producer and a group of two that go on through whatever happens to the nodes: {@code ThroughFaults BOOTSTRAP TOPIC}. All
 * is as the library has it by default, but that the group, which has the topic's name, begins at the start.
 *
 * <p>It prints every now and then how many records were acknowledged and read, and how many wait to be acknowledged,
 * {@code at ACKNOWLEDGED READ WAITING}. A line on its standard input begins a new time; it answers with the longest that a
 * partition went without an acknowledgement, and without being read, in the time that ends: {@code gaps MS MS}. When its standard input ends it sends no more, waits until all
 * is read, and looks at what each partition holds. Each complaint is a line {@code FAIL why}.
 */
public final class ThroughFaults {
    private static final int PARTITIONS = 6;
    private static final int RECORDS_PER_SECOND = 1_200;
    private static final long NANOS_PER_MS = 1_000_000;
    private static final long REPORT_NANOS = 50 * NANOS_PER_MS;

    private final Node node;
    private final String topic;
    /** Only the thread that produces looks at it. */
    private final long[] sent = new long[PARTITIONS];
    private final Progress acknowledged = new Progress();
    private final Progress read = new Progress();
    private final ConcurrentLinkedQueue<String> failures = new ConcurrentLinkedQueue<>();
    private volatile boolean ended;

    private ThroughFaults(Node node, String topic) {
        this.node = node;
        this.topic = topic;
    }

    /** What became of the records of each partition: value i belongs at offset i, and comes after i - 1. */
    private static final class Progress {
        private final long[] counts = new long[PARTITIONS];
        private final long[] last = new long[PARTITIONS];
        private long longest;

        /** Whether that is the next. */
        synchronized boolean next(int partition, long value) {
            long now = System.nanoTime();
            longest = Math.max(longest, now - last[partition]);
            last[partition] = now;
            boolean expected = counts[partition] == value;
            counts[partition] = Math.max(counts[partition], value + 1);
            return expected;
        }

        /** Nothing is missed before. */
        synchronized void start() {
            Arrays.fill(last, System.nanoTime());
        }

        synchronized long total() {
            return Arrays.stream(counts).sum();
        }

        synchronized long count(int partition) {
            return counts[partition];
        }

        /** Begins a new time, and answers the longest gap of the last in milliseconds. */
        synchronized long begin() {
            long now = System.nanoTime();
            for (long at : last) {
                longest = Math.max(longest, now - at);
            }
            long told = longest / NANOS_PER_MS;
            longest = 0;
            return told;
        }
    }

    public static void main(String[] arguments) throws Exception {
        var run = new ThroughFaults(new Node(arguments[0]), arguments[1]);
        run.run();
        run.failures.forEach(failure -> System.out.println("FAIL " + failure.replace('\n', ' ')));
        System.out.flush();
        Runtime.getRuntime().halt(run.failures.isEmpty() ? 0 : 1);
    }

    private void run() throws Exception {
        try (var admin = node.admin()) {
            Node.answer(admin.createTopics(List.of(new NewTopic(topic, Optional.of(PARTITIONS), Optional.empty()))).all());
        }
        List<KafkaConsumer<String, String>> members = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            var member = node.consumer(Map.of("group.id", topic, "auto.offset.reset", "earliest"));
            members.add(member);
            Thread thread = new Thread(() -> consume(member), "member-" + i);
            threads.add(thread);
            thread.start();
        }
        Thread listener = new Thread(this::listen, "stdin");
        listener.setDaemon(true);
        acknowledged.start();
        read.start();
        listener.start();
        produce();
        report();
        wait("the group to read all", () -> read.total() >= acknowledged.total());
        members.forEach(KafkaConsumer::wakeup);
        for (Thread thread : threads) {
            thread.join();
        }
        report();
        if (failures.isEmpty()) {
            verify();
        }
    }

    private void wait(String what, java.util.concurrent.Callable<Boolean> holds) throws Exception {
        try {
            Check.until(what, () -> !failures.isEmpty() || holds.call());
        } catch (AssertionError late) {
            failures.add(late.getMessage());
        }
    }

    private void report() {
        long done = acknowledged.total();
        System.out.println("at " + done + " " + read.total() + " " + (Arrays.stream(sent).sum() - done));
    }

    private void listen() {
        try (var lines = new BufferedReader(new InputStreamReader(System.in))) {
            while (lines.readLine() != null) {
                System.out.println("gaps " + acknowledged.begin() + " " + read.begin());
            }
        } catch (IOException closed) {
            // The same as its end.
        }
        ended = true;
    }

    private void produce() {
        long said = 0;
        long begin = System.nanoTime();
        try (KafkaProducer<String, String> producer = node.producer(Map.of("acks", "all"))) {
            for (long count = 0; !ended && failures.isEmpty();) {
                long now = System.nanoTime();
                if ((now - begin) / 1e9 * RECORDS_PER_SECOND > count) {
                    int partition = (int) (count++ % PARTITIONS);
                    long value = sent[partition]++;
                    producer.send(new ProducerRecord<>(topic, partition, null, String.valueOf(value)), (metadata, error) -> {
                        if (error != null) {
                            failures.add("record " + value + " of partition " + partition + " was not sent: " + error);
                        } else if (!acknowledged.next(partition, value) || metadata.offset() != -1 && metadata.offset() != value) {
                            failures.add("record " + value + " of partition " + partition + " was acknowledged at " + metadata.offset());
                        }
                    });
                } else {
                    LockSupport.parkNanos(NANOS_PER_MS);
                }
                if (now - said > REPORT_NANOS) {
                    said = now;
                    report();
                }
            }
        } catch (RuntimeException fatal) {
            failures.add("the producer: " + fatal);
        }
        for (int partition = 0; partition < PARTITIONS; partition++) {
            if (acknowledged.count(partition) != sent[partition]) {
                failures.add("of " + sent[partition] + " records of partition " + partition + " only "
                        + acknowledged.count(partition) + " were acknowledged");
            }
        }
    }

    private void consume(KafkaConsumer<String, String> consumer) {
        try (consumer) {
            consumer.subscribe(List.of(topic));
            while (true) {
                for (var record : consumer.poll(Node.POLL)) {
                    long next = read.count(record.partition());
                    if (!read.next(record.partition(), record.offset())) {
                        failures.add("the group read offset " + record.offset() + " of partition " + record.partition()
                                + " where " + next + " was the next");
                    }
                }
            }
        } catch (WakeupException asked) {
            // Time to leave.
        } catch (RuntimeException fatal) {
            failures.add("a member: " + fatal);
        }
    }

    /** Every partition holds value i at offset i, and nothing else. */
    private void verify() throws Exception {
        var places = IntStream.range(0, PARTITIONS).mapToObj(partition -> new TopicPartition(topic, partition)).toList();
        long[] next = new long[PARTITIONS];
        try (var reader = node.consumer(Map.of())) {
            reader.assign(places);
            reader.seekToBeginning(places);
            reader.endOffsets(places).forEach((place, end) -> {
                if (end != acknowledged.count(place.partition())) {
                    failures.add(place + " ends at " + end + ", but " + acknowledged.count(place.partition()) + " were acknowledged");
                }
            });
            wait("all of " + acknowledged.total() + " records to be there", () -> {
                for (var record : reader.poll(Node.POLL)) {
                    long wanted = next[record.partition()]++;
                    if (record.offset() != wanted || !record.value().equals(String.valueOf(wanted))) {
                        failures.add(record.value() + " at " + record.offset() + " of partition " + record.partition()
                                + ", where " + wanted + " belongs");
                    }
                }
                return Arrays.stream(next).sum() >= acknowledged.total();
            });
        }
    }
}
