package ottla.interop;

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's own tools one after the other, in one virtual machine: starting one for each would take
 * longer than all they do.
 *
 * <p>A line of standard input is a command, with tabs between its parts: the file for its standard output, the
 * file for its standard input or {@code -}, the script's name, its arguments. Its exit code is the answer.
 */
final class Scripts {
    private static final long SECONDS = 60;
    private static final long HOOK_SECONDS = 5;

    private static final Map<String, String> CLASSES = Map.ofEntries(
        Map.entry("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
        Map.entry("kafka-configs", "kafka.admin.ConfigCommand"),
        Map.entry("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
        Map.entry("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
        Map.entry("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
        Map.entry("kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance"),
        Map.entry("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
        Map.entry("kafka-dump-log", "org.apache.kafka.tools.DumpLogSegments"),
        Map.entry("kafka-features", "org.apache.kafka.tools.FeatureCommand"),
        Map.entry("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
        Map.entry("kafka-leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
        Map.entry("kafka-log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
        Map.entry("kafka-metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
        Map.entry("kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance"),
        Map.entry("kafka-reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
        Map.entry("kafka-topics", "org.apache.kafka.tools.TopicCommand"));

    /** What the command that runs now has written. */
    private static volatile ByteArrayOutputStream written = new ByteArrayOutputStream();
    private static volatile CompletableFuture<Integer> ended = new CompletableFuture<>();
    /** What it wants done when its process ends: a producer sends what it still has. */
    private static volatile List<Thread> hooks = new CopyOnWriteArrayList<>();

    static void run() throws Exception {
        var answers = System.out;
        // Some tools keep the standard output they find first.
        System.setOut(new PrintStream(new OutputStream() {
            @Override
            public void write(int one) {
                written.write(one);
            }

            @Override
            public void write(byte[] bytes, int from, int length) {
                written.write(bytes, from, length);
            }
        }, true, StandardCharsets.UTF_8));
        Exit.setExitProcedure((code, message) -> end(code));
        Exit.setHaltProcedure((code, message) -> end(code));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(new Thread(hook, name)));
        var commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            var parts = line.split("\t", -1);
            answers.println(execute(parts));
            Files.write(Path.of(parts[0]), written.toByteArray());
            answers.println("written");
        }
    }

    /** One script in this virtual machine, which ends as it does. */
    static void runOne(List<String> words) throws Exception {
        var main = Class.forName(CLASSES.get(words.get(0))).getMethod("main", String[].class);
        main.invoke(null, (Object) words.subList(1, words.size()).toArray(new String[0]));
        System.exit(0);
    }

    private static int execute(String[] parts) throws Exception {
        written = new ByteArrayOutputStream();
        ended = new CompletableFuture<>();
        hooks = new CopyOnWriteArrayList<>();
        System.setIn(parts[1].equals("-") ? new ByteArrayInputStream(new byte[0]) : input(parts[1]));
        var main = Class.forName(CLASSES.get(parts[2])).getMethod("main", String[].class);
        var arguments = Arrays.copyOfRange(parts, 3, parts.length);
        var thread = new Thread(() -> {
            try {
                main.invoke(null, (Object) arguments);
                ended.complete(0);
            } catch (ReflectiveOperationException error) {
                // Nobody caught it: so does a virtual machine end.
                error.getCause().printStackTrace();
                ended.complete(1);
            }
        }, parts[2]);
        thread.setDaemon(true);
        thread.start();
        try {
            int code = ended.get(SECONDS, TimeUnit.SECONDS);
            for (var hook : hooks) {
                hook.setDaemon(true);
                hook.start();
            }
            for (var hook : hooks) {
                // One may wait for the thread that ended the process, which is parked.
                hook.join(TimeUnit.SECONDS.toMillis(HOOK_SECONDS));
            }
            return code;
        } catch (TimeoutException late) {
            return -1;
        } finally {
            System.out.flush();
        }
    }

    private static ByteArrayInputStream input(String file) throws IOException {
        return new ByteArrayInputStream(Files.readAllBytes(Path.of(file)));
    }

    /** The process would be gone: nothing behind the call is executed. */
    private static void end(int code) {
        ended.complete(code);
        while (true) {
            try {
                Thread.sleep(Long.MAX_VALUE);
            } catch (InterruptedException ignored) {
                // It stays where it is.
            }
        }
    }
}
