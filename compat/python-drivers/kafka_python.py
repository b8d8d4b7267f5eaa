"""The scenarios through kafka-python."""

import queue
import re
import sys
import threading
import time

from driver import DEADLINE_SECONDS, POLL_MS, START, Teller, drive, membership, producing, sent_as
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, NewTopic
from kafka.admin._configs import ConfigSourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.structs import OffsetAndMetadata

ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


class Stream(Teller, ConsumerRebalanceListener):
    """A consumer and the one thread that may use it."""

    def __init__(self, number, place, **settings):
        super().__init__(number)
        self.consumer = KafkaConsumer(
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            **{"group_id": None, **settings},
        )
        place(self)
        self.tasks = queue.Queue()
        self.ended = False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while not self.ended:
            try:
                polled = self.consumer.poll(POLL_MS)
            except Exception as error:
                self.tell_failed(error)
                polled = {}
            self.tell_records(polled)
            while not self.tasks.empty():
                self.tasks.get()()

    def ask(self, task):
        """Runs a task in the consumer's thread."""
        answers = queue.Queue()

        def attempt():
            try:
                answers.put((task(), None))
            except Exception as error:
                answers.put((None, error))

        self.tasks.put(attempt)
        value, error = answers.get(timeout=DEADLINE_SECONDS)
        if error is not None:
            raise error
        return value

    def close(self):
        def end():
            self.ended = True
            self.consumer.close()

        self.ask(end)


class Client:
    def __init__(self, bootstrap):
        self.settings = {"bootstrap_servers": bootstrap}
        self.admin = KafkaAdminClient(**self.settings)
        self.admin_lock = threading.Lock()
        self.streams = {}

    def answer(self, call, asked):
        if call in ("produce", "read", "join", "commit", "close"):
            return getattr(self, call)(**asked)
        with self.admin_lock:
            return getattr(self, call)(**asked)

    def produce(self, topic, how, records):
        producer = KafkaProducer(
            **self.settings,
            **producing(how),
            batch_size=512 if how["smallBatches"] else 16_384,
        )
        try:
            sent = [producer.send(topic, **sent_as(record)) for record in records]
            return [future.get(DEADLINE_SECONDS).offset for future in sent]
        finally:
            producer.close()

    def read(self, stream, topic, partition, **at):
        place = TopicPartition(topic, partition)

        def begin(reader):
            reader.consumer.assign([place])
            if at["from"] >= 0:
                reader.consumer.seek(place, at["from"])
            elif at["from"] == START:
                reader.consumer.seek_to_beginning(place)
            else:
                reader.consumer.seek_to_end(place)

        self.streams[stream] = Stream(stream, begin, **self.settings)

    def join(self, stream, topic, strategy, **asked):
        def begin(member):
            member.consumer.subscribe([topic], listener=member)
            # It joins again when it learns of partitions, and 3.0.12 drops what it is assigned then if a poll ends
            # meanwhile. So it learns of them before it joins.
            patiently(lambda: member.consumer.partitions_for_topic(topic))

        self.streams[stream] = Stream(
            stream,
            begin,
            **self.settings,
            **membership(**asked),
            partition_assignment_strategy=[ASSIGNORS[strategy]],
        )

    def commit(self, stream, topic, partition, offset, metadata):
        member = self.streams[stream]
        offsets = {TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata, -1)}
        member.ask(lambda: member.consumer.commit(offsets))

    def close(self, stream):
        self.streams.pop(stream).close()

    def createTopic(self, topic, partitions, configs):
        self.admin.create_topics([NewTopic(topic, partitions, -1, topic_configs=configs)])

    def createPartitions(self, topic, total):
        self.admin.create_partitions({topic: total})

    def deleteTopic(self, topic):
        self.admin.delete_topics([topic])

    def leaders(self, topic):
        [found] = self.admin.describe_topics([topic])
        refuse(found["error_code"])
        return [partition["leader_id"] for partition in found["partitions"]]

    def offset(self, topic, partition, at):
        place = TopicPartition(topic, partition)
        found = self.admin.list_partition_offsets({place: at})[place]
        return -1 if found is None or found.offset is None else found.offset

    def deleteRecords(self, topic, partition, before):
        place = TopicPartition(topic, partition)
        return self.admin.delete_records({place: before})[place]["low_watermark"]

    def groups(self):
        return [group["group_id"] for group in self.admin.list_groups()]

    def describeGroup(self, group):
        found = self.admin.describe_groups([group])[group]
        members = [
            {
                "clientId": member["client_id"],
                "partitions": [
                    partition
                    for topic in (member["member_assignment"] or {}).get("assigned_partitions", [])
                    for partition in topic["partitions"]
                ],
            }
            for member in found["members"]
        ]
        return {"state": found["group_state"], "strategy": found["protocol_data"], "members": members}

    def deleteGroup(self, group):
        answers = self.admin.delete_groups([group])
        refuse_named(answers[group])

    def deleteOffset(self, group, topic, partition):
        place = TopicPartition(topic, partition)
        refused = self.admin.delete_group_offsets(group, [place])[place]
        if refused is not errors.NoError:
            raise refused()

    def committed(self, group, topic, partition):
        found = self.admin.list_group_offsets(group)[group].get(TopicPartition(topic, partition))
        if found is None:
            return {"offset": -1, "metadata": ""}
        return {"offset": found.offset, "metadata": found.metadata}

    def describeConfigs(self, kind, name):
        resource = ConfigResource(ConfigResourceType[kind.upper()], name)
        entries = self.admin.describe_configs([resource], config_filter="all")[kind][name]
        return {
            key: {
                "value": str(entry["value"] or ""),
                "source": ConfigSourceType[entry["config_source"]].value,
                "readOnly": entry["read_only"],
            }
            for key, entry in entries.items()
        }

    def alterConfig(self, kind, name, key, value):
        change = (AlterConfigOp.DELETE, None) if value is None else (AlterConfigOp.SET, value)
        resource = ConfigResource(ConfigResourceType[kind.upper()], name, configs={key: change})
        answers = self.admin.alter_configs([resource], raise_on_unknown=False)
        refuse_named(answers[kind][name])

    def features(self):
        return {
            name: {"level": found.get("finalized", (0, 0))[1], "newest": found["supported"][1]}
            for name, found in self.admin.describe_features().items()
        }

    def updateFeature(self, feature, level):
        refuse_named(self.admin.update_features({feature: level})[feature])

    def describeCluster(self):
        cluster = self.admin.describe_cluster()
        return {
            "id": cluster["cluster_id"],
            "brokers": [broker.get("node_id", broker.get("broker_id")) for broker in cluster["brokers"]],
            "controller": cluster["controller_id"],
        }


def patiently(ask):
    """Asks again where the connection broke before there was an answer, or the broker could not say yet."""
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return ask()
        except errors.KafkaError as error:
            if not error.retriable or time.monotonic() > end:
                raise
            time.sleep(POLL_MS / 1_000)


def refuse_named(outcome):
    """Some answers are the name of an error's class, alone or among other words."""
    named = re.search(r"\w+Error", outcome)
    if named:
        raise getattr(errors, named[0])(outcome)


def refuse(code):
    if code:
        raise errors.for_code(code)()


if __name__ == "__main__":
    lacks = {"scenarios": ["client-quotas"], "nullHeader": True, "nullRecord": True, "allBrokers": True}
    drive(lacks, Client(sys.argv[1]).answer)
