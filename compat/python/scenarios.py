"""The compatibility scenarios through confluent-kafka, which is librdkafka.

    scenarios.py BOOTSTRAP [FILTER]
    scenarios.py BOOTSTRAP --before RUN      first half of commit-and-resume-after-restart
    scenarios.py BOOTSTRAP --after RUN       its second half, on the restarted node
"""

import faulthandler
import os
import queue
import subprocess
import sys
import threading
import time
import traceback

import admin_scenarios
import client
from client import (
    DEADLINE_SECONDS,
    FIRST_TIMESTAMP,
    POLL_SECONDS,
    Acknowledged,
    asked,
    check,
    consumer,
    create_topic,
    equal,
    filled,
    more,
    poll,
    read_all,
    take,
    unique,
    until,
)
from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic

# The default of message.max.bytes.
MESSAGE_MAX_BYTES = 1_048_588
# A batch header (61), then the lengths, attributes, deltas and counts of one record with a null key.
OVERHEAD_OF_ONE_LARGE_RECORD = 72
SCENARIO_SECONDS = 120
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


# What goes in comes out.


def produce_with(codec):
    topic = create_topic(f"produce-{codec}")
    values = [f"record {i} {'la' * (i % 200)}".encode() for i in range(2_000)]
    producer = Acknowledged(compression_type=codec, linger_ms=20)
    for value in values:
        producer.send(topic, value, partition=0)
    equal(list(range(2_000)), producer.finish(), "acknowledged offsets")
    taken = read_all(topic, 2_000)
    equal(values, [message.value() for message in taken], "values")
    equal(list(range(2_000)), [message.offset() for message in taken], "offsets")


def keys_and_headers():
    topic = create_topic("keys-and-headers")
    headers = [("trace", b"a"), ("trace", b"b"), ("none", None), ("empty", b"")]
    producer = Acknowledged()
    producer.send(topic, "värde".encode(), key="clé".encode(), headers=headers, timestamp=FIRST_TIMESTAMP, partition=0)
    producer.finish()
    message = read_all(topic, 1)[0]
    equal("clé".encode(), message.key(), "key")
    equal("värde".encode(), message.value(), "value")
    equal(headers, message.headers(), "headers")
    equal((TIMESTAMP_CREATE_TIME, FIRST_TIMESTAMP), message.timestamp(), "timestamp")


def null_key_and_value():
    topic = create_topic("null-key-and-value")
    producer = Acknowledged()
    producer.send(topic, None, partition=0)
    producer.send(topic, b"", key=b"", partition=0)
    producer.send(topic, None, key=b"tombstone", partition=0)
    producer.finish()
    taken = [(message.key(), message.value()) for message in read_all(topic, 3)]
    equal([(None, None), (b"", b""), (b"tombstone", None)], taken, "keys and values")


