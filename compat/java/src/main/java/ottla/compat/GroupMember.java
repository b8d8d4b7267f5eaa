package ottla.compat;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/**
 * A consumer in a process of its own, so that it can be killed. It tells of each assignment and record on its standard
 * output, and leaves its group when its standard input ends.
 */
public final class GroupMember {
    private final Process process;
    private final Thread reader;
    private volatile List<Integer> assignment = List.of();
    private volatile boolean ended;

    private GroupMember(Process process, ConcurrentLinkedQueue<String> records) {
        this.process = process;
        this.reader = new Thread(() -> listen(records), "group-member-output");
        reader.setDaemon(true);
        reader.start();
    }

    /** Starts a member that puts the values of its records into the given queue. */
    static GroupMember start(Node node, String topic, String group, ConcurrentLinkedQueue<String> records)
            throws IOException {
        List<String> command = List.of(
                ProcessHandle.current().info().command().orElse("java"),
                "-cp", System.getProperty("java.class.path"),
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-XX:TieredStopAtLevel=1",
                GroupMember.class.getName(), node.bootstrap(), topic, group);
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        return new GroupMember(process, records);
    }

    private void listen(ConcurrentLinkedQueue<String> records) {
        try (BufferedReader lines = process.inputReader()) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] words = line.split(" ", 2);
                switch (words[0]) {
                    case "assigned" -> assignment = words[1].isEmpty()
                            ? List.of()
                            : Arrays.stream(words[1].split(",")).map(Integer::valueOf).toList();
                    case "record" -> records.add(words[1]);
                    default -> System.err.println("group member: " + line);
                }
            }
        } catch (IOException closed) {
            // The process is gone, which is what `ended` says.
        }
        ended = true;
    }

    List<Integer> assignment() {
        return assignment;
    }

    /** Leaves the group as a consumer does that is closed. */
    void leave() throws Exception {
        process.getOutputStream().close();
        Check.until("the member to leave", () -> ended);
        Check.equal(0, process.waitFor(), "exit code of the member that left");
    }

    /** Ends it with no chance to say goodbye. */
    void kill() throws Exception {
        process.destroyForcibly().waitFor();
    }

    public static void main(String[] arguments) throws Exception {
        Node node = new Node(arguments[0]);
        Map<String, Object> settings = Map.of(
                "group.id", arguments[2],
                "session.timeout.ms", 6_000,
                "heartbeat.interval.ms", 500,
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false);
        try (KafkaConsumer<String, String> consumer = node.consumer(settings)) {
            consumer.subscribe(List.of(arguments[1]), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    say(consumer);
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    System.out.println("assigned ");
                }
            });
            var stdin = new BufferedReader(new InputStreamReader(System.in));
            Thread watcher = new Thread(() -> {
                try {
                    while (stdin.readLine() != null) {
                        // Nothing is ever said on it: only its end counts.
                    }
                } catch (IOException closed) {
                    // The same as its end.
                }
                consumer.wakeup();
            });
            watcher.setDaemon(true);
            watcher.start();
            consume(consumer);
        }
    }

    private static void consume(KafkaConsumer<String, String> consumer) {
        try {
            while (true) {
                var records = consumer.poll(Node.POLL);
                records.forEach(record -> System.out.println("record " + record.value()));
                if (!records.isEmpty()) {
                    commit(consumer);
                }
            }
        } catch (org.apache.kafka.common.errors.WakeupException asked) {
            // Time to leave.
        }
    }

    private static void commit(KafkaConsumer<String, String> consumer) {
        try {
            consumer.commitSync();
        } catch (org.apache.kafka.clients.consumer.CommitFailedException
                | org.apache.kafka.common.errors.RebalanceInProgressException moved) {
            // Another member will read these again: at least once is what a group promises.
        }
    }

    private static void say(KafkaConsumer<String, String> consumer) {
        System.out.println("assigned " + consumer.assignment().stream()
                .map(TopicPartition::partition)
                .collect(Collectors.toCollection(TreeSet::new)).stream()
                .map(String::valueOf)
                .collect(Collectors.joining(",")));
    }
}
