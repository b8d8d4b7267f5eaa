package ottla.compat;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.config.ConfigResource;

/** A client pushes what it measures (KIP-714), with its defaults, and whoever runs the node sees it. */
final class TelemetryScenario {
    /** Where each node tells its metrics; Apache Kafka shows what clients push to plug-ins only, and names no such place. */
    private static final String METRICS = System.getenv("METRICS_URLS");
    /** {@code CLIENT_METRICS}, which older versions of the library do not know. */
    private static final ConfigResource.Type SUBSCRIPTION = ConfigResource.Type.forId((byte) 16);

    /** A client whose node dies under a push is silent for five minutes, so that where nodes are killed others are asked. */
    private static final Duration ATTEMPT = Node.BROKERS > 1 ? Duration.ofSeconds(10) : Check.DEADLINE;

    private TelemetryScenario() {}

    static boolean canRun() {
        return METRICS != null && SUBSCRIPTION != ConfigResource.Type.UNKNOWN;
    }

    static void clientTelemetry(Node node) throws Exception {
        String topic = node.createTopic("client-telemetry", 1);
        String client = Node.unique("pushing");
        try (Admin admin = node.admin()) {
            var subscription = new ConfigResource(SUBSCRIPTION, client);
            Map<String, String> wanted = Map.of("metrics", "org.apache.kafka.", "interval.ms", "200", "match", "client_id=" + client);
            var changes = wanted.entrySet().stream().map(entry -> new AlterConfigOp(
                    new ConfigEntry(entry.getKey(), entry.getValue()), AlterConfigOp.OpType.SET)).toList();
            Node.answer(admin.incrementalAlterConfigs(Map.of(subscription, List.copyOf(changes))).all());
        }
        Check.until("the producer's connections and the consumer's polls", () -> push(node, topic, client));
        Check.until("both to be forgotten", () -> !seen(client, ""));
    }

    /** Whether a producer and a consumer were seen to push, within a time. */
    private static boolean push(Node node, String topic, String client) throws Exception {
        try (var producer = node.producer(Map.of("client.id", client)); var consumer = node.consumer(Map.of("client.id", client, "group.id", client))) {
            for (int n = 0; n < 10; n++) {
                Node.answer(producer.send(new ProducerRecord<>(topic, "value " + n)));
            }
            consumer.subscribe(List.of(topic));
            long end = System.nanoTime() + ATTEMPT.toNanos();
            boolean connections = false;
            boolean polls = false;
            while (!(connections && polls) && System.nanoTime() < end) {
                connections |= seen(client, "org_apache_kafka_producer_connection_creation_total");
                consumer.poll(Node.POLL);
                polls |= seen(client, "org_apache_kafka_consumer_");
            }
            return connections && polls;
        }
    }

    /** Whether a metric with such a name is told of the client. */
    private static boolean seen(String client, String name) throws Exception {
        StringBuilder pages = new StringBuilder();
        for (String url : METRICS.split(" ")) {
            var request = HttpRequest.newBuilder(URI.create(url)).build();
            try {
                pages.append(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
            } catch (java.io.IOException down) {
                Check.that(Node.BROKERS > 1, "the node does not tell its metrics");
            }
        }
        return pages.toString().lines().anyMatch(line -> line.startsWith(name) && line.contains("client_id=\"" + client + "\"")
                && line.contains("client_software_name=\"apache-kafka-java\""));
    }
}
