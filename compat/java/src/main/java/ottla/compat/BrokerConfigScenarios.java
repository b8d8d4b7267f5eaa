package ottla.compat;

import static org.apache.kafka.clients.admin.AlterConfigOp.OpType.DELETE;
import static org.apache.kafka.clients.admin.AlterConfigOp.OpType.SET;

import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.InvalidUpdateVersionException;
import org.apache.kafka.common.errors.RecordTooLargeException;

/** What an operator changes while brokers run. */
final class BrokerConfigScenarios {
    private static final String KEY = "message.max.bytes";
    /** The default of all brokers. */
    private static final ConfigResource ALL = new ConfigResource(ConfigResource.Type.BROKER, "");

    private BrokerConfigScenarios() {}

    static void alterBrokerConfig(Node node) throws Exception {
        String name = node.createTopic("alter-broker-config", 1);
        var topic = new ConfigResource(ConfigResource.Type.TOPIC, name);
        try (Admin admin = node.admin()) {
            var brokers = Node.brokers(admin).stream().map(id -> new ConfigResource(ConfigResource.Type.BROKER, id)).toList();
            var broker = brokers.get(0);
            ConfigEntry before = describe(admin, broker).get(KEY);
            Check.that(!before.isReadOnly(), KEY + " is read-only");
            Check.that(describe(admin, broker).get("node.id").isReadOnly(), "node.id is not read-only");
            Check.that(describe(admin, broker).get("ssl.key.password").isSensitive(), "a password is not sensitive");

            alter(admin, ALL, SET, KEY, "3000");
            Check.until("the value of all brokers", () -> is(admin, broker, KEY, "3000", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG));
            // Any broker answers, also one that has not heard yet.
            Check.until("it is described for all brokers", () ->
                    is(admin, ALL, KEY, "3000", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG));
            for (var each : brokers) {
                alter(admin, each, SET, KEY, "2000");
                Check.until("the broker's own value", () -> is(admin, each, KEY, "2000", ConfigSource.DYNAMIC_BROKER_CONFIG));
            }
            Check.until("the topic to follow", () ->
                    is(admin, topic, "max.message.bytes", "2000", ConfigSource.DYNAMIC_BROKER_CONFIG));
            var sources = describe(admin, broker).get(KEY).synonyms().stream().map(ConfigEntry.ConfigSynonym::source).toList();
            Check.equal(List.of(ConfigSource.DYNAMIC_BROKER_CONFIG, ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG), sources.subList(0, 2),
                    "where the values come from, the strongest first");
            try (var producer = node.producer(Map.of())) {
                Check.failsWith(RecordTooLargeException.class, () ->
                        Node.answer(producer.send(new ProducerRecord<>(name, 0, null, "x".repeat(4_000)))));
            }

            refused(admin, broker, "log.dirs", "/tmp");
            refused(admin, ALL, "listeners", "PLAINTEXT://:9092");
            refused(admin, broker, KEY, "many");

            for (var each : brokers) {
                alter(admin, each, DELETE, KEY, "");
            }
            alter(admin, ALL, DELETE, KEY, "");
            Check.until("the value before", () -> is(admin, topic, "max.message.bytes", before.value(), before.source()));
            Check.until("it is described for all brokers no more", () -> describe(admin, ALL).get(KEY) == null);
        }
    }

    static void updateFeatures(Node node) throws Exception {
        String feature = "metadata.version";
        try (Admin admin = node.admin()) {
            var features = Node.answer(admin.describeFeatures().featureMetadata());
            short level = features.finalizedFeatures().get(feature).maxVersionLevel();
            short newest = features.supportedFeatures().get(feature).maxVersion();
            Check.that(level <= newest, "the level is beyond what is supported");
            var only = new UpdateFeaturesOptions().validateOnly(true);
            Node.answer(admin.updateFeatures(Map.of(feature, upgrade(level)), only).all());
            Check.failsWith(InvalidUpdateVersionException.class, () ->
                    Node.answer(admin.updateFeatures(Map.of(feature, upgrade(newest + 1)), only).all()));
            Check.failsWith(InvalidUpdateVersionException.class, () ->
                    Node.answer(admin.updateFeatures(Map.of("no.such.feature", upgrade(1)), only).all()));
            var after = Node.answer(admin.describeFeatures().featureMetadata());
            Check.equal(features.finalizedFeatures(), after.finalizedFeatures(), "levels after nothing was changed");
        }
    }

    private static FeatureUpdate upgrade(int level) {
        return new FeatureUpdate((short) level, FeatureUpdate.UpgradeType.UPGRADE);
    }

    private static Config describe(Admin admin, ConfigResource resource) throws Exception {
        var options = new DescribeConfigsOptions().includeSynonyms(true);
        return Node.answer(admin.describeConfigs(List.of(resource), options).all()).get(resource);
    }

    private static boolean is(Admin admin, ConfigResource resource, String key, String value, ConfigSource source)
            throws Exception {
        ConfigEntry entry = describe(admin, resource).get(key);
        return entry != null && entry.value().equals(value) && entry.source() == source;
    }

    private static void alter(Admin admin, ConfigResource resource, AlterConfigOp.OpType type, String key, String value)
            throws Exception {
        var change = new AlterConfigOp(new ConfigEntry(key, value), type);
        Node.answer(admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all());
    }

    private static void refused(Admin admin, ConfigResource resource, String key, String value) throws Exception {
        Check.failsWith(InvalidRequestException.class, () -> {
            alter(admin, resource, SET, key, value);
            return "accepted";
        });
    }
}
