package ottla.compat;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

/** Clients that are held to a rate. */
final class QuotaScenarios {
    private static final String KEY = "producer_byte_rate";
    /** A rate is measured over ten seconds at the least: what goes beyond ten seconds' worth is paid for in silence. */
    private static final double RATE = 10_000;
    private static final int RECORDS = 12;
    private static final int RECORD_SIZE = 10_000;

    private QuotaScenarios() {}

    /** KIP-546, and KIP-219: the client is told for how long to be silent. */
    static void clientQuotas(Node node) throws Exception {
        String topic = node.createTopic("client-quotas", 1);
        String client = Node.unique("client-quotas");
        try (Admin admin = node.admin()) {
            Check.equal(Map.of(), quotas(admin, client), "quotas before any is set");
            alter(admin, client, KEY, RATE);
            try {
                Check.until("the quota to be described", () -> quotas(admin, client).equals(Map.of(KEY, RATE)));
                Check.failsWith(InvalidRequestException.class, () -> {
                    alter(admin, client, "no_such_rate", RATE);
                    return "accepted";
                });
                Check.equal(0.0, throttled(node, Node.unique("other"), topic), "the silence of a client without a quota");
                double[] told = {0};
                Check.until("the client to be told to be silent", () -> {
                    told[0] = throttled(node, client, topic);
                    return told[0] > 0;
                });
                // What it sent at most, were all of it measured at once, and once more what was sent before the quota
                // counted.
                Check.that(told[0] < 2 * RECORDS * RECORD_SIZE / RATE * 1000, "told to be silent for " + told[0] + " ms");
            } finally {
                alter(admin, client, KEY, null);
            }
            Check.until("the quota to be gone", () -> quotas(admin, client).isEmpty());
            Check.until("the client to be free", () -> throttled(node, client, topic) == 0);
        }
    }

    private static Map<String, Double> quotas(Admin admin, String client) throws Exception {
        var named = ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, client);
        var found = Node.answer(admin.describeClientQuotas(ClientQuotaFilter.containsOnly(List.of(named))).entities());
        return found.getOrDefault(entity(client), Map.of());
    }

    private static void alter(Admin admin, String client, String key, Double value) throws Exception {
        var change = new ClientQuotaAlteration(entity(client), Set.of(new ClientQuotaAlteration.Op(key, value)));
        Node.answer(admin.alterClientQuotas(List.of(change)).all());
    }

    private static ClientQuotaEntity entity(String client) {
        return new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, client));
    }

    /** Produces, and answers the longest silence in milliseconds that the producer was told of. */
    private static double throttled(Node node, String client, String topic) throws Exception {
        // Batches of one record, so that each is answered.
        try (var producer = node.producer(Map.of("client.id", client, "batch.size", RECORD_SIZE))) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            var random = new Random();
            for (int i = 0; i < RECORDS; i++) {
                String value = random.ints(RECORD_SIZE, 'a', 'z').collect(
                        StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append).toString();
                sent.add(producer.send(new ProducerRecord<>(topic, value)));
            }
            Node.answers(sent);
            return producer.metrics().entrySet().stream()
                    .filter(metric -> metric.getKey().name().equals("produce-throttle-time-max"))
                    .map(metric -> (Double) metric.getValue().metricValue())
                    .filter(value -> !value.isNaN())
                    .findFirst().orElse(0.0);
        }
    }
}
