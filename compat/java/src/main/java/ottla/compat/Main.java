package ottla.compat;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs scenarios one by one against a node: {@code Main BOOTSTRAP [FILTER]}. A scenario that spans a restart of the node
 * runs in two processes, {@code Main BOOTSTRAP --before RUN} and {@code Main BOOTSTRAP --after RUN}.
 */
public final class Main {
    private static final int SCENARIO_SECONDS = 120;

    private Main() {}

    private static Map<String, Scenario> scenarios() {
        Map<String, Scenario> all = new LinkedHashMap<>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            all.put("produce-" + codec, node -> ProduceScenarios.compressed(node, codec));
        }
        all.put("keys-and-headers", ProduceScenarios::keysAndHeaders);
        all.put("null-key-and-value", ProduceScenarios::nullKeyAndValue);
        all.put("idempotent-producer", ProduceScenarios::idempotent);
        all.put("record-at-size-limit", ProduceScenarios::atSizeLimit);
        all.put("record-over-size-limit", ProduceScenarios::overSizeLimit);
        all.put("consume-from-start", ConsumeScenarios::fromStart);
        all.put("consume-from-end", ConsumeScenarios::fromEnd);
        all.put("consume-from-offset", ConsumeScenarios::fromOffset);
        all.put("consume-from-timestamp", ConsumeScenarios::fromTimestamp);
        all.put("group-of-three", GroupScenarios::groupOfThree);
        all.put("cooperative-rebalance", GroupScenarios::cooperativeRebalance);
        all.put("static-membership", GroupScenarios::staticMembership);
        all.put("topic-create-describe-delete", AdminScenarios::topics);
        all.put("list-describe-delete-groups", AdminScenarios::groups);
        all.put("offsets-for-times", AdminScenarios::offsetsForTimes);
        all.put("delete-records", AdminScenarios::deleteRecords);
        all.put("describe-and-alter-configs", AdminScenarios::configs);
        all.put("alter-broker-config", BrokerConfigScenarios::alterBrokerConfig);
        all.put("update-features", BrokerConfigScenarios::updateFeatures);
        all.put("create-partitions", AdminScenarios::createPartitions);
        all.put("describe-cluster", AdminScenarios::describeCluster);
        all.put("delete-group-offsets", AdminScenarios::deleteGroupOffsets);
        all.put("client-quotas", QuotaScenarios::clientQuotas);
        if (TelemetryScenario.canRun()) {
            all.put("client-telemetry", TelemetryScenario::clientTelemetry);
        }
        return all;
    }

    public static void main(String[] arguments) {
        List<String> words = Arrays.asList(arguments);
        if (words.isEmpty()) {
            System.err.println("usage: Main BOOTSTRAP [FILTER | --before RUN | --after RUN]");
            System.exit(2);
        }
        Node node = new Node(words.get(0));
        Map<String, Scenario> chosen = new LinkedHashMap<>();
        if (words.size() == 3 && words.get(1).equals("--before")) {
            chosen.put("commit-and-resume-after-restart: before", n -> RestartScenario.before(n, words.get(2)));
        } else if (words.size() == 3 && words.get(1).equals("--after")) {
            chosen.put("commit-and-resume-after-restart", n -> RestartScenario.after(n, words.get(2)));
        } else {
            String filter = words.size() > 1 ? words.get(1) : "";
            scenarios().forEach((name, scenario) -> {
                if (name.contains(filter)) {
                    chosen.put(name, scenario);
                }
            });
        }
        boolean allPassed = true;
        for (Map.Entry<String, Scenario> entry : chosen.entrySet()) {
            allPassed &= passes(entry.getKey(), entry.getValue(), node);
        }
        // A scenario given up on may have left a thread behind.
        System.out.flush();
        Runtime.getRuntime().halt(allPassed ? 0 : 1);
    }

    private static boolean passes(String name, Scenario scenario, Node node) {
        FutureTask<Void> task = new FutureTask<>(() -> {
            scenario.run(node);
            return null;
        });
        Thread thread = new Thread(task, name);
        thread.setDaemon(true);
        thread.start();
        String reason;
        try {
            task.get(SCENARIO_SECONDS, TimeUnit.SECONDS);
            System.out.println("PASS " + name);
            return true;
        } catch (ExecutionException failed) {
            failed.getCause().printStackTrace();
            reason = describe(failed.getCause());
        } catch (TimeoutException stuck) {
            reason = "not done after " + SCENARIO_SECONDS + " s, stuck at "
                    + Arrays.stream(thread.getStackTrace())
                            .filter(frame -> frame.getClassName().startsWith("ottla.compat"))
                            .findFirst().map(Object::toString).orElse("an unknown place");
            thread.interrupt();
        } catch (InterruptedException interrupted) {
            reason = "interrupted";
        }
        System.out.println("FAIL " + name + ": " + reason);
        return false;
    }

    private static String describe(Throwable thrown) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = thrown; cause != null; cause = cause.getCause()) {
            boolean wrapper = cause instanceof ExecutionException;
            if (!wrapper) {
                text.append(text.length() == 0 ? "" : ", because of ")
                        .append(cause instanceof AssertionError ? "" : cause.getClass().getSimpleName() + ": ")
                        .append(String.valueOf(cause.getMessage()).replace('\n', ' '));
            }
        }
        return text.toString();
    }
}
