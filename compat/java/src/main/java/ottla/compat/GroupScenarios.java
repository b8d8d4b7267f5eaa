package ottla.compat;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Members that come, go, die and come back. */
final class GroupScenarios {
    private static final int PARTITIONS = 6;

    private GroupScenarios() {}

    static void groupOfThree(Node node) throws Exception {
        String topic = node.createTopic("group-of-three", PARTITIONS);
        String group = Node.unique("group-of-three");
        var records = new ConcurrentLinkedQueue<String>();
        List<GroupMember> members = new ArrayList<>();
        try {
            for (int i = 0; i < 3; i++) {
                members.add(GroupMember.start(node, topic, group, records));
            }
            Check.until("three members with two partitions each", () ->
                    ownAll(members) && members.stream().allMatch(member -> member.assignment().size() == 2));
            produce(node, topic, 0, 300);
            Check.until("all records of three members", () -> sawAll(records, 300));

            members.remove(0).leave();
            Check.until("two members with three partitions each", () ->
                    ownAll(members) && members.stream().allMatch(member -> member.assignment().size() == 3));
            produce(node, topic, 300, 600);
            Check.until("all records of two members", () -> sawAll(records, 600));

            members.remove(0).kill();
            produce(node, topic, 600, 900);
            Check.until("one member with all partitions", () -> ownAll(members));
            Check.until("all records of the last member", () -> sawAll(records, 900));
            members.get(0).leave();
        } finally {
            for (GroupMember member : members) {
                member.kill();
            }
        }
    }

    private static void produce(Node node, String topic, int from, int to) throws Exception {
        try (var producer = node.producer(Map.of())) {
            for (int i = from; i < to; i++) {
                producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, String.valueOf(i)));
            }
        }
    }

    /** Each partition has exactly one owner. */
    private static boolean ownAll(List<GroupMember> members) {
        List<Integer> owned = members.stream().flatMap(member -> member.assignment().stream()).sorted().toList();
        return owned.equals(IntStream.range(0, PARTITIONS).boxed().toList());
    }

    private static boolean sawAll(Collection<String> records, int count) {
        Set<String> seen = new HashSet<>(records);
        return IntStream.range(0, count).mapToObj(String::valueOf).allMatch(seen::contains);
    }

    /** Remembers what its consumer was given and what was taken from it. */
    private static final class Ledger implements ConsumerRebalanceListener {
        final Set<Integer> owned = new TreeSet<>();
        final Set<Integer> everRevoked = new TreeSet<>();
        int calls;

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            calls++;
            partitions.forEach(partition -> owned.add(partition.partition()));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            calls++;
            partitions.forEach(partition -> {
                owned.remove(partition.partition());
                everRevoked.add(partition.partition());
            });
        }
    }

    /** KIP-429: a newcomer costs the old member only the partitions that really move. */
    static void cooperativeRebalance(Node node) throws Exception {
        String topic = node.createTopic("cooperative-rebalance", 4);
        Map<String, Object> settings = Map.of(
                "group.id", Node.unique("cooperative-rebalance"),
                "partition.assignment.strategy", CooperativeStickyAssignor.class.getName(),
                "heartbeat.interval.ms", 300,
                "auto.offset.reset", "earliest");
        Ledger first = new Ledger();
        Ledger second = new Ledger();
        try (var one = node.consumer(settings); var two = node.consumer(settings)) {
            one.subscribe(List.of(topic), first);
            Check.until("the first member to own all four", () -> {
                one.poll(Node.POLL);
                return first.owned.size() == 4;
            });
            two.subscribe(List.of(topic), second);
            Check.until("two partitions each", () -> {
                one.poll(Node.POLL);
                two.poll(Node.POLL);
                return first.owned.size() == 2 && second.owned.size() == 2;
            });
            Check.equal(second.owned, first.everRevoked, "what the first member had to give up");
            Check.equal(Set.of(), second.everRevoked, "what the newcomer had to give up");
            Check.that(second.owned.stream().noneMatch(first.owned::contains), "a partition has two owners");

            two.close();
            Check.until("the first member to own all four again", () -> {
                one.poll(Node.POLL);
                return first.owned.size() == 4;
            });
            Check.equal(2, first.everRevoked.size(), "partitions revoked from the first member when the second left");
        }
    }

    /** KIP-345: a member with an instance id may restart without a rebalance, and only one may carry the id. */
    static void staticMembership(Node node) throws Exception {
        String topic = node.createTopic("static-membership", 4);
        Map<String, Object> settings = new HashMap<>(Map.of(
                "group.id", Node.unique("static-membership"),
                "session.timeout.ms", 30_000,
                "heartbeat.interval.ms", 300,
                "auto.offset.reset", "earliest"));
        Ledger stays = new Ledger();
        Ledger leaves = new Ledger();
        settings.put("group.instance.id", "stays");
        try (var one = node.consumer(settings)) {
            settings.put("group.instance.id", "restarts");
            var two = node.consumer(settings);
            one.subscribe(List.of(topic), stays);
            two.subscribe(List.of(topic), leaves);
            Check.until("two partitions each", () -> {
                one.poll(Node.POLL);
                two.poll(Node.POLL);
                return stays.owned.size() == 2 && leaves.owned.size() == 2;
            });
            Set<Integer> before = Set.copyOf(leaves.owned);
            int calls = stays.calls;
            two.close();

            Ledger back = new Ledger();
            try (var again = node.consumer(settings)) {
                again.subscribe(List.of(topic), back);
                Check.until("the same partitions after the restart", () -> {
                    one.poll(Node.POLL);
                    again.poll(Node.POLL);
                    return back.owned.equals(before);
                });
                Check.equal(calls, stays.calls, "rebalances seen by the member that stayed");

                Ledger usurper = new Ledger();
                try (var third = node.consumer(settings)) {
                    third.subscribe(List.of(topic), usurper);
                    Check.failsWith(FencedInstanceIdException.class, () -> {
                        Check.until("the older holder of the id to be fenced", () -> {
                            third.poll(Node.POLL);
                            again.poll(Node.POLL);
                            one.poll(Node.POLL);
                            return false;
                        });
                        return null;
                    });
                }
            }
        }
    }

    /** For scenarios that need a group to look at: reads everything, commits, stays a member until closed. */
    static KafkaConsumer<String, String> member(Node node, String topic, String group, int records) throws Exception {
        var consumer = node.consumer(Map.of(
                "group.id", group, "client.id", "watched", "auto.offset.reset", "earliest", "enable.auto.commit", false));
        consumer.subscribe(List.of(topic));
        Node.take(consumer, records);
        consumer.commitSync();
        return consumer;
    }
}