def idempotent_producer():
    topic = create_topic("idempotent-producer", 3)
    producer = Acknowledged(
        enable_idempotence=True, batch_num_messages=10, linger_ms=1, max_in_flight_requests_per_connection=5
    )
    for i in range(9_000):
        producer.send(topic, str(i // 3).encode(), partition=i % 3)
    producer.finish()
    for partition in range(3):
        values = [message.value() for message in read_all(topic, 3_000, partition)]
        equal([str(i).encode() for i in range(3_000)], values, f"values of partition {partition}")


def record_at_size_limit():
    topic = create_topic("record-at-size-limit")
    value = b"x" * (MESSAGE_MAX_BYTES - OVERHEAD_OF_ONE_LARGE_RECORD)
    producer = Acknowledged(message_max_bytes=2 * MESSAGE_MAX_BYTES)
    producer.send(topic, value, partition=0)
    producer.finish()
    check(value == read_all(topic, 1)[0].value(), "the large value came back changed")


def record_over_size_limit():
    topic = create_topic("record-over-size-limit")
    value = b"x" * (MESSAGE_MAX_BYTES - OVERHEAD_OF_ONE_LARGE_RECORD + 1)
    producer = Acknowledged(message_max_bytes=2 * MESSAGE_MAX_BYTES)
    producer.send(topic, value, partition=0)
    producer.flush()
    equal([KafkaError.MSG_SIZE_TOO_LARGE], [error.code() for error in producer.failures], "failures")
    producer.send(topic, b"small", partition=0)
    producer.flush()
    equal([b"small"], [message.value() for message in read_all(topic, 1)], "what is left")


# Where reading begins.


def reads(reader, first, end):
    taken = take(reader, end - first)
    equal(list(range(first, end)), [message.offset() for message in taken], "offsets")
    equal([str(i).encode() for i in range(first, end)], [message.value() for message in taken], "values")


def consume_from_start():
    topic = filled("consume-from-start")
    reader = consumer(auto_offset_reset="earliest")
    reader.assign([TopicPartition(topic, 0)])
    reads(reader, 0, 100)
    reader.close()


def consume_from_end():
    topic = filled("consume-from-end")
    reader = consumer(auto_offset_reset="latest", enable_partition_eof=True)
    place = TopicPartition(topic, 0)
    reader.assign([place])

    def at_end():
        message = reader.poll(POLL_SECONDS)
        check(message is None or message.error(), "a record from before the end was read")
        return message is not None and message.error().code() == KafkaError._PARTITION_EOF

    until("the end of the partition", at_end)
    more(topic, 100, 110)
    taken = []

    def ten():
        message = reader.poll(POLL_SECONDS)
        if message is not None and not message.error():
            taken.append(message.offset())
        return len(taken) >= 10

    until("the ten records produced after", ten)
    equal(list(range(100, 110)), taken, "offsets")
    reader.close()


def consume_from_offset():
    topic = filled("consume-from-offset")
    for first in [42, 7]:
        reader = consumer()
        reader.assign([TopicPartition(topic, 0, first)])
        reads(reader, first, 100)
        reader.close()
    # Out of range, so the policy decides.
    reader = consumer(auto_offset_reset="earliest")
    reader.assign([TopicPartition(topic, 0, 1_000)])
    reads(reader, 0, 100)
    reader.close()


def consume_from_timestamp():
    topic = filled("consume-from-timestamp")
    reader = consumer()

    def first_at(timestamp):
        place = TopicPartition(topic, 0, timestamp)
        found = asked(lambda: reader.offsets_for_times([place], timeout=DEADLINE_SECONDS))
        check(found[0].error is None, f"offsets_for_times: {found[0].error}")
        return found[0].offset

    equal(42, first_at(FIRST_TIMESTAMP + 41_001), "first offset at or after the timestamp")
    equal(0, first_at(0), "offset for the oldest timestamp")
    equal(-1, first_at(FIRST_TIMESTAMP + 100_000), "offset for a timestamp after the last record")
    reader.assign([TopicPartition(topic, 0, 42)])
    reads(reader, 42, 100)
    reader.close()


# Groups.

PARTITIONS = 6


class Member:
    """A consumer in a process of its own, so that it can be killed. It leaves when its standard input ends."""

    def __init__(self, topic, group, records):
        self.assignment = []
        self.records = records
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), client.bootstrap, "--member", topic, group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "assigned":
                self.assignment = [int(partition) for partition in rest.split(",") if partition]
            elif word == "record":
                self.records.put(rest)

    def leave(self):
        self.process.stdin.close()
        equal(0, self.process.wait(DEADLINE_SECONDS), "exit code of the member that left")

    def kill(self):
        self.process.kill()
        self.process.wait()


def run_member(topic, group):
    ended = threading.Event()

    def watch():
        sys.stdin.read()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()

    def told(_, partitions):
        print("assigned", ",".join(str(place.partition) for place in partitions), flush=True)

    reader = consumer(
        group_id=group, auto_offset_reset="earliest", session_timeout_ms=6_000, heartbeat_interval_ms=500
    )
    reader.subscribe([topic], on_assign=told, on_revoke=lambda _, __: print("assigned", flush=True))
    while not ended.is_set():
        message = poll(reader)
        if message is not None:
            print("record", message.value().decode(), flush=True)
            try:
                reader.commit(message)
            except KafkaException:
                # It moved: another member will read it again. At least once is what a group promises.
                pass
    reader.close()


def group_of_three():
    topic = create_topic("group-of-three", PARTITIONS)
    group = unique("group-of-three")
    records, seen = queue.Queue(), set()

    def settled(each):
        time.sleep(POLL_SECONDS)
        owned = sorted(partition for member in members for partition in member.assignment)
        return owned == list(range(PARTITIONS)) and all(len(member.assignment) == each for member in members)

    def saw_all(count):
        try:
            seen.add(int(records.get(timeout=POLL_SECONDS)))
        except queue.Empty:
            pass
        return seen.issuperset(range(count))

    def produce(first, end):
        producer = Acknowledged()
        for i in range(first, end):
            producer.send(topic, str(i).encode(), partition=i % PARTITIONS)
        producer.finish()

    members = [Member(topic, group, records) for _ in range(3)]
    try:
        until("three members with two partitions each", lambda: settled(2))
        produce(0, 300)
        until("all records of three members", lambda: saw_all(300))
        members.pop(0).leave()
        until("two members with three partitions each", lambda: settled(3))
        produce(300, 600)
        until("all records of two members", lambda: saw_all(600))
        members.pop(0).kill()
        produce(600, 900)
        until("one member with all partitions", lambda: settled(6))
        until("all records of the last member", lambda: saw_all(900))
        members[0].leave()
    finally:
        for member in members:
            member.kill()


def cooperative_rebalance():
    """KIP-429: a newcomer costs the old member only the partitions that really move."""
    topic = create_topic("cooperative-rebalance", 4)
    group = unique("cooperative-rebalance")

    class Ledger:
        def __init__(self):
            self.owned, self.ever_revoked = set(), set()
            self.reader = consumer(
                group_id=group,
                partition_assignment_strategy="cooperative-sticky",
                heartbeat_interval_ms=300,
                auto_offset_reset="earliest",
            )
            self.reader.subscribe([topic], on_assign=self.given, on_revoke=self.taken)

        def given(self, reader, places):
            self.owned |= {place.partition for place in places}

        def taken(self, reader, places):
            self.owned -= {place.partition for place in places}
            self.ever_revoked |= {place.partition for place in places}

    def polled(*ledgers):
        for ledger in ledgers:
            poll(ledger.reader)
        return [len(ledger.owned) for ledger in ledgers]

    first = Ledger()
    until("the first member to own all four", lambda: polled(first) == [4])
    second = Ledger()
    until("two partitions each", lambda: polled(first, second) == [2, 2])
    equal(second.owned, first.ever_revoked, "what the first member had to give up")
    check(not first.owned & second.owned, "a partition has two owners")
    second.reader.close()
    until("the first member to own all four again", lambda: polled(first) == [4])
    equal(2, len(first.ever_revoked), "partitions revoked from the first member when the second left")
    first.reader.close()


def static_membership():
    """KIP-345: a member with an instance id may restart without a rebalance, and only one may carry the id."""
    topic = create_topic("static-membership", 4)
    group = unique("static-membership")

    class Ledger:
        def __init__(self, instance):
            self.owned, self.calls = set(), 0
            self.reader = consumer(
                group_id=group,
                group_instance_id=instance,
                session_timeout_ms=30_000,
                heartbeat_interval_ms=300,
                auto_offset_reset="earliest",
            )
            self.reader.subscribe([topic], on_assign=self.given, on_revoke=self.taken)

        def given(self, reader, places):
            self.calls += 1
            self.owned = {place.partition for place in places}

        def taken(self, reader, places):
            self.calls += 1
            self.owned = set()

    def polled(*ledgers):
        for ledger in ledgers:
            poll(ledger.reader)
        return [len(ledger.owned) for ledger in ledgers]

    stays, restarts = Ledger("stays"), Ledger("restarts")
    until("two partitions each", lambda: polled(stays, restarts) == [2, 2])
    before, calls = set(restarts.owned), stays.calls
    restarts.reader.close()
    back = Ledger("restarts")
    until("the same partitions after the restart", lambda: polled(stays, back)[1] == 2 and back.owned == before)
    equal(calls, stays.calls, "rebalances seen by the member that stayed")

    usurper = Ledger("restarts")

    def fenced():
        poll(usurper.reader)
        poll(stays.reader)
        try:
            poll(back.reader)
        except KafkaException as ended:
            equal(KafkaError._FATAL, ended.args[0].code(), "error of the older holder of the id")
            return "fenced" in str(ended.args[0]).lower()
        return False

    until("the older holder of the id to be fenced", fenced)
    for ledger in [usurper, stays, back]:
        ledger.reader.close()


# Two halves with a restart of the node between them.


def restart_consumer(run):
    reader = consumer(group_id=f"restart-{run}", auto_offset_reset="earliest")
    reader.subscribe([f"restart-{run}"])
    return reader


def before_restart(run):
    topic = f"restart-{run}"
    admin = client.admin_client()
    client.done(
        KafkaError.TOPIC_ALREADY_EXISTS, lambda: client.answer(admin.create_topics([NewTopic(topic, 1)]))
    )
    more(topic, 0, 100)
    reader = restart_consumer(run)
    reads(reader, 0, 100)
    place = TopicPartition(topic, 0, 60, metadata="half way")
    asked(lambda: reader.commit(offsets=[place], asynchronous=False))
    reader.close()


def after_restart(run):
    topic = f"restart-{run}"
    reader = restart_consumer(run)
    reads(reader, 60, 100)
    place = TopicPartition(topic, 0)
    committed = asked(lambda: reader.committed([place], timeout=DEADLINE_SECONDS))[0]
    equal((60, "half way"), (committed.offset, committed.metadata), "committed offset and metadata")
    reader.close()
    producer = Acknowledged()
    producer.send(topic, b"after", partition=0)
    equal([100], producer.finish(), "next offset after the restart")


SCENARIOS = {
    **{f"produce-{codec}": lambda codec=codec: produce_with(codec) for codec in CODECS},
    "keys-and-headers": keys_and_headers,
    "null-key-and-value": null_key_and_value,
    "idempotent-producer": idempotent_producer,
    "record-at-size-limit": record_at_size_limit,
    "record-over-size-limit": record_over_size_limit,
    "consume-from-start": consume_from_start,
    "consume-from-end": consume_from_end,
    "consume-from-offset": consume_from_offset,
    "consume-from-timestamp": consume_from_timestamp,
    "group-of-three": group_of_three,
    "cooperative-rebalance": cooperative_rebalance,
    "static-membership": static_membership,
    **admin_scenarios.SCENARIOS,
}


def passes(name, scenario):
    reasons = []

    def attempt():
        try:
            scenario()
        except Exception as failure:  # Whatever it is, it is this scenario's failure and not the end of the run.
            traceback.print_exc()
            reasons.append(str(failure) if isinstance(failure, AssertionError) else repr(failure))

    attempting = threading.Thread(target=attempt, daemon=True)
    attempting.start()
    attempting.join(SCENARIO_SECONDS)
    if attempting.is_alive():
        faulthandler.dump_traceback()
        reasons.append(f"not done after {SCENARIO_SECONDS} s")
    if reasons:
        print(f"FAIL {name}: {reasons[0]}".replace("\n", " "), flush=True)
        return False
    print(f"PASS {name}", flush=True)
    return True


def main(arguments):
    if not arguments:
        sys.exit(__doc__)
    client.bootstrap, *rest = arguments
    match rest:
        case ["--member", topic, group]:
            run_member(topic, group)
            return 0
        case ["--before", run]:
            chosen = {"commit-and-resume-after-restart: before": lambda: before_restart(run)}
        case ["--after", run]:
            chosen = {"commit-and-resume-after-restart": lambda: after_restart(run)}
        case _:
            wanted = rest[0] if rest else ""
            chosen = {name: scenario for name, scenario in SCENARIOS.items() if wanted in name}
    results = [passes(name, scenario) for name, scenario in chosen.items()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
